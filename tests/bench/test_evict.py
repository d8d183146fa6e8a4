"""bench/evict.py, in its smoke run, and the policies that it compares."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from tests.bench.scripts import asked, written

POLICIES = ["Lru", "TinyLfu", "Hyperbolic", "GdsfEager", "Gdsf"]


@pytest.fixture
def p(bench_importable):
    return import_module("harness.policies")


@pytest.fixture
def t(bench_importable):
    return import_module("harness.traces")


def test_the_smoke_run_has_every_line_and_says_what_was_asked_for(tmp_path):
    printed, result = written("evict.py", tmp_path / "figures.json")
    calls, chains = (result["figures"][name]["lines"] for name in ("calls", "chains"))
    assert (len(calls), len(chains)) == (3, 1)
    assert all(asked(line) <= {"÷ LRU"} for line in [*calls, *chains])
    assert "seconds saved within the same bytes" in printed


@pytest.mark.parametrize("policy", POLICIES)
def test_no_policy_saves_more_than_is_possible_nor_holds_more_than_there_is_room_for(policy, p, t):
    trace = t.calls(3_000, 400, seed=1)
    room = int(trace.nbytes.sum() // 20)
    _, most = p.saved_with_foresight(trace, room)
    assert 0 < p.saved(getattr(p, policy), trace, room) <= most


@pytest.mark.parametrize("policy", POLICIES)
def test_with_room_for_all_every_repeat_is_saved(policy, p, t):
    trace = t.calls(2_000, 100, seed=2)
    first = trace.seconds[np.unique(trace.asked)].sum()
    repeats = 1 - first / trace.seconds[trace.asked].sum()
    assert p.saved(getattr(p, policy), trace, int(200 * trace.nbytes.sum())) == pytest.approx(repeats)


def test_foresight_lies_between_its_bounds_and_above_every_policy(p, t):
    trace = t.calls(5_000, 500, seed=3)
    room = int(trace.nbytes.sum() // 50)
    below, above = p.saved_with_foresight(trace, room)
    assert max(p.saved(getattr(p, policy), trace, room) for policy in POLICIES) < below <= above < 1


def test_a_trace_is_the_same_every_time(t):
    assert np.array_equal(t.calls(1_000, 100, seed=4).asked, t.calls(1_000, 100, seed=4).asked)
    assert np.array_equal(t.chains(100, 10, seed=4).seconds, t.chains(100, 10, seed=4).seconds)


def test_costs_span_six_orders_of_magnitude_and_sizes_four(t):
    trace = t.calls(10, 20_000, seed=0)
    assert np.ptp(np.log10(np.quantile(trace.seconds, [0.0015, 0.9985]))) == pytest.approx(6, abs=0.3)
    assert np.ptp(np.log10(np.quantile(trace.nbytes, [0.0015, 0.9985]))) == pytest.approx(4, abs=0.3)


def test_along_chains_what_is_left_of_a_prefix_counts(p, t):
    trace = t.chains(2_000, 50, seed=5)
    room = int(trace.nbytes.sum() // 20)
    assert p.saved_along_chains(p.GdsfChained, trace, room) > p.saved_along_chains(p.Lru, trace, room)
