"""compare(remembered, fresh): where two results first differ, to the bit; None where they do not."""

from __future__ import annotations

import collections
import copy
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import io
import math
import pathlib
import random
import re
import struct
import threading
import weakref
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from memograd import Memo
from memograd._verify import compare

NAN = float("nan")
OTHER_NAN = struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000001))[0]


class Point:
    def __init__(self, x, y):
        self.x = x
        self.y = y


class Slotted:
    __slots__ = ("__hidden", "name")

    def __init__(self, hidden, name="n"):
        self.__hidden = hidden
        self.name = name


@dataclasses.dataclass
class Batch:
    ids: object
    mask: object = None


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Rate(float):
    pass


class Pair(NamedTuple):
    a: object
    b: object


def cyclic(last):
    value = [1, {"self": None, "last": last}]
    value[1]["self"] = value
    return value


def deep(last, depth=20_000):
    for _ in range(depth):
        last = [last]
    return last


ALIKE = {
    "numbers": lambda: (1, 1.5, True, None, 2j, "a", b"b", NAN, -0.0, ...),
    "containers": lambda: [(1, [2]), {"a": {1, 2}, (1, 2): frozenset("ab")}, collections.deque([1]), bytearray(b"x")],
    "a cycle": lambda: cyclic(3),
    "objects": lambda: [Point(1, [2]), Slotted(3), Batch([1]), Colour.RED, Level.LOW, Rate(2.0), Pair(1, 2)],
    "values with equality": lambda: [
        dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc), decimal.Decimal("NaN"), fractions.Fraction(1, 3),
        pathlib.PurePath("a/b"), range(3), re.compile("a"), slice(1, 2),
    ],
    "a path that has been looked into": lambda: [pathlib.PurePath("a/b"), str(pathlib.PurePath("a/b"))],
    "handles": lambda: [io.StringIO("x"), threading.Lock(), object(), weakref.ref(Point)],
    "functions": lambda: [lambda x: x, Point(1, 2).__init__, len, Point],
    "arrays": lambda: [
        np.array([1.0, NAN, -0.0]), np.zeros((0, 3)), np.array(3), np.float32(2), np.array(["a", "bc"]),
        np.array([1, "a", None], object), np.zeros(2, [("x", "i4"), ("y", "f8")]), np.ma.array([1, 2], mask=[0, 1]),
        np.arange(6).reshape(2, 3).T, np.array(["2026-01-01"], "M8[D]"), np.zeros(3, "S1"),
    ],
    "tensors": lambda: [
        torch.tensor([1.0, NAN]), torch.zeros(0, 3), torch.tensor(3), torch.zeros(2, 3).t(),
        torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.complex128).conj(), torch.eye(3).to_sparse(),
        torch.eye(2).to_sparse_csr(), torch.empty(2, device="meta"), torch.tensor([True]),
        torch.ones(2, dtype=torch.float8_e4m3fn),
        torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), nn.Parameter(torch.ones(2)), torch.Size([1, 2]),
    ],
    "a module": lambda: _module(),
}  # fmt: skip


def _module():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(0.1))


@pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning", "ignore:.*torch.ao.quantization:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*quantize:UserWarning")
@pytest.mark.parametrize("name", ALIKE)
def test_two_computations_of_the_same_are_alike(name):
    state = torch.get_rng_state(), random.getstate()
    assert compare(ALIKE[name](), ALIKE[name]()) is None
    if name != "a module":
        assert torch.equal(torch.get_rng_state(), state[0])
    assert random.getstate() == state[1]


