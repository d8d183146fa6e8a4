"""It pays or it steps aside: the account of seconds, before a clock that stands still until it is told to move."""

from __future__ import annotations

import math
import random
import threading
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.threads import together

from memograd._pays import DROUGHT, GRACE, LEAST, SHARE, WAITS, Door, Pays
from memograd.testing import FakeClock

pytestmark = pytest.mark.account


class Cost(NamedTuple):
    """What a call takes, in seconds."""

    compute: float = 1e-3
    key: float = 1e-4
    lookup: float = 0.0
    put: float = 0.0


class Program:
    """A program that does nothing but call one function, and notes where its time goes."""

    def __init__(self, sampled=False, **options):
        self.pays = Pays(**options)
        self.clock = FakeClock()
        self.sampled = sampled
        self.remembered = set()
        self.said = []
        self.computed = self.overhead = self.saved = self.wished = self.dearest = 0.0
        self.plain = self.hits = self.calls = 0

    def call(self, cost, digest):
        pays = self.pays
        self.calls += 1
        if pays.off and pays.skips(self.clock, "main"):
            self.compute(cost.compute)
            pays.left("main")
            self.plain += 1
            return
        told = not self.sampled or pays.timed()
        self.spend(cost.key + cost.lookup, cost)
        if digest in self.remembered:
            self.saved += cost.compute
            self.hits += 1
            reason = pays.hit(cost.key, cost.lookup, cost.compute) if told else ""
        else:
            again = pays.door and pays.sees(digest)
            stores = again or not pays.door
            self.compute(cost.compute)
            if stores:
                self.remembered.add(digest)
                self.spend(cost.put, cost)
            self.wished += cost.compute if again else 0.0
            put = cost.put if stores else 0.0
            reason = pays.missed(cost.key, cost.lookup, put, cost.compute, again=again) if told else ""
        if reason:
            self.said.append((pays.level, reason))

    def run(self, cost, calls, digest=None):
        for _ in range(calls):
            self.call(cost, self.calls if digest is None else digest())
        return self

    def compute(self, seconds):
        self.clock.advance(seconds)
        self.computed += seconds

    def spend(self, seconds, cost):
        self.clock.advance(seconds)
        self.overhead += seconds
        self.dearest = max(self.dearest, cost.key + cost.lookup + cost.put)

    @property
    def levels(self):
        return [level for level, _ in self.said]


def cycle(length):
    digests = iter(range(1, 10**9))
    return lambda: next(digests) % length + 10**9


seconds = st.one_of(st.just(0.0), st.floats(1e-7, 10.0), st.floats(1e-6, 1e-3))
costs = st.builds(Cost, seconds, seconds, seconds, seconds)
streams = st.lists(st.tuples(costs, st.integers(1, 400)), min_size=1, max_size=8)


@given(streams, st.booleans())
@example([(Cost(10.0, 1e-7), 3), (Cost(0.0, 1.0), 400), (Cost(1e-6, 0.5), 400)], True)
@example([(Cost(1e-3, 1e-4), 400)] * 8, False)
@settings(deadline=None, max_examples=150)
def test_whatever_calls_without_hits_are_like_they_cost_3_percent_and_a_constant(stream, lasting):
    """At every moment, not only in the end. The constant: a grace, one call's time, the dearest calls of two levels."""
    program = Program(lasting=lasting)
    first = next((cost.compute for cost, _ in stream if cost.compute), 0.0)
    for cost, calls in stream:
        for _ in range(calls):
            program.run(cost, 1)
            bound = SHARE * program.computed + GRACE + first + 2 * LEAST * program.dearest
            assert program.overhead <= bound * (1 + 1e-9)


@given(streams, st.lists(st.integers(1, 60), min_size=8, max_size=8), st.booleans())
@settings(deadline=None, max_examples=150)
def test_with_hits_calls_cost_besides_at_most_what_hits_saved_or_would_have(stream, lengths, lasting):
    program = Program(lasting=lasting)
    first = next((cost.compute for cost, _ in stream if cost.compute), 0.0)
    for (cost, calls), length in zip(stream, lengths, strict=False):
        program.run(cost, calls, cycle(length))
        earned = SHARE * program.computed + program.saved + program.wished
        assert program.overhead <= (earned + GRACE + first + 2 * LEAST * program.dearest) * (1 + 1e-9)


