"""What is equal in type and content is one call, whatever object it is, however it came about and is passed."""

from __future__ import annotations

import collections
import copy
import decimal
import functools
import os
import pathlib
import random
import threading
import types

import numpy as np
import pytest
import torch
from tests.promises.never_stale.generated import Pair, Point
from torch import nn

from memograd import File, Memo, fingerprint


class Thing:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)

    @functools.cached_property
    def area(self):
        return 1


class Named(Thing):
    def __eq__(self, other):
        raise AssertionError

    def __hash__(self):
        raise AssertionError


def add(x):
    return x + 1


def closing(x):
    return lambda: x


def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.LSTM(4, 2))


def loaded():
    made = net()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
    made.load_state_dict(net().state_dict())
    return made


def ran(made):
    made[:1](torch.ones(2, 3)).sum().backward()
    return made


def hooked(made):
    made[0].register_forward_hook(print).remove()
    return made


def optimizer():
    made = torch.optim.Adam(net().parameters())
    for parameter in made.param_groups[0]["params"]:
        parameter.grad = torch.ones_like(parameter)
    made.step()
    return made


def twice(part):
    return [part, part]


def shrunk(mapping):
    del mapping["b"]
    return mapping


def later(ordered):
    ordered.move_to_end("a")
    ordered.move_to_end("b")
    return ordered


GIVEN = {"a": 1}

# A value, and one that is equal to it.
EQUAL = {
    "an integer that is computed": (lambda: 10**40, lambda: int("1" + "0" * 40)),
    "a float that is computed": (lambda: 0.5, lambda: float("5e-1")),
    "NaN of another object": (lambda: float("nan"), lambda: float("nan")),
    "text that is put together": (lambda: "memoization", lambda: "memo" + "ization" * len("a")),
    "bytes that are put together": (lambda: b"ab", lambda: bytes([97, 98])),
    "a list": (lambda: [1, [2.5, "a"]], lambda: list((1, list((2.5, "a"))))),  # noqa: C410 - made otherwise
    "a list that has shrunk": (lambda: [1], lambda: [1, 2][:1]),
    "a tuple": (lambda: (1, (2,)), lambda: tuple([1, tuple([2])])),  # noqa: C409 - made otherwise
    "parts that are one object": (lambda: twice([1]), lambda: [[1], [1]]),
    "a dictionary": (lambda: {"a": 1, "b": 2}, lambda: dict([("a", 1), ("b", 2)])),  # noqa: C406 - made otherwise
    "a dictionary that was longer": (lambda: {"a": 1}, lambda: shrunk({"b": 2, "a": 1})),
    "a set in another order": (lambda: {"a", "b", "c"}, lambda: {"c", "b", "a"}),
    "a set that collides": (lambda: {0, 8, 16}, lambda: {16, 8, 0}),
    "a set of sets": (lambda: {frozenset("ab"), frozenset("c")}, lambda: {frozenset("c"), frozenset("ba")}),
    "an ordered dictionary": (
        lambda: collections.OrderedDict(a=1, b=2),
        lambda: later(collections.OrderedDict(b=2, a=1)),
    ),
    "a deque": (lambda: collections.deque([1, 2]), lambda: collections.deque((1, 2))),
    "what was counted": (lambda: collections.Counter("aab"), lambda: collections.Counter({"a": 2, "b": 1})),
    "a dataclass": (lambda: Point([1]), lambda: Point(x=[1], y=0)),
    "a named tuple": (lambda: Pair([1]), lambda: Pair(first=[1])),
    "an object": (lambda: Thing(a=[1]), lambda: Thing(a=[1])),
    "an object that compares as it likes": (lambda: Named(a=1), lambda: Named(a=1)),
    "a namespace": (lambda: types.SimpleNamespace(a=1), lambda: types.SimpleNamespace(**GIVEN)),
    "a path": (lambda: pathlib.Path("a/b"), lambda: pathlib.Path("a") / "b"),
    "a decimal": (lambda: decimal.Decimal("0.1"), lambda: decimal.Decimal(1) / 10),
    "a range": (lambda: range(3), lambda: range(0, 3, 1)),
    "a closure": (lambda: closing([1]), lambda: closing([1])),
    "a lambda": (lambda: lambda x: x + 1, lambda: lambda x: x + 1),
    "a partial": (lambda: functools.partial(add, 1), lambda: functools.partial(add, 1)),
    "a memoized function": (lambda: add, lambda: Memo()(add)),
    "a stream": (lambda: random.Random(1), lambda: random.Random(1)),
    "an array": (lambda: np.arange(6.0), lambda: np.array([0.0, 1, 2, 3, 4, 5])),
    "an array within another": (lambda: np.arange(3), lambda: np.arange(9)[3:6] - 3),
    "an array with a dimension of one": (lambda: np.ones((3, 1)), lambda: np.ones((1, 3)).T),
    "an array of objects": (lambda: np.array([1, "a"], object), lambda: np.array([1, "a"], object)),
    "a generator of arrays": (lambda: np.random.default_rng(1), lambda: np.random.default_rng(1)),
    "a tensor": (lambda: torch.arange(6.0), lambda: torch.arange(6).float()),
    "a tensor within another": (lambda: torch.ones(3), lambda: torch.ones(9)[3:6]),
    "a tensor that was turned and turned back": (lambda: torch.ones(2, 3), lambda: torch.ones(3, 2).t().contiguous()),
    "a tensor that is detached": (lambda: torch.ones(3), lambda: torch.ones(3, requires_grad=True).detach()),
    "a tensor that is no leaf": (
        lambda: torch.ones(3, requires_grad=True),
        lambda: torch.ones(3, requires_grad=True) * 1,
    ),
    "a tensor that shares its memory": (lambda: torch.ones(3), lambda: torch.from_numpy(np.ones(3, np.float32))),
    "a lazy conjugate": (lambda: torch.tensor([1 - 1j]).conj_physical().conj(), lambda: torch.tensor([1 + 1j]).conj()),
    "a sparse tensor": (lambda: torch.eye(3).to_sparse(), lambda: torch.eye(3).to_sparse()),
    "a generator of tensors": (lambda: torch.Generator().manual_seed(1), lambda: torch.Generator().manual_seed(1)),
    "a module": (net, net),
    "a module with the weights of another": (net, loaded),
    "a module that was run back": (net, lambda: ran(net())),
    "a module that was evaluated": (net, lambda: net().eval().train()),
    "a module that had a hook": (net, lambda: hooked(net())),
    "a module in another precision and back": (net, lambda: net().double().float()),
    "an optimizer": (optimizer, optimizer),
}
UNCOPIED = {"a lambda", "a closure", "a memoized function", "a tensor that is no leaf", "a generator of tensors"}
UNCOPIED |= {"a lazy conjugate"}  # its copy is no lazy one

