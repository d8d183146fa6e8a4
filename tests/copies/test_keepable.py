"""Whether a result can be given back a second time."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import time
import types

import pytest

from memograd import Memo
from memograd._copies import _keepable
from memograd._copies._keepable import unkeepable
from memograd._errors import MemogradWarning


@dataclasses.dataclass
class Output:
    value: object


class Plain:
    def __init__(self, value):
        self.value = value


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


class Raising:
    @property
    def requires_grad(self):
        raise ValueError


INSIDE = [
    lambda v: v, lambda v: [v], lambda v: (1, (v,)), lambda v: {"a": [{"b": v}]}, lambda v: [0] * 500 + [v], Output,
    lambda v: [Output([v])], lambda v: collections.deque([v]), lambda v: collections.defaultdict(list, a=v),
]  # fmt: skip


@pytest.mark.parametrize("inside", INSIDE)
@pytest.mark.parametrize("make", [iter, lambda x: (i for i in x), lambda x: itertools.tee(x)[0], lambda x: map(str, x)])
def test_an_iterator_anywhere_in_the_containers_of_a_result_is_found(inside, make):
    assert "used up by being read" in unkeepable(inside(make([1, 2])))


@pytest.mark.parametrize("inside", [*INSIDE, Plain, Slotted, lambda v: Plain([Slotted({1: v})])])
def test_a_graph_anywhere_in_a_result_is_found(inside):
    torch = pytest.importorskip("torch")
    weight = torch.ones(3, requires_grad=True)
    assert "requires grad" in unkeepable(inside(weight * 2))
    assert unkeepable(inside((weight * 2).detach())) == ""


@pytest.mark.parametrize(
    "value",
    [1, 1.0, "a", [1, [2.0, ("a", None)]], {1: {2: 3}}, Plain(iter(())), Raising(), [Raising()],
        Plain, len, types, [dict]],
)  # fmt: skip
def test_plain_values_objects_and_functions_are_kept(value):
    assert unkeepable(value) == ""


def test_a_module_and_its_optimizer_are_kept():
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(2, 2)
    assert unkeepable([model, Plain(torch.optim.SGD(model.parameters(), 0.1))]) == ""


def test_a_result_that_contains_itself_is_walked_once():
    value = [1]
    value.append({"again": value})
    assert unkeepable(value) == ""
    assert "used up" in unkeepable([value, iter(())])


def test_more_than_so_many_objects_are_not_kept(monkeypatch):
    monkeypatch.setattr(_keepable, "MOST", 100)
    assert unkeepable([[] for _ in range(90)]) == ""
    assert "more than 100 objects" in unkeepable([[] for _ in range(200)])
    assert unkeepable(list(range(100_000))) == ""


def test_two_hundred_thousand_pairs_are_walked_in_half_a_second():
    pairs = [(index, float(index)) for index in range(200_000)]
    began = time.process_time()
    assert unkeepable(pairs) == ""
    assert time.process_time() - began < 0.5


def test_two_of_an_iterator_come_back_whole():
    twice = Memo()(lambda n: itertools.tee(range(n)))
    with pytest.warns(MemogradWarning, match="used up"):
        assert [[*map(list, twice(2))], [*map(list, twice(2))]] == [[[0, 1], [0, 1]]] * 2