@pytest.mark.parametrize(
    ("remembered", "fresh", "said"),
    [
        (1, 2, "the result is 1, computed again 2"),
        (1, True, "the result is of type int, computed again of type bool"),
        (0.0, -0.0, "the result is 0.0, computed again -0.0"),
        ([1, 2, 3], [1, 5, 4], "[1] is 2, computed again 5"),
        ([1, 2], [1, 2, 3], "the result is of length 2, computed again of length 3"),
        ((1,), [1], "the result is of type tuple, computed again of type list"),
        ({"loss": [1.0, 2.0]}, {"loss": [1.0, 2.5]}, "['loss'][1] is 2.0, computed again 2.5"),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, "the result has key 'a', computed again 'b' in its place"),
        ({1: 0}, {1.0: 0}, "the result has key 1, computed again 1.0 in its place"),
        ({1, 2}, {1, 3}, "the result holds 2 only as remembered"),
        ({1}, {1, 3}, "the result holds 3 only as computed again"),
        ({1}, {True}, "the result holds 1 only as remembered"),
        (bytearray(b"a"), bytearray(b"b"), "the result is b'a', computed again b'b'"),
        ("a" * 100, "a" * 70 + "b" * 30, f"the result has {'a' * 20!r} at 70, computed again {'b' * 20!r}"),
        ("a" * 100, "a" * 90, f"the result has {'a' * 10!r} at 90, computed again ''"),
        (Point(1, {"k": [2]}), Point(1, {"k": [3]}), ".y['k'][0] is 2, computed again 3"),
        (Slotted(1), Slotted(2), "._Slotted__hidden is 1, computed again 2"),
        (Batch([1]), Batch([2]), ".ids[0] is 1, computed again 2"),
        (Pair(1, 2), Pair(1, 3), "[1] is 2, computed again 3"),
        (Colour.RED, Colour.BLUE, "._value_ is 1, computed again 2"),
        (Level.LOW, Level.HIGH, "the result is 1, computed again 2"),
        (Rate(1.0), Rate(2.0), "the result is 1.0, computed again 2.0"),
        (decimal.Decimal("1.0"), decimal.Decimal("2.0"), "the result is \"Decimal('1.0')\", computed again"),
        (cyclic(3), cyclic(4), "[1]['last'] is 3, computed again 4"),
        (Point, Batch, ".__qualname__ is 'Point', computed again 'Batch'"),
    ],
)
def test_the_first_difference_is_named(remembered, fresh, said):
    assert compare(remembered, fresh).startswith(said)


def test_an_attribute_that_only_one_has_is_named():
    fresh = Point(1, 2)
    fresh.z = 3
    assert compare(Point(1, 2), fresh) == "the result has .z only when computed again"
    assert compare(fresh, Point(1, 2)) == "the result has .z only as remembered"


def test_nan_is_told_from_nan_of_other_bits():
    assert compare([NAN], [OTHER_NAN]) == "[0] is nan, computed again nan"
    assert compare(np.array([NAN]), np.array([OTHER_NAN])).startswith(
        "the result at [0] is nan, computed again nan of other bits"
    )


def changed(make, change):
    value = make()
    change(value)
    return make(), value


@pytest.mark.parametrize(
    ("remembered", "fresh", "said"),
    [
        (np.zeros(2), np.zeros(2, "f4"), "the result is of dtype float64, computed again of dtype float32"),
        (np.zeros((2, 3)), np.zeros((3, 2)), "the result is of shape (2, 3), computed again of shape (3, 2)"),
        (np.zeros((2, 3)), np.zeros((3, 2)).T, "the result is of strides (24, 8), computed again of strides (8, 16)"),
        (np.eye(3), np.diag([1.0, 2, 3]), "the result at [1, 1] is 1.0, computed again 2.0 (2 of 9 elements differ)"),
        (np.array(1), np.array(2), "the result at [()] is 1, computed again 2 (1 of 1 elements differ)"),
        (np.array([1, "a"], object), np.array([1, "b"], object), "[1] is 'a', computed again 'b'"),
        (np.float32(1), np.float64(1), "the result is of type float32, computed again of type float64"),
        (np.float32(1), np.float32(2), "the result is np.float32(1.0), computed again np.float32(2.0)"),
        (np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 2], mask=[0, 0]), "._mask at [1] is True, computed again F"),
    ],
)
def test_arrays_are_compared_by_dtype_shape_strides_and_bits(remembered, fresh, said):
    assert compare(remembered, fresh).startswith(said)


