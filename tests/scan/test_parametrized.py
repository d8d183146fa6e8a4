"""Weights that are computed: parametrizations, the old weight norm, pruning; before and after the wrapping."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.scan.pairs import assert_same, few, module, shared
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils import weight_norm as old_weight_norm


@pytest.mark.parametrize("side", ["before", "after", "after, on the plain module"])
@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm", "orthogonal"])
def test_a_parametrized_weight_works(side, norm):
    """Registered before or after the wrapping: outputs, gradients, and state_dict keys are the plain module's."""
    plain, reference = module(), module()
    register = getattr(parametrizations, norm)
    torch.manual_seed(1)
    register(reference, "weight_hh_l0")
    torch.manual_seed(1)
    if side == "before":
        mine = shared(register(plain, "weight_hh_l0"))
    else:
        mine = shared(plain)
        register(mine if side == "after" else plain, "weight_hh_l0")
    mine.load_state_dict(reference.state_dict())
    mine.eval(), reference.eval(), plain.eval()
    assert list(mine.state_dict()) == list(reference.state_dict())
    mine(few())[0].square().sum().backward()
    reference(few())[0].square().sum().backward()
    for ours, theirs in zip(mine.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    assert mine.receipt.engine == "levels"


class Doubled(nn.Module):
    def forward(self, w):
        return 2 * w


@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0"])
def test_a_parametrization_of_ones_own_works_and_may_be_removed(name):
    plain = module()
    mine = shared(plain)
    doubled = module()
    with torch.no_grad():
        getattr(doubled, name).mul_(2)
    parametrize.register_parametrization(mine, name, Doubled())
    assert_same(mine, doubled)
    parametrize.remove_parametrizations(mine, name)
    assert_same(mine, doubled)


def test_a_parametrized_module_may_be_wrapped_again():
    mine = shared(module())
    parametrize.register_parametrization(mine, "weight_hh_l0", Doubled())
    assert_same(shared(mine), mine)


def test_a_parametrized_module_may_be_copied():
    """Without grad, as PyTorch asks for recurrent modules: else they hold a weight that is no leaf."""
    mine = shared(parametrizations.weight_norm(module(), "weight_hh_l0"))
    with torch.no_grad():
        other = copy.deepcopy(mine)
    assert_same(other, mine)
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    assert mine(few())[0].count_nonzero()


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@pytest.mark.parametrize("before", [True, False])
def test_the_old_weight_norm_works(before):
    plain, reference = module(), old_weight_norm(module(), "weight_hh_l0")
    mine = shared(old_weight_norm(plain, "weight_hh_l0")) if before else old_weight_norm(shared(plain), "weight_hh_l0")
    for each in (mine, reference):
        each(few())[0].square().sum().backward()
        with torch.no_grad():
            for p in each.parameters():
                p.sub_(p.grad, alpha=0.1)
    assert_same(mine, reference)


@pytest.mark.parametrize("before", [True, False])
def test_pruning_works(before):
    plain, reference = module(), module()
    mine = shared(plain)
    for each in (plain if before else mine, reference):
        prune.l1_unstructured(each, "weight_hh_l0", amount=0.5)
    if before:
        mine = shared(plain)
    assert_same(mine, reference)