@pytest.mark.parametrize("key", [4e-5, 1e-4, 1e-3, 1e-2])
def test_a_function_of_a_millisecond_that_never_hits_costs_far_less_than_3_percent_after_the_step_aside(key):
    program = Program().run(Cost(1e-3, key), 20_000)
    assert program.pays.off or program.pays.probing
    assert program.levels == ["door", "off"]
    before = program.overhead, program.computed
    program.run(Cost(1e-3, key), 50_000)
    assert (program.overhead - before[0]) / (program.computed - before[1]) < 0.02
    assert program.levels == ["door", "off"]


def test_a_function_whose_keys_cost_less_than_3_percent_stays_on():
    program = Program().run(Cost(1e-3, 2e-5, 2e-6, 5e-6), 50_000)
    assert program.pays.level == "on"
    assert program.said == []


@pytest.mark.parametrize(("lasting", "level"), [(False, "door"), (True, "on")])
def test_results_that_nobody_asks_for_are_evidence_only_where_the_store_dies_with_the_process(lasting, level):
    cheap = Cost(1e-3, 1e-5, 0.0, 1e-6)
    program = Program(lasting=lasting).run(cheap, DROUGHT - 1)
    assert program.pays.level == "on"
    assert program.run(cheap, 2).pays.level == level


