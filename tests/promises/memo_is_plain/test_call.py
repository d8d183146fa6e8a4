"""Memo is plain: gradients through remembered calls are the plain program's, however often a call is remembered."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from torch import nn

from memograd import Memo


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def remembered(model):
    return Memo()(lambda x: model(x))


def gradients(model):
    return [p.grad.clone() for p in model.parameters()]


def test_two_hits_in_one_loss_give_the_plain_gradients_and_run_the_model_once():
    plain, mine = net(), net()
    f = remembered(mine)
    x = torch.randn(5, 4)
    (f(x).square().sum() + f(x).sum()).backward()
    (plain(x).square().sum() + plain(x).sum()).backward()
    for ours, theirs in zip(gradients(mine), gradients(plain), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert f.cache_info()[:2] == (1, 1)


def test_losses_one_after_the_other_accumulate():
    plain, mine = net(), net()
    f = remembered(mine)
    x = torch.randn(5, 4)
    kept = f(x)
    for _ in range(4):
        f(x).sum().backward()
        plain(x).sum().backward()
    kept.square().sum().backward()
    plain(x).square().sum().backward()
    for ours, theirs in zip(gradients(mine), gradients(plain), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_an_argument_that_requires_grad_gets_its_gradient_at_each_hit():
    f = remembered(net())
    leaf = torch.randn(5, 4, requires_grad=True)
    other = leaf.detach().clone().requires_grad_()
    plain = leaf.detach().clone().requires_grad_()
    (f(leaf).sum() + f(other).square().sum()).backward()
    net()(plain).sum().backward()
    torch.testing.assert_close(leaf.grad, plain.grad)
    plain.grad = None
    net()(plain).square().sum().backward()
    torch.testing.assert_close(other.grad, plain.grad)


def test_hooks_on_weights_fire_once_a_backward():
    model = net()
    f = remembered(model)
    fired = []
    model[0].weight.register_hook(fired.append)
    x = torch.randn(5, 4)
    (f(x).sum() + f(x).sum()).backward()
    assert len(fired) == 1


def test_training_is_plain_training():
    plain, mine = net(), net()
    f = remembered(mine)
    data = torch.randn(20, 5, 4)
    for model, call in ((plain, plain), (mine, f)):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for x in data:
            optimizer.zero_grad()
            (call(x) + call(x)).square().mean().backward()
            optimizer.step()
    for ours, theirs in zip(mine.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_over_a_training_loop_no_graph_stays():
    f = remembered(net())
    graphs = []
    for _ in range(50):
        y = f(torch.randn(5, 4))
        graphs.append(weakref.ref(y))
        y.sum().backward()
    del y
    gc.collect()
    assert sum(graph() is not None for graph in graphs) == 0
    assert f.stats().nbytes < 50 * 1000  # the results alone, of 20 bytes each


def test_modes_do_not_mix():
    f = remembered(net())
    x = torch.randn(5, 4)
    with torch.no_grad():
        assert not f(x).requires_grad
    y = f(x)
    assert y.requires_grad
    y.sum().backward()
    with torch.no_grad():
        assert not f(x).requires_grad


def test_a_weight_that_has_changed_is_another_call():
    model = net()
    f = remembered(model)
    x = torch.randn(5, 4)
    first = f(x)
    model[0].weight.data.add_(1)
    second = f(x)
    assert not torch.equal(first, second)
    torch.testing.assert_close(second, copy.deepcopy(model)(x))


def test_differentiating_twice_is_refused_clearly():
    f = remembered(net())
    x = torch.randn(5, 4, requires_grad=True)
    f(x)
    (grad,) = torch.autograd.grad(f(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        grad.sum().backward()


def test_what_a_hit_gave_can_be_changed_in_place():
    f = remembered(net())
    x = torch.randn(5, 4)
    first = f(x).clone()
    f(x).mul_(0).sum().backward()
    assert torch.equal(f(x), first)


def test_a_recursion_over_tensors_has_a_backward_in_linear_time():
    weight = torch.tensor(0.999, dtype=torch.float64, requires_grad=True)
    bodies = []

    @Memo()
    def level(n):
        bodies.append(n)
        return weight * 1 if n < 2 else level(n - 1) * 0.5 + level(n - 2) * weight * 0.5

    level(300).backward()
    got, weight.grad = weight.grad.clone(), None
    a, b = weight * 1, weight * 1
    for _ in range(299):
        a, b = b, b * 0.5 + a * weight * 0.5
    b.backward()
    torch.testing.assert_close(got, weight.grad)
    assert len(bodies) < 2000
