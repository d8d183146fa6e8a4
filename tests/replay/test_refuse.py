"""Calls that are left to the plain program, by name."""

from __future__ import annotations

import pytest
import torch
from tests.replay.replayed import Replayed
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

from memograd._replay import record, watched_by_others, why_not


class Plain(Tensor):
    pass


class Dispatched(Tensor):
    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def asked(run):
    """Ask from within a function that `run` calls with a tensor."""
    reasons = []

    def f(x):
        reasons.append(why_not((x,), {}))
        return x * 2

    run(f)
    return reasons[0]


def dual(f):
    with forward_ad.dual_level():
        f(torch.ones(2))


def fake(f):
    with FakeTensorMode():
        f(torch.ones(2))


def offloaded(f):
    with torch.autograd.graph.save_on_cpu():
        f(torch.ones(2))


def forbidden(f):
    with torch.autograd.graph.disable_saved_tensors_hooks("not here"):
        f(torch.ones(2))


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (lambda f: torch.jit.trace(f, torch.ones(2)), "jit.trace"),
        (lambda f: torch.func.vmap(f)(torch.ones(2)), "torch.func"),
        (lambda f: torch.func.grad(lambda x: f(x).sum())(torch.ones(2)), "torch.func"),
        (dual, "forward-mode"),
        (fake, "dispatch mode"),
        (lambda f: make_fx(f)(torch.ones(2)), "dispatch mode"),
        (lambda f: checkpoint(f, torch.ones(2, requires_grad=True), use_reentrant=False), "hooks for saved tensors"),
        (offloaded, "save_on_cpu"),
        (forbidden, "forbidden"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_what_is_under_way_is_named(run, reason):
    assert reason in asked(run)


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (torch.ones(2).as_subclass(Plain), "Plain"),
        (torch.ones(2).as_subclass(Dispatched), "__torch_dispatch__"),
        (FakeTensorMode().from_tensor(torch.ones(2)), "FakeTensor"),
        (torch.eye(2).to_sparse().requires_grad_(), "sparse"),
    ],
)
def test_tensors_of_other_kinds_are_named(tensor, reason):
    assert reason in why_not(({"deep": [tensor]},), {})
    assert reason in why_not((), {"x": tensor})
    assert reason in why_not((), {}, [tensor])


def test_parameters_of_other_kinds_are_named():
    assert "Uninitialized" in why_not((nn.LazyLinear(2),), {})


def test_sharded_parameters_are_named():
    class FullyShardedDataParallel(nn.Module):
        pass

    assert "FSDP" in why_not((nn.Sequential(FullyShardedDataParallel()),), {})


def test_a_captured_tensor_that_is_no_leaf_is_named():
    h = torch.ones(2, requires_grad=True) * 2
    assert "captures a tensor" in why_not((), {}, [h])
    assert why_not((h,), {}) is None


def test_plain_calls_can_be_recorded():
    assert why_not((torch.ones(2), [nn.Linear(2, 2)]), {"n": 3}, [object()]) is None


def test_a_captured_tensor_that_nobody_named_is_found_and_gets_its_gradient():
    leaf, x = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    h = leaf * 3
    f = Replayed(lambda x: x * h)
    f(x).sum().backward()
    assert leaf.grad.tolist() == [3, 3]
    assert x.grad.tolist() == [3, 3]
    assert "no leaf" in f.reasons[0]
    assert f.calls == 1


def test_a_call_that_is_made_again_draws_the_same_numbers():
    h = torch.ones(2, requires_grad=True) * 3
    f = Replayed(lambda x: x * h + torch.rand(2))
    torch.manual_seed(1)
    y, after = f(torch.ones(2, requires_grad=True) * 1), torch.rand(1)
    assert f.calls == 2
    torch.manual_seed(1)
    assert torch.equal(y, 3 + torch.rand(2))
    assert torch.equal(after, torch.rand(1))


def test_an_exception_of_the_function_is_its_own_and_leaves_nothing():
    def fails(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        record(fails, (torch.ones(2, requires_grad=True),), {})
    assert Replayed(lambda x: x * 2)(torch.ones(2, requires_grad=True)).requires_grad


def test_arguments_that_contain_themselves_are_left_to_the_plain_call():
    x = torch.ones(2, requires_grad=True)
    loop = [x * 1]
    loop.append(loop)
    f = Replayed(lambda loop: loop[1][0] * 2)
    f(loop).sum().backward()
    assert x.grad.tolist() == [2, 2]
    assert "cannot be recorded" in f.reasons[0]


def test_weights_that_torch_caches_are_named():
    with torch.nn.utils.parametrize.cached():
        assert "parametrize.cached()" in why_not((torch.ones(2),), {})
    assert why_not((torch.ones(2),), {}) is None


def test_hooks_of_others_are_told_from_those_of_a_recorded_call():
    found = []
    record(lambda x: found.append(watched_by_others()) or x * 2, (torch.ones(2, requires_grad=True),), {})
    with torch.autograd.graph.save_on_cpu():
        found.append(watched_by_others())
    assert [*found, watched_by_others()] == [False, True, False]
