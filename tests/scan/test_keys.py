"""``keys=`` names the inputs, so that no bits are compared; it changes neither values nor gradients."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.scan.batches import ids, modules, states
from tests.scan.judge import Trial, assert_fair, assert_no_worse, results
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from memograd import memo
from memograd._share import _bits

CELLS = [nn.LSTM, nn.GRU, nn.RNN]


@st.composite
def named(draw):
    """Give a trial whose vectors are named by ids, and the ids in the input's layout."""
    module, rows = draw(modules()), draw(ids())
    letters = torch.randn(int(rows.table.max()) + 1, module.input_size).to(module.weight_ih_l0.dtype)
    requires_grad = draw(st.booleans())
    first = draw(states(module, len(rows.table)))
    if draw(st.booleans()):
        packed = [
            pack_padded_sequence(t, rows.lengths, batch_first=True, enforce_sorted=False)
            for t in (letters[rows.table], rows.table)
        ]
        x = PackedSequence(packed[0].data.requires_grad_(requires_grad), *packed[0][1:])
        keys = packed[1] if draw(st.booleans()) else packed[1].data
        return Trial(module, x, first), keys
    keys = rows.table if module.batch_first else rows.table.t()
    return Trial(module, letters[keys].requires_grad_(requires_grad), first), keys


@given(named())
@settings(max_examples=80)
def test_with_keys_everything_is_as_exact_as_without(trial_and_keys):
    trial, keys = trial_and_keys
    mine = assert_fair(trial, keys=keys)
    nodes = mine.receipt.nodes
    mine(trial.x, trial.hx)
    assert mine.receipt.nodes == nodes


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_keys_may_be_any_integers(dtype):
    table = torch.randint(0, 3, (6, 5), generator=torch.Generator().manual_seed(0))
    x = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))[table]
    mine = assert_fair(Trial(nn.LSTM(3, 4), x), keys=table.to(dtype))
    assert mine.receipt.nodes < mine.receipt.steps


def test_with_keys_no_bits_are_compared(monkeypatch):
    monkeypatch.setattr(_bits, "hash_words", None)
    table = torch.zeros(6, 5, dtype=torch.long)
    mine = memo.scan(nn.LSTM(3, 4), engine="levels")
    mine(torch.zeros(6, 5, 3), keys=table)
    assert mine.receipt.nodes == 6


def test_keys_decide_what_is_shared_and_first_states_do_too():
    table = torch.tensor([[0, 0, 0], [1, 1, 2]])
    x = torch.randn(3, 3)[table]
    mine = memo.scan(nn.GRU(3, 4), engine="levels")
    mine(x, keys=table)
    assert mine.receipt.nodes == 3
    mine(x, torch.randn(1, 1, 4).expand(1, 3, 4), keys=table)
    assert mine.receipt.nodes == 3
    mine(x, torch.randn(1, 3, 4), keys=table)
    assert mine.receipt.nodes == 6


def test_rows_with_one_key_still_have_input_gradients_of_their_own():
    torch.manual_seed(0)
    plain = nn.LSTM(3, 4)
    x = torch.randn(5, 1, 3).repeat(1, 4, 1).requires_grad_()
    weight = torch.randn(5, 4, 4)
    mine = memo.scan(copy.deepcopy(plain), engine="levels")
    (ours,) = torch.autograd.grad((mine(x, keys=torch.zeros(5, 4, dtype=torch.long))[0] * weight).sum(), x)
    (theirs,) = torch.autograd.grad((plain(x)[0] * weight).sum(), x)
    torch.testing.assert_close(ours, theirs)
    assert not torch.allclose(ours[:, 0], ours[:, 1])


@pytest.mark.parametrize("cell", CELLS)
def test_keys_that_tell_everything_apart_share_nothing_and_are_right(cell):
    x = torch.zeros(5, 4, 3)
    trial = Trial(cell(3, 4), x)
    receipt = assert_fair(trial, keys=torch.arange(20).view(5, 4)).receipt
    assert receipt.nodes == receipt.steps == 20


@pytest.mark.parametrize("cell", CELLS)
def test_padding_has_keys_like_any_other_input(cell):
    """A padded batch is computed to its end, as the plain module does; what stands there is named as well."""
    table = torch.tensor([[1, 2, 0, 0], [1, 2, 3, 0], [1, 2, 0, 0]])
    trial = Trial(cell(3, 4, batch_first=True), torch.randn(4, 3)[table])
    assert assert_fair(trial, keys=table).receipt.nodes == 6


def test_engine_plain_checks_keys_and_does_not_use_them():
    x = torch.randn(5, 4, 3)
    plain = nn.LSTM(3, 4)
    mine = memo.scan(plain, engine="plain")
    assert torch.equal(mine(x, keys=torch.zeros(5, 4, dtype=torch.long))[0], plain(x)[0])


def test_a_double_of_the_judge_notices_keys_that_lie():
    """Keys that name different vectors as equal give the wrong values that they ask for: the judge is awake."""
    trial = Trial(nn.LSTM(3, 4), torch.randn(5, 4, 3))
    theirs, _ = results(copy.deepcopy(trial.module), trial)
    lying = torch.zeros(5, 4, dtype=torch.long)
    ours, _ = results(memo.scan(copy.deepcopy(trial.module), engine="levels"), replace(trial), keys=lying)
    with pytest.raises(AssertionError):
        assert_no_worse(ours, theirs, trial)
