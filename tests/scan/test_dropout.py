"""Dropout between layers: what the plain call draws independently is drawn as the plain call draws it."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.scan.judge import Trial, assert_fair, named
from tests.scan.pairs import CELLS, assert_all_close, few, gradients
from torch import nn

from memograd import memo


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_dropout_draws_what_the_plain_call_draws(cell, batch_first, bidirectional, packed, requires_grad):
    """From the same seed: the same values, the same gradients, and the random stream is left at the same place."""
    torch.manual_seed(0)
    plain = cell(3, 4, num_layers=3, dropout=0.4, batch_first=batch_first, bidirectional=bidirectional)
    found = []
    for module in (memo.scan(copy.deepcopy(plain), engine="levels"), plain):
        x = few() if batch_first else few().transpose(0, 1)
        if packed:
            lengths = torch.tensor([6, 6, 2, 4, 4])
            x = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=batch_first, enforce_sorted=False)
        elif requires_grad:
            x = x.detach().requires_grad_()
        torch.manual_seed(1)
        outputs = named(module(x))
        sum(o.square().sum() for o in outputs.values()).backward()
        grad = [] if packed else [x.grad]
        found.append([*(o.detach() for o in outputs.values()), *grad, *gradients(module), torch.rand(3)])
    assert_all_close(*found)


@pytest.mark.parametrize("cell", CELLS)
def test_in_eval_mode_dropout_does_nothing_and_all_layers_share(cell):
    torch.manual_seed(0)
    plain = cell(3, 4, num_layers=2, dropout=0.4, batch_first=True).eval()
    mine = memo.scan(plain, engine="levels")
    torch.testing.assert_close(mine(few())[0], plain(few())[0])
    assert_fair(Trial(plain, few().requires_grad_()))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_dropout_of_nothing_and_of_everything(share):
    torch.manual_seed(0)
    assert_fair(Trial(nn.LSTM(3, 4, num_layers=2, dropout=share, batch_first=True), few()))
