"""How many bytes a result keeps alive."""

from __future__ import annotations

import sys
import types

import pytest

from memograd.store._size import size_of


@pytest.mark.parametrize("value", [1, 2**1000, 1.5, "x" * 1000, b"x" * 1000, None, True, bytearray(500)])
def test_a_plain_value_takes_what_python_says(value):
    assert size_of(value) == sys.getsizeof(value)


def test_a_container_counts_what_it_holds():
    assert size_of(["x" * 10_000, {"a": b"y" * 10_000}]) > 20_000


def test_a_part_that_is_contained_twice_counts_once():
    part = "x" * 100_000
    assert size_of([part, part, [part]]) < 110_000


def test_a_long_list_is_estimated_within_a_fifth():
    values = [float(i) for i in range(100_000)]
    exact = sys.getsizeof(values) + sum(map(sys.getsizeof, values))
    assert size_of(values) == pytest.approx(exact, rel=0.2)
    assert size_of(dict.fromkeys(values)) == pytest.approx(sys.getsizeof(dict.fromkeys(values)) + 2.4e6, rel=0.2)


def test_nested_long_lists_are_estimated_within_a_half():
    values = [[float(i + j) for j in range(300)] for i in range(3000)]
    exact = sum(sys.getsizeof(row) + sum(map(sys.getsizeof, row)) for row in values)
    assert size_of(values) == pytest.approx(exact, rel=0.5)


def test_a_value_that_contains_itself_has_a_size():
    loop = ["x" * 5000]
    loop.append(loop)
    assert 5000 < size_of(loop) < 6000


def test_attributes_count():
    assert size_of(types.SimpleNamespace(a="x" * 10_000)) > 10_000


def test_a_size_that_raises_is_estimated():
    class Broken:
        def __sizeof__(self):
            raise ValueError

    assert 0 < size_of([Broken()]) < 1000


def test_an_array_takes_its_buffer_and_a_view_that_of_its_base():
    np = pytest.importorskip("numpy")
    array = np.zeros(100_000, "f4")
    assert size_of(array) == pytest.approx(400_000, rel=0.01)
    assert size_of(array[:3].copy()) < 1000
    assert size_of(array[:3]) == pytest.approx(400_000, rel=0.01)


def test_a_tensor_takes_its_storage_and_tensors_that_share_it_take_it_once():
    torch = pytest.importorskip("torch")
    tensor = torch.zeros(100_000)
    assert size_of(tensor) == pytest.approx(400_000, rel=0.01)
    assert size_of(tensor[:3]) == pytest.approx(400_000, rel=0.01)
    assert size_of(list(tensor.chunk(100))) == pytest.approx(400_000, rel=0.1)
    assert size_of({"a": [tensor, (torch.zeros(100_000),)]}) == pytest.approx(800_000, rel=0.01)
    assert size_of(torch.zeros(1000).to_sparse()) < 10_000


def test_a_class_or_a_module_that_is_returned_is_not_walked():
    assert size_of(dict) < 1000
    assert size_of([sys.modules["re"]]) < 10_000_000
