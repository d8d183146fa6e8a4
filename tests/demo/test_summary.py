"""From single training steps to the figures of the table."""

from __future__ import annotations

import pytest

from memograd._demo._race import Tick
from memograd._demo._summary import summarize


def tick(who="plain", at=(1, 0), loss=1.0, seconds=1.0, computed=100):
    return Tick(who, *at, loss, seconds, words=10, steps=100, computed=computed)


def pair(at=(1, 0), loss=1.0, other=1.0, seconds=6.0, fewer=1.0):
    return [tick("plain", at, loss, seconds), tick("memoized", at, other, fewer, computed=50)]


def test_nothing_is_summarized_before_both_have_seen_a_batch():
    assert summarize([]) is None
    assert summarize([tick("plain")]) is None
    assert summarize([tick("memoized")]) is None


def test_the_speed_up_is_sharing_times_engine_and_the_sharing_is_measured():
    summary = summarize([*pair(), tick("unshared", seconds=1.5), *pair((1, 1))])
    assert (summary.speed_up, summary.engine, summary.sharing, summary.ideal) == (6.0, 4.0, 1.5, 2.0)


def test_an_engine_that_never_ran_alone_has_no_figure():
    summary = summarize(pair())
    assert (summary.engine, summary.sharing, summary.unshared) == (None, None, None)
    assert summary.ideal == 2.0


def test_the_speed_up_is_the_median_over_batches_so_that_one_slow_step_does_not_make_it():
    summary = summarize(pair() + pair((1, 1), seconds=600.0) + pair((1, 2)))
    assert summary.speed_up == 6.0


def test_sides_add_up_steps_and_seconds():
    summary = summarize(pair() + pair((1, 1), fewer=3.0))
    assert (summary.plain.computed, summary.memoized.computed, summary.steps) == (200, 100, 200)
    assert (summary.plain.seconds, summary.memoized.seconds) == (12.0, 4.0)
    assert summary.memoized.words_per_second == pytest.approx((10 + 10 / 3) / 2)


def test_an_epoch_has_the_mean_loss_over_steps_and_the_largest_difference():
    first, second = summarize(pair(loss=1.0, other=1.5) + pair((1, 1), loss=3.0, other=3.25) + pair((2, 0))).epochs
    assert (first.epoch, first.batches, first.plain_loss, first.memoized_loss) == (1, 2, 2.0, 2.375)
    assert first.largest_difference == 0.5
    assert (second.epoch, second.batches, second.largest_difference) == (2, 1, 0.0)


@pytest.mark.parametrize("who", ["plain", "memoized"])
def test_a_batch_that_only_one_has_seen_is_left_out(who):
    assert summarize([*pair(), tick(who, (1, 1), loss=100.0)]) == summarize(pair())
