"""Whatever the module and the batch: errors no larger than the plain module's own."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from tests.scan.batches import trials
from tests.scan.judge import assert_fair, error, reference, results

from memograd import memo


@given(trials())
@settings(max_examples=150)
def test_outputs_and_gradients_are_as_exact_as_the_plain_modules(trial):
    assert assert_fair(trial).receipt.engine == "levels"


@pytest.mark.slow
@given(trials())
@settings(max_examples=1500)
def test_outputs_and_gradients_are_as_exact_as_the_plain_modules_in_a_long_sweep(trial):
    assert_fair(trial)


@given(trials([torch.float32], autocast=True))
@settings(max_examples=60)
def test_under_autocast_they_are_as_exact_and_of_the_same_types(trial):
    assert_fair(trial)


def test_over_many_batches_the_errors_are_no_larger_without_any_allowance_for_noise():
    """The floor of a single trial is left out: in the mean over all tensors the factor 1.5 alone decides."""
    ours, theirs = [], []

    @given(trials([torch.float32]))
    def look(trial):
        exact, noise = reference(trial)
        plain, _ = results(copy.deepcopy(trial.module), trial)
        mine, _ = results(memo.scan(trial.module, engine="levels"), trial)
        for name, truth in exact.items():
            if truth is not None and noise[name] > 0:
                ours.append((error(mine[name], truth) / noise[name]) ** 2)
                theirs.append((error(plain[name], truth) / noise[name]) ** 2)

    look()
    assert len(ours) > 500
    assert math.sqrt(sum(ours)) <= 1.5 * math.sqrt(sum(theirs))
