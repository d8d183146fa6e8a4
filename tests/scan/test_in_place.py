"""What is changed in place between forward and backward is noticed, or does not matter."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.scan.pairs import CELLS, assert_all_close, few, gradients, pair
from torch import nn


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_outputs_changed_in_place_never_give_a_wrong_gradient(cell, requires_grad):
    """The plain LSTM of a CPU refuses this; what may not be changed must say so, what may must be right."""
    plain, mine = pair(cell)
    (plain(few())[0] * 2 + 1).square().sum().backward()
    y, _ = mine(few().requires_grad_(requires_grad))
    y.mul_(2).add_(1)
    y.square().sum().backward()
    assert_all_close(gradients(mine), gradients(plain))


def test_a_shared_output_changed_in_place_is_noticed():
    _, mine = pair(nn.LSTM)
    s, _ = mine(few(), shared=True)
    s.values.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        s.values.sum().backward()


def change_weight(module, x, name):
    y, _ = module(x)
    with torch.no_grad():
        getattr(module, name).add_(1)
    y.sum().backward()


@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"])
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_a_weight_changed_in_place_before_backward_is_noticed_or_does_not_matter(cell, requires_grad, name):
    """Where the plain module lets it pass, it passes; where it is noticed, autograd's own words say so."""
    plain, mine = pair(cell)
    reference = copy.deepcopy(plain)
    reference(few())[0].sum().backward()
    try:
        change_weight(plain, few().requires_grad_(requires_grad), name)
        passes = True
    except RuntimeError:
        passes = False
    try:
        change_weight(mine, few().requires_grad_(requires_grad), name)
    except RuntimeError as error:
        assert not passes and "modified by an inplace operation" in str(error)  # noqa: PT017, PT018
    else:
        assert_all_close(gradients(mine), gradients(reference))


@pytest.mark.parametrize("cell", CELLS)
def test_the_recurrent_weight_changed_in_place_before_backward_is_always_noticed(cell):
    _, mine = pair(cell)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        change_weight(mine, few(), "weight_hh_l0")


@pytest.mark.parametrize("cell", CELLS)
def test_an_input_changed_in_place_before_backward_does_not_matter(cell):
    """A batch's buffer may be filled anew before backward: the plain module has made a copy, and so has ours."""
    plain, mine = pair(cell)
    plain(few())[0].sum().backward()
    x = few()
    y, _ = mine(x)
    x.add_(1)
    y.sum().backward()
    assert_all_close(gradients(mine), gradients(plain))
