"""A function that is given tensors with a graph of their own is tried: run plainly first, then set apart."""

from __future__ import annotations

import gc

import torch
from tests.replay.replayed import Replayed
from torch import nn

from memograd import Memo
from memograd._replay import record


def made():
    leaf = torch.linspace(0, 1, 4).requires_grad_()
    return leaf, leaf * 1


def test_a_trial_is_given_the_very_arguments_and_gives_the_plain_result():
    given = []
    leaf, h = made()

    def f(x):
        given.append(x)
        return x.exp()

    output, recording, reason = record(f, (h,), {}, trial=True)
    assert given[0] is h
    assert (recording.graph, recording.plan.inputs, reason) == (None, (0,), "")
    (slope,) = torch.autograd.grad(output.sum(), leaf, create_graph=True)
    assert torch.equal(torch.autograd.grad(slope.sum(), leaf)[0], leaf.exp())


def test_where_no_argument_has_a_graph_there_is_nothing_to_try():
    net = nn.Linear(4, 2)
    assert record(net, (made()[0],), {}, trial=True).recording.graph is not None
    assert record(net, (torch.ones(4),), {}, trial=True).recording.graph is not None


def test_after_a_trial_the_graph_is_shared():
    ran = []

    @Memo()(version="1")
    def f(x):
        ran.append(1)
        return x.exp()

    f(made()[1])
    leaf, h = made()
    h = h + 1
    y, z = f(h), f(h)
    assert len(ran) == 2
    (y.sum() + z.sum()).backward()
    assert len(ran) == 2
    torch.testing.assert_close(leaf.grad, 2 * (leaf.detach() + 1).exp())


def test_the_result_of_a_trial_is_remembered_and_goes_back():
    f = Memo()(lambda x: x.exp())
    for _ in range(3):
        leaf, h = made()
        f(h).sum().backward()
        assert torch.equal(leaf.grad, leaf.detach().exp())
        gc.collect()
    assert f.cache_info()[:2] == (2, 1)


def test_a_trial_of_views_and_of_several_outputs_of_one_node():
    def f(a, b):
        return a[1:], a * b

    leaf = torch.linspace(0, 1, 6).requires_grad_()
    a, b = (leaf * 2).chunk(2)
    output, recording, reason = record(f, (a, b), {}, trial=True)
    assert not reason
    assert sorted(recording.inputs) == [0, 1]
    assert output[0]._base is a._base
    found = record(lambda a: a * b, (a,), {}, trial=True)
    assert "not among its arguments" in found.reason


def test_a_trial_that_asks_for_gradients_is_recorded_the_next_time_and_not_stored():
    def penalty(x):
        (slope,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
        return slope.norm()

    _, h = made()
    assert record(penalty, (h,), {}, trial=True).recording.plan is None
    assert h._backward_hooks == {}
    assert record(penalty, (h,), {}).recording.graph is not None


def test_a_stand_in_is_no_leaf_either():
    f, seen = Replayed(lambda x: seen.append((x.is_leaf, x.grad_fn is None)) or x * 2), []
    leaf, h = made()
    f(h).sum().backward()
    assert seen == [(False, False)]
    assert leaf.grad.tolist() == [2] * 4


def test_a_leaf_stands_for_itself():
    seen = []
    x = nn.Parameter(torch.ones(2))
    f = Replayed(lambda x: seen.append(x) or x * 2)
    f(x).sum().backward()
    assert seen[0] is x


def test_a_leaf_that_is_frozen_before_backward_gets_nothing_as_in_the_plain_program():
    f = Replayed(lambda x, w: (x * w).sum())
    x, w = (torch.ones(2, requires_grad=True) for _ in range(2))
    y = f(x, w)
    w.requires_grad_(requires_grad=False)
    y.backward()
    assert w.grad is None
    assert x.grad.tolist() == [1, 1]