@pytest.mark.parametrize(
    ("remembered", "fresh", "said"),
    [
        (torch.zeros(2), torch.zeros(2).double(), "the result is of dtype torch.float32, computed again of"),
        (torch.zeros(2, 3), torch.zeros(3, 2), "the result is of shape (2, 3), computed again of shape (3, 2)"),
        (torch.zeros(2), torch.zeros(2, device="meta"), "the result is of device cpu, computed again of device meta"),
        (torch.zeros(2), torch.zeros(2, requires_grad=True), "the result is of requires_grad False, computed"),
        (torch.zeros(2, 3), torch.zeros(3, 2).t(), "the result is of strides (3, 1), computed again of strides (1, 2)"),
        (torch.eye(3), torch.eye(3).to_sparse(), "the result is of layout torch.strided, computed again"),
        (torch.eye(3), 2 * torch.eye(3), "the result at [0, 0] is 1.0, computed again 2.0 (3 of 9 elements differ)"),
        (torch.eye(3).bfloat16(), torch.eye(3).bfloat16().fill_(1), "the result at [0, 1] is 0.0, computed again 1.0"),
        (torch.tensor(1j), torch.tensor(1j).conj(), "the result at [()] is 1j, computed again -1j"),
        (torch.eye(3).to_sparse(), (2 * torch.eye(3)).to_sparse(), "._values() at [0] is 1.0, computed again 2.0"),
        (torch.tensor([0.0]), torch.tensor([-0.0]), "the result at [0] is 0.0, computed again -0.0"),
        (nn.Parameter(torch.ones(1)), torch.ones(1), "the result is of type Parameter, computed again of type Tensor"),
        ({"x": (torch.ones(2),)}, {"x": (torch.tensor([1.0, 3]),)}, "['x'][0] at [1] is 1.0, computed again 3.0"),
    ],
)  # fmt: skip
def test_tensors_are_compared_by_dtype_shape_device_strides_and_bits(remembered, fresh, said):
    assert compare(remembered, fresh).startswith(said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m[0].weight.data.add_(1), "._modules['0']._parameters['weight'] at [0, 0] is "),
        (
            lambda m: m[1].running_mean.add_(1),
            "._modules['1']._buffers['running_mean'] at [0] is 0.0, computed",
        ),
        (lambda m: setattr(m[2], "p", 0.5), "._modules['2'].p is 0.1, computed again 0.5"),
        (lambda m: m.eval(), ".training is True, computed again False"),
    ],
)
def test_modules_are_compared_by_their_parameters_buffers_and_attributes(change, said):
    assert compare(*changed(_module, change)).startswith(said)


@pytest.mark.parametrize("last", [1, 2])
def test_no_depth_is_too_deep(last):
    said = compare(deep(1), deep(last))
    assert said is None if last == 1 else said.endswith("[0] is 1, computed again 2")


def test_what_raises_while_it_is_compared_is_said_and_does_not_raise():
    class Odd:
        __slots__ = ()

        def __eq__(self, other):
            raise RuntimeError("no")

        __hash__ = None

    assert compare([Odd()], [Odd()]) == "[0] could not be compared: RuntimeError('no')"


plain = st.one_of(st.integers(-3, 3), st.floats(width=16), st.booleans(), st.none(), st.text("ab", max_size=2))
nested = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
        st.builds(Point, inner, inner),
        st.lists(st.floats(width=32), max_size=3).map(torch.tensor),
        st.lists(st.integers(-2, 2), max_size=3).map(lambda items: np.array(items, "i8")),
    ),
    max_leaves=8,
)


@given(nested)
def test_a_copy_is_alike(value):
    assert compare(value, copy.deepcopy(value)) is None


@given(st.lists(plain, min_size=1, max_size=5), st.data())
def test_whatever_is_put_in_place_of_an_element_is_found(items, data):
    at = data.draw(st.integers(0, len(items) - 1))
    other = data.draw(nested)
    same = type(other) is type(items[at]) and (
        other == items[at] and math.copysign(1, other or 1) == math.copysign(1, items[at] or 1)
        if isinstance(other, float)
        else other == items[at]
    )
    assume(not same)
    assume(not (isinstance(other, float) and isinstance(items[at], float)))
    assert compare(items, [*items[:at], other, *items[at + 1 :]]).startswith(f"[{at}] ")


@pytest.mark.parametrize("part", [0, 0.01, 0.3, 1])
def test_the_part_of_hits_that_was_asked_for_is_computed_again_and_draws_nothing_from_the_program(part):
    ran = []

    @Memo()(version="1", verify=part)
    def f(x):
        ran.append(x)
        return x

    f(1)
    before = random.getstate(), torch.get_rng_state()
    for _ in range(4000):
        f(1)
    assert abs((len(ran) - 1) / 4000 - part) < 0.04
    assert part not in (0, 1) or len(ran) == 1 + 4000 * part
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


@pytest.mark.parametrize(
    ("part", "error"), [(-0.1, ValueError), (1.1, ValueError), (NAN, ValueError), ("x", TypeError)]
)
def test_a_part_that_is_none_is_refused(part, error):
    with pytest.raises(error, match=r"expected a part of the hits, from 0 to 1; write verify=0\.01"):
        Memo()(verify=part)
