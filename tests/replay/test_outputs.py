"""What comes back is like what the plain call gives: views, shared memory, strides, flags, other values."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from tests.replay.replayed import Replayed
from torch import nn
from torch.utils._pytree import register_pytree_node

Two = namedtuple("Two", "a b")  # noqa: PYI024 - as users write it


def hit(f, *args):
    """Call twice, and give what the second call gave."""
    first = f(*args)
    second = f(*args)
    # The first result is alive until here: it keeps the recording.
    del first
    return second


def test_other_values_and_integers_come_beside():
    f = Replayed(lambda x: {"y": x * 2, "at": x.argmax(), "n": 3, "s": ["a", None], "mask": x > 1})
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    out = hit(f, x)
    assert f.calls == 1
    assert (out["n"], out["s"], out["at"].item(), out["mask"].tolist()) == (3, ["a", None], 1, [False, True])
    assert [out[name].requires_grad for name in ("y", "at", "mask")] == [True, False, False]
    out["s"].append("spoiled")
    out["at"].zero_()
    again = f(x)
    assert (again["s"], again["at"].item()) == (["a", None], 1)


def test_an_argument_given_back_is_that_argument():
    f = Replayed(lambda x, y: (x, y * 2, y))
    x, y = torch.ones(2), torch.ones(2, requires_grad=True)
    a, b, c = hit(f, x, y)
    assert a is x
    assert c is y
    (b + c).sum().backward()
    assert y.grad.tolist() == [3, 3]


def test_a_view_of_an_argument_is_a_view_of_the_argument_of_the_hit():
    f = Replayed(lambda x: (x[1:], x * 2))
    x = torch.arange(3.0).requires_grad_()
    h = x * 1
    k = h[:]
    first = f(h)
    view, _ = f(k)
    assert f.calls == 1
    first = [part.clone() for part in first]
    k.data[2] = 9
    assert view.tolist() == [1, 9]
    view.sum().backward()
    assert x.grad.tolist() == [0, 1, 1]
    assert first[0].tolist() == [1, 2]


def test_a_detached_view_of_an_argument_shares_its_memory():
    f = Replayed(lambda x: (x.detach().view(2, 2), x * 2))
    x = torch.arange(4.0, requires_grad=True)
    view, _ = hit(f, x)
    assert not view.requires_grad
    assert view.data_ptr() == x.data_ptr()


def test_a_parameter_given_back_is_that_parameter():
    net = nn.Linear(2, 2)
    f = Replayed(lambda x: (net(x), net.weight, net.weight.t()), captured=(net,))
    _, weight, turned = hit(f, torch.ones(1, 2))
    assert f.calls == 1
    assert weight is net.weight
    turned.sum().backward()
    assert torch.equal(net.weight.grad, torch.ones(2, 2))


def test_results_that_share_memory_share_it_again_and_gradients_follow():
    def plain(x):
        qkv = x.exp()
        return qkv[:, :1], qkv[:, 1:], qkv

    f = Replayed(plain)
    x = torch.linspace(0, 1, 6).reshape(2, 3).requires_grad_()
    a, b, whole = hit(f, x)
    assert f.calls == 1
    assert a.data_ptr() == whole.data_ptr()
    assert a.stride() == (3, 1)
    b.mul_(5)
    assert torch.equal(whole[:, 1:], b)
    whole.sum().backward()
    torch.testing.assert_close(x.grad, x.detach().exp() * torch.tensor([1.0, 5.0, 5.0]))


def test_chunks_are_recorded():
    f = Replayed(lambda x: x.exp().chunk(3))
    x = torch.linspace(0, 1, 6).requires_grad_()
    q, k, v = hit(f, x)
    assert f.calls == 1
    (q.sum() + 2 * k.sum() + 3 * v.sum()).backward()
    torch.testing.assert_close(x.grad, x.detach().exp() * torch.tensor([1.0, 1, 2, 2, 3, 3]))


def test_integers_that_share_memory_share_it_again():
    f = Replayed(lambda x: (x * 2, *(x > 0).long().split(2)))
    _, a, b = hit(f, torch.ones(4, requires_grad=True))
    assert b.data_ptr() - a.data_ptr() == 16


def test_one_tensor_twice_is_one_tensor_twice():
    def plain(x):
        y = x * 2
        return [y, y, Two(y, 1)]

    a, b, two = hit(Replayed(plain), torch.ones(2, requires_grad=True))
    assert a is b is two.a


@pytest.mark.parametrize(
    "strided",
    [
        lambda y: y.t(),
        lambda y: y[:, ::2],
        lambda y: y[:, :1].expand(3, 4),
        lambda y: y[0, 0],
        lambda y: y[:0],
        lambda y: y.unflatten(1, (2, 2)).transpose(0, 2),
        lambda y: y.unsqueeze(0).unsqueeze(0).contiguous(memory_format=torch.channels_last),
    ],
)
def test_strides_dtype_and_bits_are_the_plain_ones(strided):
    plain = lambda x: strided(x.double().sin())  # noqa: E731
    f = Replayed(plain)
    x = torch.linspace(0, 1, 12).reshape(3, 4).requires_grad_()
    expected, found = plain(x), hit(f, x)
    assert f.calls == 1
    assert (found.stride(), found.dtype, found.shape) == (expected.stride(), expected.dtype, expected.shape)
    assert torch.equal(found, expected)
    assert found.requires_grad
    (gradient,) = torch.autograd.grad(found.square().sum(), x)
    assert torch.equal(gradient, torch.autograd.grad(expected.square().sum(), x)[0])


def test_a_detached_result_keeps_its_status():
    f = Replayed(lambda x: (x * 2, (x * 3).detach()))
    y, z = hit(f, torch.ones(2, requires_grad=True))
    assert (y.requires_grad, z.requires_grad) == (True, False)


def test_a_detached_alias_of_a_result_shares_its_memory():
    def plain(x):
        y = x * 2
        return y, y.detach()

    y, z = hit(Replayed(plain), torch.ones(2, requires_grad=True))
    assert z.data_ptr() == y.data_ptr()
    assert not z.requires_grad


@pytest.mark.parametrize(
    ("f", "reason"),
    [
        (lambda x: torch.distributions.Normal(x * 2, 1.0), "Normal"),
        (lambda x: (x * 2, torch.ones(2, requires_grad=True)), "leaf"),
        (lambda x: (x * 2).to_sparse(), "sparse"),
        (lambda x: (x * 2, nn.Linear(2, 2)), "Linear"),
    ],
)
def test_what_cannot_be_put_together_again_is_the_plain_calls_own(f, reason):
    replayed = Replayed(f)
    x = torch.ones(2, requires_grad=True)
    torch.manual_seed(0)
    out = replayed(x)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    f(x)
    assert torch.equal(drawn, torch.rand(1))
    assert reason in replayed.reasons[0]
    if isinstance(out, torch.distributions.Normal):
        out.mean.sum().backward()
        assert x.grad.tolist() == [2, 2]


def test_a_value_that_contains_itself_is_the_plain_calls_own():
    def plain(x):
        loop = [x * 2]
        loop.append(loop)
        return loop

    f = Replayed(plain)
    x = torch.ones(2, requires_grad=True)
    f(x)[1][0].sum().backward()
    assert x.grad.tolist() == [2, 2]
    assert "contains itself" in f.reasons[0]


def test_subclasses_of_parameter_are_seen_as_what_they_are():
    def plain(w):
        assert isinstance(w, nn.Parameter)
        assert w.note == "mine"
        return w * 2

    w = nn.Parameter(torch.ones(2))
    w.note = "mine"
    hit(Replayed(plain), w).sum().backward()
    assert w.grad.tolist() == [2, 2]


@dataclass(frozen=True)
class Output:
    last: torch.Tensor
    note: str = "mine"


class Registered:
    """As outputs of transformers are: their library tells torch how to take them apart."""

    def __init__(self, last):
        self.last = last


register_pytree_node(
    Registered,
    lambda out: ([out.last], None),
    lambda parts, _: Registered(*parts),
    serialized_type_name="tests.Registered",
)


@pytest.mark.parametrize("kind", [Output, Registered])
def test_results_of_other_classes_are_put_together_again(kind):
    f = Replayed(lambda x: kind(x * 2))
    x = torch.ones(2, requires_grad=True)
    out = hit(f, x)
    assert f.calls == 1
    assert type(out) is kind
    out.last.sum().backward()
    assert x.grad.tolist() == [2, 2]