def test_a_hit_now_and_then_is_evidence_enough_to_keep_cheap_results():
    program = Program()
    for _ in range(DROUGHT // 10_000 + 2):
        program.run(Cost(1e-3, 1e-5), 10_000).run(Cost(1e-3, 1e-5), 2, lambda: -1)
    assert (program.pays.level, program.said) == ("on", [])


def test_a_hit_in_a_hundred_keeps_a_function_of_seconds_on():
    """Between two hits it loses more than the grace; each saves a second."""
    program = Program()
    for _ in range(100):
        program.run(Cost(1.0, 0.032), 99).run(Cost(1.0, 0.032), 1, lambda: -1)
    assert (program.hits, program.said) == (99, [])


def test_where_only_the_put_is_dear_keys_go_on_and_values_are_stored_at_second_sight():
    dear = Cost(1e-3, 1e-5, 0.0, 1e-3)
    program = Program().run(dear, 20_000)
    assert program.levels == ["door"]
    stored = len(program.remembered)
    program.run(dear, 1, lambda: -1)
    assert len(program.remembered) == stored
    program.run(dear, 1, lambda: -1)
    assert len(program.remembered) == stored + 1
    assert program.run(dear, 1, lambda: -1).hits == 1


@pytest.mark.parametrize("key", [5e-5, 2e-4, 5e-4])
@pytest.mark.parametrize("drought", [6_000, 100_000])
@pytest.mark.parametrize("length", [1, 7])
def test_a_function_that_begins_to_hit_after_a_time_without_is_found_again(key, drought, length):
    cost = Cost(1e-3, key)
    program = Program().run(cost, drought)
    assert program.levels == ["door", "off"]
    repeats = cycle(length)
    program.run(cost, 2 * WAITS[1], repeats)
    assert program.hits > 0
    hits, calls = program.hits, program.calls
    program.run(cost, 1_000, repeats)
    assert program.hits - hits == program.calls - calls
    assert program.levels[2:] in (["door"], ["on"], ["door", "on"])


def test_a_second_pass_over_data_that_was_seen_at_the_door_turns_it_on():
    cost = Cost(1e-2, 2e-4, 0.0, 5e-4)
    program = Program().run(cost, 3_000, cycle(3_000))
    assert program.pays.level == "door"
    program.run(cost, 3_000, cycle(3_000))
    assert program.pays.level == "on"


@pytest.mark.parametrize("rate", [0.0, 0.005, 0.02, 0.05, 0.2, 0.9])
@pytest.mark.parametrize("key", [2e-5, 3e-5, 4e-5, 1e-4, 5e-4, 2e-3])
def test_a_steady_stream_changes_the_level_a_few_times_and_no_more(rate, key):
    draw = random.Random(f"{rate} {key}")
    program = Program()
    noise = [draw.lognormvariate(0, 0.7) for _ in range(997)]

    def digest():
        return draw.randrange(5) if draw.random() < rate else program.calls + 1000

    for index in range(30_000):
        factor = noise[index % len(noise)]
        program.call(Cost(1e-3 * factor, key / factor, 0.0, key / 4), digest())
    assert len(program.said) <= 8, program.said


def test_a_few_terrible_calls_decide_nothing():
    program = Program().run(Cost(1e-3, 5.0), LEAST - 1)
    assert program.pays.level == "on"
    assert program.run(Cost(1e-3, 5.0), 1).pays.level == "door"


def test_hits_that_cost_more_than_they_save_do_not_pay():
    program = Program().run(Cost(1e-4, 1e-3), 5_000, cycle(1))
    assert program.hits > 0
    assert program.plain > 4_500


def test_hits_alone_from_a_store_that_was_filled_by_another_process_keep_it_on():
    pays = Pays(lasting=True)
    for _ in range(10_000):
        assert pays.hit(1e-4, 1e-3) == ""
    assert pays.level == "on"
    pays.missed(1e-4, 1e-3, 0.0, 1e-5)
    while not pays.off:
        pays.hit(1e-4, 1e-3)


def test_always_means_always():
    program = Program(always=True).run(Cost(1e-6, 1e-2), 5_000)
    assert (program.pays.level, program.plain, program.said) == ("on", 0, [])


def turned_off(**options):
    program = Program(**options)
    while not program.pays.off:
        program.run(Cost(), 1)
    return program


def test_a_function_that_calls_itself_is_never_called_plainly_inside_itself():
    pays = turned_off().pays
    assert pays.skips(lambda: 0.0, "thread")
    assert not pays.skips(lambda: 0.0, "thread")
    assert (pays.level, pays.always) == ("on", True)


def test_two_threads_in_a_plain_call_are_no_recursion():
    pays = turned_off().pays
    both = threading.Barrier(2)
    skipped = []

    def call():
        me = threading.get_ident()
        skipped.append(pays.skips(lambda: 0.0, me))
        both.wait(10)
        pays.left(me)

    together(call, call)
    assert skipped == [True, True]
    assert (pays.level, pays.within) == ("off", set())


def test_while_off_the_clock_is_read_once_in_many_calls():
    program = turned_off()
    program.pays.wait = 1_000
    read = []

    def clock():
        read.append(1)
        return program.clock()

    skips = [program.pays.skips(clock, index) for index in range(900)]
    assert all(skips)
    assert len(read) <= 2


def test_each_look_in_vain_doubles_the_wait_up_to_a_bound():
    program = Program().run(Cost(1e-3, 1e-4), 200_000)
    assert program.pays.wait == WAITS[1]
    looked = program.calls - program.plain
    assert looked < 200_000 * 0.02


def test_sampled_calls_stand_for_those_between_them():
    """One in eight is told; what is counted comes to what was spent."""
    program = Program(sampled=True)
    draw = random.Random(7)
    for index in range(40_000):
        program.call(Cost(draw.expovariate(1e3), 1e-5, 1e-6, 2e-6), 10**6 + index)
    pays = program.pays
    assert pays.level == "on"
    assert math.isclose(pays.key + pays.lookup + pays.put, program.overhead, rel_tol=0.05)
    assert math.isclose(pays.compute, program.computed, rel_tol=0.05)


def test_one_call_in_eight_is_timed_while_the_account_is_full_and_each_while_it_is_not():
    pays = Pays()
    timed = []
    for _ in range(20_000):
        timed.append(pays.timed())
        if timed[-1]:
            pays.missed(1e-6, 0.0, 0.0, 1e-3)
    assert 0.1 < sum(timed[100:]) / len(timed[100:]) < 0.15
    while pays.timed():
        pays.missed(1e-6, 0.0, 0.0, 1e-3)
    while not pays.timed():
        pass
    pays.missed(5e-3, 0.0, 0.0, 1e-3)
    assert [pays.timed() for _ in range(20)] == [True] * 20


def test_clearing_begins_anew():
    program = turned_off()
    program.pays.reset()
    assert (program.pays.level, program.pays.credit, program.pays.compute) == ("on", GRACE, 0.0)


def test_the_message_says_what_it_costs():
    program = Program().run(Cost(1e-3, 1e-4), 5_000)
    _, reason = program.said[-1]
    assert reason.startswith("keys and store cost 10% of what was computed")


class TestDoor:
    """The table of digests that were seen lately."""

    def test_the_second_sight_is_known(self):
        door = Door()
        digests = [0, 2, -1, 2**63, 2**64 - 2, hash("x")]
        assert [door.sees(digest) for digest in digests] == [False] * len(digests)
        assert [door.sees(digest) for digest in digests] == [True] * len(digests)

    def test_a_new_digest_takes_the_place_of_an_old_one_and_the_table_does_not_grow(self):
        door = Door(slots=8)
        assert not any(door.sees(digest) for digest in range(1, 100))
        assert len(door.table) == 8
        assert sum(door.sees(digest) for digest in range(92, 100)) == 8

    @given(st.lists(st.integers(-(2**63), 2**63 - 1), unique_by=lambda digest: digest % 2**64 or 1, max_size=50))
    def test_a_digest_that_was_not_seen_is_never_taken_for_one_that_was(self, digests):
        door = Door(slots=4)
        assert not any(door.sees(digest) for digest in digests)
