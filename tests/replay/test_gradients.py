"""Gradients through recordings are those of the plain program."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import pytest
import torch
from tests.replay.replayed import Replayed
from torch import Tensor, nn


def model(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def grads(*tensors: Tensor) -> list[Tensor | None]:
    return [tensor.grad for tensor in tensors]


def same(a: list[Tensor | None], b: list[Tensor | None]) -> bool:
    return all((x is None and y is None) or torch.equal(x, y) for x, y in zip(a, b, strict=True))


def both(program, *, seed: int = 0):
    """Run a program with the plain module and with a recorded one; give both lists of gradients, and the recorder."""
    found = []
    for recorded in (False, True):
        net, x = model(seed), torch.linspace(-1, 1, 24).reshape(4, 6).requires_grad_()
        f = Replayed(net) if recorded else net
        program(f, x)
        found.append(grads(x, *net.parameters()))
    return *found, f


def one_call(f, x):
    f(x).square().sum().backward()


def two_losses(f, x):
    f(x).square().sum().backward()
    f(x).exp().sum().backward()


def accumulation(f, x):
    for weight in (0.5, 1.5, -2.0, 3.0):
        (weight * f(x)).square().sum().backward()


def no_grad_first(f, x):
    with torch.no_grad():
        f.f(x) if isinstance(f, Replayed) else f(x)
    one_call(f, x)


@pytest.mark.parametrize("program", [one_call, two_losses, accumulation, no_grad_first])
def test_where_a_loss_holds_one_call_gradients_are_equal_to_the_bit(program):
    plain, recorded, f = both(program)
    assert same(plain, recorded)
    assert f.calls == 1


def test_two_hits_in_one_loss_agree_with_the_plain_program():
    def program(f, x):
        (f(x).square().sum() + f(x).exp().sum()).backward()

    plain, recorded, f = both(program)
    assert f.calls == 1
    for a, b in zip(plain, recorded, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_two_hits_in_one_loss_are_equal_to_the_bit_where_sums_are_exact():
    def program(f, x):
        (f(x).sum() + f(x).sum()).backward()

    net, x = nn.Linear(6, 3), torch.ones(4, 6)
    f = Replayed(net)
    program(net, x)
    plain = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    program(f, x)
    assert same(plain, grads(*net.parameters()))


def test_backward_goes_through_the_graph_once_for_all_hits():
    runs = []

    class Counted(torch.autograd.Function):
        @staticmethod
        def forward(_, x):
            return 2 * x

        @staticmethod
        def backward(_, grad):
            runs.append(grad)
            return 2 * grad

    f = Replayed(lambda x: Counted.apply(x).sin())
    x = torch.ones(3, requires_grad=True)
    (f(x).sum() + f(x).sum() + f(x).sum()).backward()
    assert (f.calls, len(runs)) == (1, 1)
    torch.testing.assert_close(x.grad, 3 * 2 * torch.full((3,), 2.0).cos())
    f(x).sum().backward()
    assert len(runs) == 2


def test_a_hit_goes_back_as_often_as_asked():
    net, x = model(), torch.ones(2, 6)
    f = Replayed(net)
    y = f(x)
    for _ in range(3):
        y.sum().backward()
    plain = copy.deepcopy(net)
    plain.zero_grad()
    for _ in range(3):
        plain(x).sum().backward()
    assert same(grads(*net.parameters()), grads(*plain.parameters()))


def test_a_gradient_goes_to_the_tensor_of_the_call_that_is_differentiated():
    f = Replayed(lambda x: x.exp() * 2)
    first, second = (torch.linspace(0, 1, 4).requires_grad_() for _ in range(2))
    y, z = f(first), f(second)
    assert f.calls == 2  # a graph lies in the memory of its own tensors
    z.sum().backward()
    assert first.grad is None
    assert torch.equal(second.grad, 2 * second.detach().exp())
    y.square().sum().backward()
    assert first.grad is not None


def test_equal_weights_in_another_module_get_their_own_gradient():
    f = Replayed(lambda net, x: net(x))
    net, x = model(), torch.ones(2, 6)
    twin = copy.deepcopy(net)
    y, z = f(net, x), f(twin, x)
    assert f.calls == 2
    z.sum().backward()
    assert grads(*net.parameters()) == [None] * 4
    y.sum().backward()
    assert same(grads(*net.parameters()), grads(*twin.parameters()))


def test_a_tensor_that_is_an_argument_and_a_weight_is_told_apart():
    weight = nn.Parameter(torch.ones(3))
    holder = nn.ParameterList([weight])
    f = Replayed(lambda w, holder: (w * 2 * holder[0]).sum())
    y, other = f(weight, holder), torch.ones(3, requires_grad=True)
    y.backward()
    assert torch.equal(weight.grad, torch.full((3,), 4.0))
    weight.grad = None
    # Here they are two tensors: the recording of the first call does not fit.
    z = f(other, holder)
    z.backward()
    assert f.calls == 2
    assert torch.equal(weight.grad, torch.full((3,), 2.0))
    assert torch.equal(other.grad, torch.full((3,), 2.0))


def test_an_argument_that_depends_on_a_weight_of_the_call_is_not_counted_twice():
    plain, recorded = [], []
    for results in (plain, recorded):
        weight = torch.full((3, 3), 0.5, requires_grad=True)
        x = torch.eye(3, requires_grad=True)

        def head(h, weight=weight):
            return h @ weight

        f = Replayed(head) if results is recorded else head
        f(x @ weight).sum().backward()
        results += [weight.grad, x.grad]
    assert same(plain, recorded)


def test_gradients_pass_on_to_what_the_argument_was_made_of():
    trunk, head = nn.Linear(6, 6), model()
    x = torch.ones(2, 6)
    f = Replayed(head)
    h = trunk(x)
    (f(h) + f(h)).sum().backward()
    found = [p.grad.clone() for p in (*trunk.parameters(), *head.parameters())]
    trunk.zero_grad(), head.zero_grad()
    h = trunk(x)
    (head(h) + head(h)).sum().backward()
    for a, b in zip(found, grads(*trunk.parameters(), *head.parameters()), strict=True):
        torch.testing.assert_close(a, b)
    assert f.calls == 1


def test_an_argument_that_was_written_over_by_an_equal_one_is_asked_anew():
    f = Replayed(lambda x: x * 3)
    leaf, other = (torch.ones(2, requires_grad=True) for _ in range(2))
    x = leaf * 1
    y = f(x)
    with torch.no_grad():
        pass
    x.copy_(other)
    f(x).sum().backward()
    assert leaf.grad is None or not leaf.grad.any()
    assert torch.equal(other.grad, torch.full((2,), 3.0))
    assert y.requires_grad


@dataclass
class Pair:
    left: Tensor
    right: list[Tensor]


def test_nested_arguments_get_their_gradients():
    def nested(pair, *, extra):
        return {"sum": pair.left + pair.right[0] * extra["scale"][0], "n": 3}

    f = Replayed(nested)
    a, b, c = (torch.full((2,), float(n), requires_grad=True) for n in (1, 2, 3))
    for _ in range(2):
        out = f(Pair(a, [b]), extra={"scale": (c,)})
        assert out["n"] == 3
        out["sum"].sum().backward()
    assert f.calls == 1
    assert [x.grad.tolist() for x in (a, b, c)] == [[2, 2], [6, 6], [4, 4]]
    assert replace(Pair(a, [b])).left is a


def test_grad_asks_for_parameters_by_name():
    net, x = model(), torch.ones(2, 6)
    f = Replayed(net)
    f(x)
    y = f(x).sum()
    found = torch.autograd.grad(y, list(net.parameters()))
    plain = torch.autograd.grad(net(x).sum(), list(net.parameters()))
    assert same(list(found), list(plain))
    y = f(x).sum()
    y.backward(inputs=[net[0].bias])
    assert net[0].weight.grad is None
    assert torch.equal(net[0].bias.grad, plain[1])


def test_unused_arguments_get_no_gradient():
    f = Replayed(lambda x, _: x * 2)
    x, unused = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    f(x, unused)
    f(x, unused).sum().backward()
    assert unused.grad is None


def test_nothing_that_requires_grad_gives_no_recording():
    f = Replayed(lambda x: x + 1)
    assert not f(torch.ones(2)).requires_grad
    assert (f.last, f.reasons) == (None, [])
    frozen = model().requires_grad_(requires_grad=False)
    assert not Replayed(frozen)(torch.ones(1, 6)).requires_grad


def test_twenty_steps_of_momentum_are_equal_to_the_bit():
    def train(remembered: bool):
        net = model()
        step = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        f = Replayed(net, captured=(net,)) if remembered else net
        x, target = torch.linspace(-1, 1, 24).reshape(4, 6), torch.ones(4, 3)
        for _ in range(20):
            step.zero_grad()
            # Two losses a step, the second from the recording.
            (f(x) - target).square().mean().backward()
            (f(x) + target).abs().mean().backward()
            step.step()
        return [p.detach() for p in net.parameters()], f

    plain, _ = train(remembered=False)
    recorded, f = train(remembered=True)
    assert same(plain, recorded)
    assert f.calls == 20


def test_twenty_steps_of_dropout_are_equal_to_the_bit():
    def train(remembered: bool):
        torch.manual_seed(3)
        net = nn.Sequential(nn.Linear(6, 8), nn.Dropout(), nn.Linear(8, 3))
        step = torch.optim.SGD(net.parameters(), lr=0.1)
        f = Replayed(net, key=lambda x: torch.get_rng_state().numpy().tobytes()) if remembered else net
        x = torch.ones(4, 6)
        for _ in range(20):
            step.zero_grad()
            f(x).square().mean().backward()
            step.step()
        return [p.detach() for p in net.parameters()]

    assert same(train(remembered=False), train(remembered=True))


def test_double_backward_raises_and_says_what_to_do():
    f = Replayed(lambda x: x**3)
    x = torch.ones(2, requires_grad=True)
    (slope,) = torch.autograd.grad(f(x).sum(), x, create_graph=True)
    assert torch.equal(slope, torch.full((2,), 3.0))
    with pytest.raises(RuntimeError, match="__wrapped__"):
        slope.sum().backward()


def test_double_backward_through_several_inputs_raises():
    f = Replayed(lambda x, y: x**3 * y)
    x, y = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    slopes = torch.autograd.grad(f(x, y).sum(), (x, y), create_graph=True)
    with pytest.raises(RuntimeError, match="twice"):
        sum(slope.sum() for slope in slopes).backward()


def test_autocast_records_and_agrees_with_the_plain_program():
    net, x, other = model(), torch.linspace(-1, 1, 12).reshape(2, 6), torch.ones(2, 6)
    plain = copy.deepcopy(net)
    f = Replayed(net, key=lambda x: float(x.sum()))
    with torch.autocast("cpu", torch.bfloat16):
        y, z = f(x) + f(x), f(other)
        a, b = plain(x) + plain(x), plain(other)
        assert torch.equal(y, a)
        assert torch.equal(z, b)
    (y.sum() + z.sum()).backward()
    (a.sum() + b.sum()).backward()
    assert (f.calls, f.reasons) == (2, [])
    for p, q in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=2e-2, atol=2e-2)
