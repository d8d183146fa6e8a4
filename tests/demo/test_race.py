"""The race itself, tiny: both train the same model on the same batches, and come to the same losses."""

from __future__ import annotations

import copy

import pytest
import torch

from memograd import memo
from memograd._demo import _race
from memograd._demo._model import PLAIN, packed_loss, padded_loss, shared_loss, unshared_loss
from memograd._demo._race import Options, Race
from memograd._demo._summary import summarize

TINY = Options(words=600, hidden=16, batch=256, epochs=2, seed=3)


@pytest.fixture(scope="module")
def ticks():
    return list(Race(TINY).run("packed"))


def test_plain_and_memoized_have_the_same_losses(ticks):
    assert summarize(ticks).largest_difference < 1e-5


def test_the_model_learns(ticks):
    first, second = summarize(ticks).epochs
    assert second.memoized_loss < first.memoized_loss < 4.3


def test_they_take_turns_and_swap_who_goes_first(ticks):
    assert [tick.who for tick in ticks if tick.who != "unshared"][:4] == ["plain", "memoized", "memoized", "plain"]
    assert len(ticks) == 2 * (2 * 3 + 2)


def test_every_other_batch_also_runs_with_nothing_shared(ticks):
    alone = [tick for tick in ticks if tick.who == "unshared"]
    assert [(tick.epoch, tick.batch) for tick in alone] == [(1, 0), (1, 2), (2, 0), (2, 2)]
    assert [tick.computed for tick in alone] == [tick.steps for tick in alone]


def test_the_memoized_one_computes_each_distinct_prefix_once(ticks):
    race = Race(TINY)
    distinct = 0
    for batch in race.batches(epoch=1):
        rows = [tuple(row[:n]) for row, n in zip(batch.ids.tolist(), batch.lengths.tolist(), strict=True)]
        distinct += len({row[:n] for row in rows for n in range(1, len(row) + 1)})
    assert sum(tick.computed for tick in ticks if tick.who == "memoized" and tick.epoch == 1) == distinct


def test_the_packed_one_computes_the_steps_of_the_data_and_the_padded_one_more():
    race = Race(TINY)
    batch = next(race.batches(epoch=1))
    assert packed_loss(race.model, batch).steps == batch.steps
    assert padded_loss(race.model, batch).steps == batch.ids.numel() > batch.steps


def test_the_same_seed_gives_the_same_run(ticks):
    assert [tick.loss for tick in Race(TINY).run("packed")] == [tick.loss for tick in ticks]


def test_every_layout_of_the_plain_one_is_timed_even_when_there_is_no_time(monkeypatch):
    monkeypatch.setattr(_race, "TRIAL_SECONDS", 0.0)
    layouts = Race(TINY).layouts()
    assert set(layouts) == set(PLAIN)
    assert min(layouts.values()) > 0


@pytest.mark.parametrize("order", ["sampled", "sorted"])
def test_the_four_programs_have_the_same_loss_and_gradients_in_float64(order):
    race = Race(Options(words=500, hidden=16, batch=500, epochs=1, seed=0, order=order))
    batch = next(race.batches(epoch=1))
    gradients = []
    for program in (packed_loss, padded_loss, shared_loss, unshared_loss):
        model = copy.deepcopy(race.model).double()
        if program not in PLAIN.values():
            model.lstm = memo.scan(model.lstm)
        loss = program(model, batch).loss
        loss.backward()
        gradients.append([loss.detach(), *(p.grad for p in model.parameters())])
    for others in gradients[1:]:
        torch.testing.assert_close(others, gradients[0], rtol=1e-9, atol=1e-12)