# A value, and what can be done to it without changing what it is.
IN_PLACE = {
    "an item that is put back": (lambda: [1, 2], lambda value: value.append(value.pop())),
    "a key that is put back": (lambda: {"a": 1}, lambda value: value.update(a=value.pop("a"))),
    "a capacity": (lambda: list(range(3)), lambda value: (value.extend(range(100)), value.__delitem__(slice(3, None)))),
    "an equal attribute": (lambda: Thing(a=1), lambda value: setattr(value, "a", int("1"))),
    "a gradient": (
        lambda: torch.ones(2, requires_grad=True),
        lambda value: setattr(value, "grad", torch.ones(2)),
    ),
    "a bit that is flipped back": (lambda: torch.zeros(3), lambda value: value.add_(1).sub_(1)),
    "a view": (lambda: torch.zeros(3), lambda value: value.view(3, 1)),
    "a mode of a module": (net, lambda value: (value.eval(), value.train())),
    "a module that is frozen and thawed": (net, lambda value: value.requires_grad_(False).requires_grad_()),
    "a gradient that is set to zero": (optimizer, lambda value: value.zero_grad()),
    "weights in one piece of memory": (net, lambda value: value[3].flatten_parameters()),
    "a hook that is removed": (net, hooked),
    "a state that is read": (lambda: random.Random(1), lambda value: value.setstate(value.getstate())),
}

