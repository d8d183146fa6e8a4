"""Hooks fire as they do in the plain program: once, with the whole gradient."""

from __future__ import annotations

import torch
from tests.replay.replayed import Replayed
from torch import nn


def test_a_hook_on_a_parameter_fires_once_for_all_hits():
    net, seen = nn.Linear(3, 2), []
    net.weight.register_hook(seen.append)
    f, x = Replayed(net), torch.ones(4, 3)
    (f(x).sum() + f(x).sum()).backward()
    assert [grad.tolist() for grad in seen] == [[[8.0] * 3] * 2]


def test_a_hook_that_scales_does_so_once():
    net = nn.Linear(3, 2)
    net.weight.register_hook(lambda grad: 10 * grad)
    f, x = Replayed(net), torch.ones(1, 3)
    f(x)
    f(x).sum().backward()
    assert torch.equal(net.weight.grad, torch.full((2, 3), 10.0))


def test_a_hook_registered_and_removed_later_counts_as_it_stands_then():
    net = nn.Linear(3, 2)
    f, x = Replayed(net), torch.ones(1, 3)
    y = f(x)
    handle = net.weight.register_hook(lambda grad: 10 * grad)
    y.sum().backward()
    assert torch.equal(net.weight.grad, torch.full((2, 3), 10.0))
    handle.remove()
    f(x).sum().backward()
    assert torch.equal(net.weight.grad, torch.full((2, 3), 11.0))


def test_hooks_on_arguments_and_on_results_fire_once():
    f, seen = Replayed(lambda x: x * 2), []
    x = torch.ones(2, requires_grad=True)
    h = x * 1
    h.register_hook(lambda _: seen.append("h"))
    x.register_hook(lambda _: seen.append("x"))
    f(h)
    y = f(h)
    y.register_hook(lambda _: seen.append("y"))
    y.sum().backward()
    assert sorted(seen) == ["h", "x", "y"]


def test_hooks_after_accumulation_and_of_modules_fire_once_a_backward():
    net, seen = nn.Sequential(nn.Linear(3, 2), nn.ReLU()), []
    net[0].weight.register_post_accumulate_grad_hook(lambda _: seen.append("accumulated"))
    net[0].register_full_backward_hook(lambda *_: seen.append("module"))
    f, x = Replayed(net), torch.ones(1, 3, requires_grad=True)
    f(x)
    (f(x) + f(x)).sum().backward()
    assert sorted(seen) == ["accumulated", "module"]


def test_the_hooks_of_a_leaf_fire_as_ever_outside_of_recordings():
    net, seen = nn.Linear(3, 2), []
    net.weight.register_hook(lambda _: seen.append(1))
    f, x = Replayed(net), torch.ones(1, 3)
    f(x).sum().backward()
    net(x).sum().backward()
    torch.autograd.grad(net(x).sum(), net.weight)
    assert len(seen) == 3
