"""Nothing hidden: after a call by rows the program is where the plain call would have left it."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from tests.rows.models import CASES, frozen

from memograd import Memo


def streams():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


@pytest.mark.parametrize("trains", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_neither_trials_nor_hits_move_random_streams(case, trains):
    make, batch = CASES[case]
    model = make().eval()
    mine = Memo().rows(model if trains else frozen(model), always=True)
    x = batch(4)
    x = x.repeat(4, *[1] * (x.dim() - 1))
    before = streams()
    for _ in range(3):
        mine(x)
    assert streams() == before


@pytest.mark.parametrize("trains", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_results_look_as_plain_ones_do(case, trains):
    make, batch = CASES[case]
    model = make().eval()
    mine = Memo().rows(model if trains else frozen(model), always=True)
    x = batch(4)
    x = x.repeat(4, *[1] * (x.dim() - 1))
    for _ in range(2):
        y, plain = mine(x), model(x)
        assert (y.shape, y.dtype, y.device, y.stride()) == (plain.shape, plain.dtype, plain.device, plain.stride())
        assert (y.requires_grad, y.is_leaf) == (plain.requires_grad, plain.is_leaf)


@pytest.mark.parametrize("case", CASES)
def test_a_module_is_left_as_it_was(case):
    make, batch = CASES[case]
    model = make().eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    versions = [p._version for p in model.parameters()]
    mine = Memo().rows(model, always=True)
    mine(batch(8).repeat(2, *[1] * (batch(1).dim() - 1))).sum().backward()
    frozen(model)
    mine(batch(8))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert [p._version for p in model.parameters()] == versions


def test_batches_are_left_as_they_were():
    make, batch = CASES["mlp"]
    x = batch(8)
    before, version = x.clone(), x._version
    mine = Memo().rows(frozen(make()), always=True)
    mine(x)
    mine(x)
    assert torch.equal(x, before)
    assert x._version == version
