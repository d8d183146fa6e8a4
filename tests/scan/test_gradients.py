"""Autograd sees what it would see of the plain module: per row, in parts, accumulated, frozen, differentiated again."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from tests.scan.judge import Trial, assert_fair, named
from tests.scan.pairs import CELLS, EVERY, assert_all_close, few, gradients, pair
from torch import nn

from memograd import memo


@pytest.mark.parametrize("cell", CELLS)
def test_rows_with_equal_bits_have_input_gradients_of_their_own(cell):
    plain, mine = pair(cell)
    ours, theirs = few().requires_grad_(), few().requires_grad_()
    weight = torch.randn(5, 6, 4)
    (mine(ours)[0] * weight).sum().backward()
    (plain(theirs)[0] * weight).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert not torch.allclose(ours.grad[0], ours.grad[1])


@pytest.mark.parametrize("cell", CELLS)
def test_a_learned_first_state_gets_the_sum_over_all_rows(cell):
    plain, mine = pair(cell)
    found = []
    for module in (mine, plain):
        learned = [torch.full((1, 1, 4), 0.3, requires_grad=True) for _ in range(2)]
        states = [s.expand(-1, 5, -1) for s in learned]
        y, _ = module(few(), tuple(states) if cell is nn.LSTM else states[0])
        y.square().sum().backward()
        found.append([s.grad for s in learned] + gradients(module))
    assert_all_close(*found)


@pytest.mark.parametrize("given", ["x", "h", "c", "h and c", "all"])
@pytest.mark.parametrize("options", EVERY)
def test_each_input_may_require_grad_alone(given, options):
    torch.manual_seed(0)
    module = nn.LSTM(3, 4, batch_first=True, **EVERY[options])
    depth = module.num_layers * (2 if module.bidirectional else 1)
    h, c = (torch.randn(depth, 1, 4).repeat(1, 5, 1) for _ in range(2))
    x = few()
    for name, value in {"x": x, "h": h, "c": c}.items():
        value.requires_grad_(given == "all" or name in given.split(" and "))
    assert_fair(Trial(module, x, (h, c)))


@pytest.mark.parametrize("on", [("y",), ("h",), ("c",), ("h", "c"), ("y", "c")])
@pytest.mark.parametrize("options", EVERY)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_a_loss_may_depend_on_some_of_the_outputs(on, options, requires_grad):
    """A gradient that the plain module leaves at None is None, one that it fills with zeros is zeros."""
    torch.manual_seed(0)
    module = nn.LSTM(3, 4, batch_first=True, **EVERY[options])
    trial = Trial(module, few().requires_grad_(requires_grad), on=on)
    assert_fair(trial)
    plain, mine = copy.deepcopy(module), memo.scan(copy.deepcopy(module), engine="levels")
    for each in (plain, mine):
        outputs = named(each(few()))
        sum(outputs[name].sum() for name in on).backward()
    assert [g is None for g in gradients(mine)] == [g is None for g in gradients(plain)]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_one_row_of_the_output_alone_may_be_used(cell, requires_grad):
    plain, mine = pair(cell)
    found = []
    for module in (mine, plain):
        x = few().requires_grad_(requires_grad)
        module(x)[0][1, 3].sum().backward()
        found.append([x.grad, *gradients(module)])
    assert_all_close(*found)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_backward_twice_gives_twice_the_gradient(cell, requires_grad):
    _, mine = pair(cell)
    x = few().requires_grad_(requires_grad)
    loss = mine(x)[0].square().sum()
    loss.backward(retain_graph=True)
    once = [g.clone() for g in [*gradients(mine), x.grad] if g is not None]
    loss.backward()
    for first, both in zip(once, [g for g in [*gradients(mine), x.grad] if g is not None], strict=True):
        torch.testing.assert_close(both, 2 * first)


@pytest.mark.parametrize("cell", CELLS)
def test_a_second_backward_without_retain_graph_is_refused_as_autograd_does(cell):
    _, mine = pair(cell)
    loss = mine(few())[0].sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time"):
        loss.backward()


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_accumulate_over_calls(cell):
    plain, mine = pair(cell)
    for module in (plain, mine):
        module(few())[0].square().sum().backward()
        module(few(rows=3))[0].square().sum().backward()
    assert_all_close(gradients(mine), gradients(plain))


@pytest.mark.parametrize("cell", CELLS)
def test_a_loss_of_several_calls_gets_the_gradient_of_each(cell):
    """Truncated backpropagation with the states handed on, and one call's output as the next call's input."""
    plain, mine = pair(cell)
    for module in (plain, mine):
        y, state = module(few())
        z, _ = module(few(), state)
        again, _ = module(y[..., :3])
        (y.sum() + z.square().sum() + again.square().sum()).backward()
    assert_all_close(gradients(mine), gradients(plain))


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_do_not_share_their_memory(cell):
    _, mine = pair(cell)
    found = torch.autograd.grad(mine(few())[0].sum(), list(mine.parameters()))
    for one, other in itertools.combinations(found, 2):
        assert one.untyped_storage().data_ptr() != other.untyped_storage().data_ptr()


@pytest.mark.parametrize("frozen", ["all", "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"])
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_frozen_weights_get_no_gradient_and_the_rest_do(cell, requires_grad, frozen):
    torch.manual_seed(0)
    module = cell(3, 4, batch_first=True)
    for name, p in module.named_parameters():
        p.requires_grad_(frozen not in ("all", name))
    assert_fair(Trial(module, few().requires_grad_(requires_grad)))


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_in_half_precision_inputs_keep_their_type(cell):
    for dtype in (torch.bfloat16, torch.float16):
        torch.manual_seed(0)
        mine = memo.scan(cell(3, 4, batch_first=True, dtype=dtype), engine="levels")
        x = few().to(dtype).requires_grad_()
        mine(x)[0].sum().backward()
        assert {x.grad.dtype, *(g.dtype for g in gradients(mine))} == {dtype}


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_many_backward_passes_at_once_are_refused_with_advice(cell, shared):
    """Vectorized jacobians stand on this: they map over the backward pass."""
    _, mine = pair(cell)
    y, _ = mine(few(), shared=shared)
    y = y.values if shared else y
    with pytest.raises(RuntimeError, match="one by one"):
        torch.autograd.grad(y, list(mine.parameters()), torch.randn(3, *y.shape), is_grads_batched=True)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_create_graph_alone_gives_the_same_gradients(cell, requires_grad):
    plain, mine = pair(cell)
    found = []
    for module in (mine, plain):
        x = few().requires_grad_(requires_grad)
        leaves = [*module.parameters(), *([x] if requires_grad else [])]
        found.append(torch.autograd.grad(module(x)[0].square().sum(), leaves, create_graph=True))
    assert_all_close([g.detach() for g in found[0]], [g.detach() for g in found[1]])
    assert all(g.requires_grad for g in found[0])


@pytest.mark.parametrize("steps", [6, 30])
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_double_backward_is_refused_and_never_taken_for_zero(cell, requires_grad, steps):
    """A gradient penalty must not pass for a constant; 30 equal steps of a prompt take the fused kernel's way."""
    _, mine = pair(cell)
    x = torch.cat([few(rows=1, steps=steps).expand(5, -1, -1), few()], 1).requires_grad_(requires_grad)
    for leaf in [mine.weight_hh_l0, *([x] if requires_grad else [])]:
        y, _ = mine(x)
        (g,) = torch.autograd.grad(y.square().sum(), leaf, create_graph=True)
        with pytest.raises(RuntimeError, match=r"double backward is not supported.* plain module.*scan.__wrapped__"):
            (y.sum() + g.square().sum()).backward()


@pytest.mark.parametrize("cell", CELLS)
def test_the_advice_on_double_backward_works(cell):
    plain, mine = pair(cell)
    found = []
    for module in (mine.__wrapped__, plain):
        y, _ = module(few())
        (g,) = torch.autograd.grad(y.square().sum(), module.weight_hh_l0, create_graph=True)
        g.square().sum().backward()
        found.append([p.grad for p in module.parameters()])
    assert_all_close(*found)
