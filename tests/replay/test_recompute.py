"""A stored result gets its gradients from a second run, inside backward alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from memograd._ambient._streams import read_streams
from memograd._ambient._torch import read_modes
from memograd._replay import GONE, Plan, recompute, record


def stored(f, *args, captured=()):
    """Record a call, and give what a store would hold of it: the result without grad, and the plan."""
    output, recording, reason = record(f, args, {}, captured)
    assert not reason
    return torch.utils._pytree.tree_map_only(torch.Tensor, torch.Tensor.detach, output), recording.plan


def test_the_call_runs_in_backward_and_once():
    calls = []
    net = nn.Linear(3, 2)

    def f(x):
        calls.append(x)
        return net(x).tanh()

    x = torch.ones(4, 3, requires_grad=True)
    value, plan = stored(f, x, captured=(net,))
    calls.clear()
    y, recording, _ = recompute(f, (x,), {}, (net,), value, plan, read_modes(), None)
    assert torch.equal(y, value)
    assert calls == []
    (y.sum() + recording.again((x,), {}, (net,)).sum()).backward()
    assert len(calls) == 1
    y.sum().backward()
    assert len(calls) == 1
    found = [x.grad, net.weight.grad, net.bias.grad]
    x.grad = net.weight.grad = net.bias.grad = None
    (3 * f(x).sum()).backward()
    for a, b in zip(found, [x.grad, net.weight.grad, net.bias.grad], strict=True):
        torch.testing.assert_close(a, b)


def test_one_hit_is_equal_to_the_bit():
    net, x = nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 2)), torch.linspace(-1, 1, 12).reshape(4, 3)
    value, plan = stored(net, x, captured=(net,))
    y, _, _ = recompute(net, (x,), {}, (net,), value, plan, read_modes(), None)
    y.square().sum().backward()
    found = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    net(x).square().sum().backward()
    assert all(torch.equal(a, p.grad) for a, p in zip(found, net.parameters(), strict=True))


def test_it_draws_what_it_drew_and_leaves_the_stream_alone():
    net, x = nn.Dropout(), torch.ones(64, requires_grad=True)
    streams = read_streams()
    value, plan = stored(net, x)
    y, _, _ = recompute(net, (x,), {}, (), value, plan, read_modes(), streams)
    torch.rand(3)
    before = torch.get_rng_state()
    y.sum().backward()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(x.grad, value)
    assert 0 < x.grad.count_nonzero() < 64


def test_it_runs_in_the_modes_it_ran_in():
    net, x = nn.Linear(3, 2), torch.ones(1, 3)
    dtypes = []

    def f(x):
        y = net(x)
        dtypes.append(y.dtype)
        return y

    with torch.autocast("cpu", torch.bfloat16):
        value, plan = stored(f, x, captured=(net,))
        y, _, _ = recompute(f, (x,), {}, (net,), value, plan, read_modes(), None)
    y.sum().backward()
    assert dtypes == [torch.bfloat16] * 2


def test_arguments_changed_before_backward_raise():
    f, x = torch.exp, torch.ones(2, requires_grad=True)
    h = x * 1
    value, plan = stored(f, h)
    y, recording, _ = recompute(f, (h,), {}, (), value, plan, read_modes(), None)
    with torch.no_grad():
        h.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
    assert recording.again((h,), {}) is GONE


def test_integers_beside_and_nested_results_come_back():
    def f(x):
        return {"y": x * 2, "at": x.argmax(), "n": 1}

    x = torch.tensor([1.0, 3.0], requires_grad=True)
    value, plan = stored(f, x)
    out, _, _ = recompute(f, (x,), {}, (), value, plan, read_modes(), None)
    assert plan == Plan((0,), (True, False))
    assert (out["at"].item(), out["at"].requires_grad, out["n"]) == (1, False, 1)
    out["y"].sum().backward()
    assert x.grad.tolist() == [2, 2]


def test_the_stored_value_is_not_spoiled():
    x = torch.ones(2, requires_grad=True)
    value, plan = stored(torch.exp, x)
    y, _, _ = recompute(torch.exp, (x,), {}, (), value, plan, read_modes(), None)
    y.zero_()
    assert torch.equal(value, torch.ones(2).exp())


@pytest.mark.parametrize("f", [lambda x: x[:1], lambda x: x.exp().chunk(2)])
def test_results_that_a_store_does_not_describe_have_no_plan(f):
    _, recording, _ = record(f, (torch.ones(2, requires_grad=True),), {})
    assert recording.plan is None


def test_a_weight_that_nobody_named_leaves_no_plan():
    net = nn.Linear(2, 2)
    assert record(net, (torch.ones(1, 2),), {})[1].plan is None
    assert record(net, (torch.ones(1, 2),), {}, (net,))[1].plan is not None


def test_a_result_of_another_form_than_its_plan_is_not_given():
    x = torch.ones(2, requires_grad=True)
    value, plan = stored(torch.exp, x)
    output, recording, reason = recompute(torch.exp, (x,), {}, (), (value, value + 1), plan, read_modes(), None)
    assert output is GONE
    assert recording is None
    assert "another form" in reason


def test_a_function_that_is_another_one_now_raises():
    form = [lambda x: x * 2, lambda x: (x * 2, x * 3)]
    x = torch.ones(2, requires_grad=True)
    value, plan = stored(lambda x: form[0](x), x)
    y, _, _ = recompute(lambda x: form[1](x), (x,), {}, (), value, plan, read_modes(), None)
    with pytest.raises(RuntimeError, match="another form"):
        y.sum().backward()


def test_a_call_that_cannot_be_recorded_by_now_raises_and_says_why():
    class Out:
        def __init__(self, value):
            self.value = value

    form, x = [lambda x: x * 2], torch.ones(2, requires_grad=True)
    value, plan = stored(lambda x: form[0](x), x)
    y, _, _ = recompute(lambda x: form[0](x), (x,), {}, (), value, plan, read_modes(), None)
    form[0] = lambda x: Out(x * 2)
    with pytest.raises(RuntimeError, match=r"cannot be by now.*Go backward before"):
        y.sum().backward()
