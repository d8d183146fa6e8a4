"""What is public for users' tests."""

from __future__ import annotations

import pytest

from memograd.testing import FakeClock


def test_a_fake_clock_stands_still_until_it_is_told():
    clock = FakeClock(10.0)
    assert (clock(), clock()) == (10.0, 10.0)
    clock.advance(0.5)
    assert clock() == 10.5


def test_a_fake_clock_does_not_run_backwards():
    clock = FakeClock()
    with pytest.raises(ValueError, match=r"advance\(\) got -1, expected 0 or more"):
        clock.advance(-1)
    assert clock() == 0
