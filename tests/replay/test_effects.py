"""What a call does beside its result is done as by the plain program: once a call, and to what it was given."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from tests.replay.replayed import Replayed
from torch import nn

from memograd import Memo


class Opaque:
    """What nobody can take apart."""

    def __init__(self, value):
        self.value = value


@dataclass
class Batch:
    x: Any
    seen: int = 0


def opaque(ran):
    def f(x):
        ran.append(1)
        return Opaque(x**3)

    return f, lambda f, x: f(x).value.sum().backward()


def opaque_differentiated_twice(ran):
    def f(x):
        ran.append(1)
        return Opaque(x**3)

    def program(f, x):
        (slope,) = torch.autograd.grad(f(x).value.sum(), x, create_graph=True)
        slope.sum().backward()

    return f, program


def marks_a_dataclass(ran):
    def f(batch):
        ran.append(1)
        batch.seen += 1
        batch.note = "mine"
        return batch.x * 2

    def program(f, x):
        batch = Batch(x)
        f(batch).sum().backward()
        return batch.seen, batch.note

    return f, program


def notes_beside_the_fields(ran):
    def f(batch):
        ran.append(1)
        batch.note = "mine"
        return batch.x * 2

    def program(f, x):
        batch = Batch(x)
        f(batch).sum().backward()
        return batch.note

    return f, program


def fills_a_list(ran):
    def f(xs):
        ran.append(1)
        xs.append(xs[0] * 2)
        return xs[-1] * 2

    def program(f, x):
        xs = [x]
        f(xs).sum().backward()
        return xs[1].tolist()

    return f, program


def renames_in_a_dictionary(ran):
    def f(named):
        ran.append(1)
        named["new"] = named.pop("old")
        return named["new"] * 2

    def program(f, x):
        named = {"old": x}
        f(named).sum().backward()
        return list(named)

    return f, program


def gives_back_a_plain_list(ran):
    def f(x, steps):
        ran.append(1)
        return x * 2, steps

    def program(f, x):
        steps = [1, 2]
        y, found = f(x, steps)
        y.sum().backward()
        return found is steps

    return f, program


def gives_back_its_list(ran):
    def f(xs):
        ran.append(1)
        return {"y": xs[0] * 2, "xs": xs}

    def program(f, x):
        xs = [x]
        found = f(xs)
        (found["y"] + found["xs"][0]).sum().backward()
        return found["xs"] is xs

    return f, program


def gives_one_list_twice(ran):
    def f(x):
        ran.append(1)
        ys = [x * 2]
        return ys, ys

    def program(f, x):
        first, second = f(x)
        first[0].sum().backward()
        return first is second

    return f, program


def retains(ran):
    def f(h):
        ran.append(1)
        h.retain_grad()
        return h * 2

    def program(f, x):
        f(x).sum().backward()
        return x.grad.tolist()

    return f, program


def notes_on_its_result(ran):
    def f(x):
        ran.append(1)
        y = x * 2
        y.note = "mine"
        return y

    def program(f, x):
        y = f(x)
        y.sum().backward()
        return y.note

    return f, program


def notes_on_its_argument(ran):
    def f(x):
        ran.append(1)
        x.count = getattr(x, "count", 0) + 1
        return x * 2

    def program(f, x):
        f(x).sum().backward()
        return x.count

    return f, program


def hooks_its_argument(ran):
    def f(x):
        ran.append(1)
        x.register_hook(lambda grad: grad * 2)
        return x * 2

    return f, lambda f, x: f(x).sum().backward()


def conjugates(ran):
    def f(x):
        ran.append(1)
        z = x * (1 + 2j)
        return z, z.conj(), z.conj().imag

    def program(f, x):
        found = f(x)
        sum(part.abs().sum() for part in found).backward()
        bits = [part.detach().resolve_conj().resolve_neg().tolist() for part in found]
        return bits, [(part.is_conj(), part.is_neg()) for part in found]

    return f, program


def changes_its_argument(ran):
    def f(x):
        ran.append(1)
        x.mul_(2)
        return x + 1

    def program(f, x):
        try:
            f(x).sum().backward()
        except RuntimeError as error:
            return str(error)
        return x.tolist()

    return f, program


def goes_backward(ran):
    def f(x):
        ran.append(1)
        (x**2).sum().backward(retain_graph=True)
        return x * 3

    return f, lambda f, x: f(x).sum().backward()


def is_a_leaf(ran):
    def f(x):
        ran.append(1)
        return x * (2 if x.is_leaf else 3)

    return f, lambda f, x: f(x).sum().backward()


def net_with_a_hook(stash):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2))
    net[0].register_forward_hook(lambda _module, _args, out: stash.__setitem__("features", out))
    return net


def stashes_features(ran):
    stash = {}
    net = net_with_a_hook(stash)

    def f(x):
        ran.append(1)
        return net(x)

    def program(f, x):
        net.zero_grad()
        (f(x).sum() + stash["features"].square().sum()).backward()
        return [p.grad.tolist() for p in net.parameters()]

    return f, program


def stashes_and_is_asked_for_gradients(ran):
    stash = {}
    net = net_with_a_hook(stash)

    def f(x):
        ran.append(1)
        return net(x)

    def program(f, x):
        loss = f(x).sum() + stash["features"].square().sum()
        return [grad.tolist() for grad in torch.autograd.grad(loss, [x, *net.parameters()])]

    return f, program


def writes_over_an_attribute(ran):
    class Keeps(nn.Linear):
        def forward(self, x):
            ran.append(1)
            self.features = super().forward(x)
            return self.features.tanh()

    torch.manual_seed(0)
    net = Keeps(2, 2)

    def program(f, x):
        net.zero_grad()
        (f(x).sum() + net.features.square().sum()).backward()
        return net.weight.grad.tolist()

    return net, program


CASES = [
    opaque,
    opaque_differentiated_twice,
    marks_a_dataclass,
    notes_beside_the_fields,
    fills_a_list,
    renames_in_a_dictionary,
    gives_back_a_plain_list,
    gives_back_its_list,
    gives_one_list_twice,
    retains,
    notes_on_its_result,
    notes_on_its_argument,
    hooks_its_argument,
    conjugates,
    changes_its_argument,
    goes_backward,
    is_a_leaf,
    stashes_features,
    stashes_and_is_asked_for_gradients,
    writes_over_an_attribute,
]


def repeated(case, remember, *, made):
    """Run a program four times; give what each gave, the gradient at the leaf, and how often the function ran."""
    ran, found = [], []
    f, program = case(ran)
    f = remember(f)
    leaf = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    for _ in range(4):
        leaf.grad = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found.append((program(f, leaf * 1 if made else leaf), None if leaf.grad is None else leaf.grad.tolist()))
    return found, len(ran)


@pytest.mark.parametrize("made", [False, True], ids=["leaf", "made"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_program_is_the_plain_one_to_the_bit(case, made):
    if case is retains and not made:
        pytest.skip("a leaf retains its gradient anyway")
    expected, _ = repeated(case, lambda f: f, made=made)
    found, _ = repeated(case, Memo(), made=made)
    assert found == expected


NEVER_REMEMBERED = [
    opaque,
    opaque_differentiated_twice,
    marks_a_dataclass,
    notes_beside_the_fields,
    fills_a_list,
    renames_in_a_dictionary,
    notes_on_its_result,
    notes_on_its_argument,
    hooks_its_argument,
    conjugates,
    changes_its_argument,
    stashes_features,
    writes_over_an_attribute,
]


@pytest.mark.parametrize("made", [False, True], ids=["leaf", "made"])
@pytest.mark.parametrize("case", NEVER_REMEMBERED, ids=lambda case: case.__name__)
def test_what_cannot_be_remembered_runs_once_a_call(case, made):
    assert repeated(case, Memo(), made=made)[1] == 4


@pytest.mark.parametrize(
    ("f", "reason"),
    [
        (lambda x: x.retain_grad() or x * 2, "retain_grad"),
        (lambda x: setattr(x, "note", 1) or x * 2, "attribute"),
        (lambda x: x.register_hook(print) and x * 2, "hook"),
        (lambda x: (x * 1j).conj(), "conjugate"),
    ],
)
def test_what_a_call_leaves_on_an_argument_is_said(f, reason):
    for trial in (True, False):
        replayed = Replayed(f, trial=trial)
        replayed(torch.ones(2, requires_grad=True) * 1)
        assert reason in replayed.reasons[0]
        assert replayed.calls == 2 - trial


def test_a_backward_within_that_reaches_weights_alone_is_seen():
    net = nn.Linear(2, 1)

    def f(x):
        net(x).sum().backward()
        return x * 2

    replayed = Replayed(f, captured=(net,))
    replayed(torch.ones(2, requires_grad=True))
    replayed(torch.ones(2, requires_grad=True))
    assert replayed.reasons == ["goes backward itself"] * 2
    assert net.bias.grad.item() == 2


def test_a_list_given_back_is_that_of_the_hit():
    f = Replayed(lambda x, ns: (x * 2, ns))
    x = torch.ones(2, requires_grad=True)
    first, mine = f(x, [1]), [1]
    y, found = f(x, mine)
    assert f.calls == 1
    assert found is mine
    assert torch.equal(y, first[0])


def test_one_list_given_twice_is_not_taken_for_two():
    f = Replayed(lambda x, a, b: (x * 2, b))
    x, one, other = torch.ones(2, requires_grad=True), [1], [1]
    first = f(x, one, one)
    assert first[1] is one
    assert f(x, one, other)[1] is other
    assert f.calls == 2


def test_what_is_one_list_among_arguments_is_one_for_the_function():
    x = torch.ones(2, requires_grad=True)
    xs, seen = [x * 1], []
    Replayed(lambda a, b: seen.append(a is b) or a[0] * 2)(xs, xs)
    assert seen == [True]
