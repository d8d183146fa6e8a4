"""Two values have one fingerprint exactly if they are equal in type, to the bit, by a comparison that knows no digest.

And that fingerprint is the same in every process.
"""

from __future__ import annotations

import collections
import math
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.promises.never_stale import generated
from tests.promises.never_stale.generated import Pair, Point

from memograd import Memo, fingerprint


class Twin(NamedTuple):
    first: object
    second: object


class Text(str):
    __slots__ = ()


def same(one: Any, other: Any) -> bool:
    """Compare two values by exact type and bits, part by part: slow, simple, independent."""
    if type(one) is not type(other):
        return False
    for kinds, compare in COMPARED.items():
        if isinstance(one, kinds):
            return compare(one, other)
    return one == other


def _in_turn(one: Any, other: Any) -> bool:
    return len(one) == len(other) and all(map(same, one, other))


def _as_sets(one: Any, other: Any) -> bool:
    return len(one) == len(other) and all(any(same(each, match) for match in other) for each in one)


def _as_arrays(one: Any, other: Any) -> bool:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    if isinstance(one, torch.Tensor):
        return bytes(one.reshape(-1).view(torch.uint8).tolist()) == bytes(other.reshape(-1).view(torch.uint8).tolist())
    return _in_turn(one.ravel().tolist(), other.ravel().tolist()) if one.dtype == object else _bits(one) == _bits(other)


def _bits(array: Any) -> list[bytes]:
    return [each.tobytes() for each in array.ravel()]


COMPARED: dict[Any, Any] = {
    float: lambda one, other: struct.pack("<d", one) == struct.pack("<d", other),
    complex: lambda one, other: same((one.real, one.imag), (other.real, other.imag)),
    dict: lambda one, other: _in_turn(list(one.items()), list(other.items())),
    (set, frozenset): _as_sets,
    Point: lambda one, other: same((one.x, one.y), (other.x, other.y)),
    (list, tuple, collections.deque): _in_turn,
    (torch.Tensor, np.ndarray, np.generic): _as_arrays,
}

numbers = st.sampled_from([0, 1, 2**40, -1, 0.0, -0.0, 1.0, math.nan, -math.nan, True, False, 1j, complex(-0.0, 1)])
texts = st.sampled_from(["", "a", "b", "ab", b"", b"a", Text("a"), "a" * 60, b"a" * 60, None, "None"])
plain = numbers | texts
shapes = st.sampled_from([(), (0,), (1,), (2,), (1, 2), (2, 1), (2, 0)])


def tensor(dtype: str, shape: tuple[int, ...], number: float) -> torch.Tensor:
    return torch.full(shape, number).to(getattr(torch, dtype))


def array(dtype: str, shape: tuple[int, ...], number: float) -> Any:
    return np.full(shape, number).astype(dtype)


few = st.sampled_from([0.0, -0.0, 1.0, math.inf])
tensors = st.builds(
    tensor,
    st.sampled_from(["float32", "float64", "bfloat16", "float8_e5m2", "complex64"]),
    shapes,
    few,
) | st.builds(tensor, st.sampled_from(["int32", "uint8", "bool", "int64"]), shapes, st.sampled_from([0, 1]))
arrays = st.builds(array, st.sampled_from(["f4", "f8", ">f4", "c8"]), shapes, few) | st.builds(
    array, st.sampled_from(["i4", "u4", "?", "U3", "O"]), shapes, st.sampled_from([0, 1])
)
scalars = st.sampled_from([np.float64(1), np.float32(1), np.int64(1), np.bool_(True), np.float64(-0.0), np.float64(0)])
leaves = plain | tensors | arrays | scalars

CONTAINERS = {
    "list": lambda parts: parts,
    "tuple": tuple,
    "deque": collections.deque,
    "dict": lambda parts: {index // 2: part for index, part in enumerate(parts)},
    "backwards": lambda parts: {-index: part for index, part in enumerate(parts)},
    "pair": lambda parts: Pair(parts[0], parts[1:]),
    "twin": lambda parts: Twin(parts[0], parts[1:]),
    "point": lambda parts: Point(parts[0], parts[1:]),
}
# A tree whose leaves are numbers: those of two values in one tree differ in one place or in none.
trees = st.recursive(
    st.just("leaf"),
    lambda inner: st.tuples(st.sampled_from(sorted(CONTAINERS)), st.lists(inner, min_size=1, max_size=3)),
    max_leaves=8,
)


def grown(tree: Any, held: list[Any]) -> Any:
    """Put values into the leaves of a tree."""
    if tree == "leaf":
        return held.pop()
    kind, parts = tree
    return CONTAINERS[kind]([grown(part, held) for part in parts])


def assert_told_apart(one: Any, other: Any) -> None:
    """Assert that fingerprints and keys tell two values apart exactly if they differ."""
    equal = same(one, other)
    assert (fingerprint(one) == fingerprint(other)) is equal
    assert (ask.cache_key(one) == ask.cache_key(other)) is equal


ask = Memo(strict=True)(lambda x: x)


@settings(deadline=None, max_examples=400)
@given(trees, st.data())
def test_values_of_one_shape_have_one_fingerprint_exactly_if_each_leaf_is_the_same(tree, data):
    held = data.draw(st.lists(leaves, min_size=8, max_size=8))
    place, leaf = data.draw(st.tuples(st.integers(0, 7), leaves))
    edited = [*held[:place], leaf, *held[place + 1 :]]
    assert_told_apart(grown(tree, held[:]), grown(tree, edited))


@settings(deadline=None, max_examples=200)
@given(trees, trees, st.lists(leaves, min_size=8, max_size=8))
def test_values_of_two_shapes_have_one_fingerprint_exactly_if_all_is_the_same(tree, other, held):
    assert_told_apart(grown(tree, held[:]), grown(other, held[:]))


@settings(deadline=None, max_examples=300)
@given(leaves, leaves)
def test_two_leaves_have_one_fingerprint_exactly_if_they_are_the_same(one, other):
    assert_told_apart(one, other)


hashable = st.recursive(plain, lambda inner: st.tuples(inner) | st.frozensets(inner, max_size=2), max_leaves=4)


@settings(deadline=None, max_examples=300)
@given(st.sets(hashable, max_size=4), st.sets(hashable, max_size=4))
def test_two_sets_have_one_fingerprint_exactly_if_they_have_the_same_elements(one, other):
    assert_told_apart(one, other)


def test_the_comparison_itself_tells_what_it_should():
    different = [0, 0.0, -0.0, False, None, "", b"", Text(""), math.nan, -math.nan, [0], (0,), [0.0], {0}, {0.0}]
    different += [frozenset({0}), {0: 1, 1: 2}, {1: 2, 0: 1}, Pair(0, 1), Twin(0, 1), Point(0, 1), np.float64(0)]
    different += [torch.zeros(1), torch.zeros(2), torch.zeros(1, 1), torch.zeros(1).int(), -torch.zeros(1), np.zeros(1)]
    different += [np.zeros(1, "f4"), np.zeros(1, ">f4"), -np.zeros(1), np.zeros((1, 1)), collections.deque([0])]
    for place, one in enumerate(different):
        assert [same(one, other) for other in different] == [place == at for at in range(len(different))]


def test_other_processes_with_other_hash_seeds_give_the_same_fingerprints():
    here = generated.digests()
    assert len(here) == generated.COUNT
    assert len(set(here)) > 90
    printed = [_printed(seed) for seed in ("1", "2")]
    assert printed[0][0] != printed[1][0]
    assert printed[0][1:] == printed[1][1:] == here


def _printed(seed: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, str(Path(generated.__file__))],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()
