"""Chance without a trace."""

from __future__ import annotations

import random

from memograd._dice import Dice


def test_throws_are_even_and_leave_the_program_s_streams_alone():
    before = random.getstate()
    dice = Dice(3)
    seen = [dice.below(10) for _ in range(20_000)]
    assert random.getstate() == before
    assert min(seen) >= 0
    assert max(seen) < 10
    assert all(0.09 < sum(int(draw) == digit for draw in seen) / len(seen) < 0.11 for digit in range(10))


def test_two_seeds_give_two_streams_and_one_seed_gives_one():
    first, again, other = (Dice(seed) for seed in (1, 1, 2))
    throws = [[dice.below(1) for _ in range(10)] for dice in (first, again, other)]
    assert throws[0] == throws[1]
    assert not set(throws[0]) & set(throws[2])