# A call, and another way to write it.
CALLS = {
    "an argument by its name": (lambda f: f(1), lambda f: f(a=1)),
    "a default": (lambda f: f(1), lambda f: f(1, 2)),
    "a default by its name": (lambda f: f(1), lambda f: f(1, b=2)),
    "a default of a keyword": (lambda f: f(1), lambda f: f(1, c=3)),
    "names in another order": (lambda f: f(a=1, b=5, c=6), lambda f: f(c=6, b=5, a=1)),
    "names before and after": (lambda f: f(1, 5, c=6), lambda f: f(1, c=6, b=5)),
    "a tuple that is taken apart": (lambda f: f(1, 5), lambda f: f(*[1, 5])),
    "a dictionary that is taken apart": (lambda f: f(1), lambda f: f(**GIVEN)),
    "a partial": (lambda f: f(1, 5), lambda f: functools.partial(f, b=5)(1)),
    "all defaults": (lambda f: f(1), lambda f: f(a=1, b=2, c=3)),
}

# What is done outside, which no call depends on that does not ask for it.
OUTSIDE = {
    "the seed of the streams": lambda: (random.seed(1), np.random.seed(1), torch.manual_seed(1)),
    "a draw": lambda: (random.random(), np.random.rand(), torch.rand(1)),
    "the environment": lambda: os.environ.update(A_VARIABLE_OF_THIS_TEST="1"),
    "the directory": lambda: os.chdir("/"),
    "a mode that was entered and left": lambda: torch.no_grad()(lambda: None)(),
    "how tensors print": lambda: torch.set_printoptions(precision=2),
    "another tensor": lambda: torch.ones(3).add_(1),
    "a function of the same name": lambda: Memo()(lambda x, y=0: x).cache_key(1),
}

remembered = Memo(strict=True)(lambda x, y=0: x)


@pytest.fixture(autouse=True)
def _surroundings_of_their_own(monkeypatch, tmp_path):
    monkeypatch.setenv("A_VARIABLE_OF_THIS_TEST", "0")
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        yield
    torch.set_printoptions(profile="default")


@pytest.mark.parametrize("name", EQUAL)
def test_equal_values_are_one_call(name):
    value, equal = EQUAL[name]
    for wrap in (lambda value: value, lambda value: [{"a": (0, Point(value))}]):
        assert remembered.cache_key(wrap(value())) == remembered.cache_key(wrap(equal()))
        assert fingerprint(wrap(value())) == fingerprint(wrap(equal()))


@pytest.mark.parametrize("name", sorted(EQUAL.keys() - UNCOPIED))
def test_a_copy_is_the_same_call(name):
    value = EQUAL[name][0]()
    assert remembered.cache_key(copy.deepcopy(value)) == remembered.cache_key(value)
    assert fingerprint(copy.deepcopy(value)) == fingerprint(value)


@pytest.mark.parametrize("name", IN_PLACE)
def test_what_leaves_a_value_as_it_was_leaves_the_call(name):
    make, act = IN_PLACE[name]
    value = make()
    key, digest = remembered.cache_key(value), fingerprint(value)
    act(value)
    assert remembered.cache_key(value) == key
    assert fingerprint(value) == digest


@pytest.mark.parametrize("name", CALLS)
def test_one_call_is_one_call_however_it_is_written(name):
    def f(a, b=2, *, c=3):
        return a, b, c

    first, second = CALLS[name]
    bound = Memo(strict=True)(f)
    assert first(f) == second(f)
    assert first(bound.cache_key) == second(bound.cache_key)
    assert first(bound) == second(bound) == first(f)
    assert bound.cache_info()[:2] == (1, 1)


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_happens_elsewhere_is_nothing_to_a_call(name):
    values = [1, [1.5, {"a": {1, 2}}], torch.ones(2), net()]
    keys = [remembered.cache_key(value) for value in values]
    OUTSIDE[name]()
    assert [remembered.cache_key(value) for value in values] == keys


def test_another_thread_asks_for_the_same_call():
    values = [1, [1.5, {"a": {1, 2}}], torch.ones(2), net()]
    keys = [remembered.cache_key(value) for value in values]
    found = []
    thread = threading.Thread(target=lambda: found.extend(map(remembered.cache_key, values)))
    thread.start()
    thread.join()
    assert found == keys


def test_a_file_of_the_same_content_is_the_same_file(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text("work")
    key, digest = remembered.cache_key(File(tmp_path / "a")), fingerprint(File(tmp_path / "a"))
    assert remembered.cache_key(File(tmp_path / "b")) == key
    os.utime(tmp_path / "a", (1, 1))
    assert remembered.cache_key(File(str(tmp_path / "a"))) == key
    assert fingerprint(File(tmp_path / "b")) == digest
