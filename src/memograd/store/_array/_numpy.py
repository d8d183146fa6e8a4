"""Rows of an array as NumPy's: many at once, by one `take` over the mapped memory."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from memograd.store._array._rows import LOOKS, mark_of

if TYPE_CHECKING:
    from memograd.store._array import Rows
    from memograd.store._array._place import Place

Indices = npt.NDArray[np.int64]


def gather(array: Rows, indices: Any) -> npt.NDArray[Any]:
    """Give rows, each as it was put."""
    at = within(array, indices)
    place, layout = array.place, array.layout
    data = np.frombuffer(place.data, np.uint8).reshape(layout.count, layout.nbytes)
    marks = np.frombuffer(place.marks, np.uint64)
    flat = at.reshape(-1)
    for _ in range(LOOKS):
        before = marks[flat]
        verify(array, flat, before)
        rows = data.take(flat, axis=0)
        if np.array_equal(marks[flat], before):
            break
    else:
        raise KeyError(int(flat[0]))
    return rows.view(numpy_type(layout.dtype)).reshape(*at.shape, *layout.row)


def verify(array: Rows, at: Indices, marks: npt.NDArray[np.uint64]) -> None:
    """Look at the rows that this process has not seen under these marks; raise `KeyError` for one that is not there."""
    verified = np.frombuffer(array.place.verified, np.uint64)
    for new in np.unique(at[(verified[at] != marks) | (marks == 0)]).tolist():
        if array.read(new) is None:
            raise KeyError(new)


def marks(array: Rows, indices: Any) -> npt.NDArray[np.uint64]:
    """Give the marks of rows."""
    return np.frombuffer(array.place.marks, np.uint64)[within(array, indices)]


def scatter(array: Rows, indices: Any, rows: Any) -> int:
    """Put rows; count them."""
    return len(scatter_marked(array, indices, rows))


def scatter_marked(array: Rows, indices: Any, rows: Any) -> npt.NDArray[np.uint64]:
    """Put rows, those that follow one another by one write; give their marks."""
    at = within(array, indices).reshape(-1)
    data = as_bytes(array, rows, len(at))
    marks = np.array([mark_of(index, row) for index, row in zip(at.tolist(), data, strict=True)], np.uint64)
    with array.lock:
        for start, end in runs(at):
            put_run(array.place, int(at[start]), data[start:end], marks[start:end])
    return marks


def put_run(place: Place, first: int, rows: npt.NDArray[np.uint8], marks: npt.NDArray[np.uint64]) -> None:
    """Put rows that follow one another: take their marks away, write them, set their marks."""
    place.set_marks(first, bytes(marks.nbytes))
    place.set_rows(first, rows.tobytes())
    place.set_marks(first, marks.tobytes())


def runs(at: Indices) -> list[tuple[int, int]]:
    """Cut indices where one is not the next."""
    cuts = [0, *(np.flatnonzero(np.diff(at) != 1) + 1).tolist(), len(at)]
    return [pair for pair in pairwise(cuts) if pair[0] < pair[1]]


def present(array: Rows, indices: Any) -> npt.NDArray[np.bool_]:
    """Tell which rows are there."""
    marks = np.frombuffer(array.place.marks, np.uint64)
    at = np.arange(array.layout.count) if indices is None else within(array, indices)
    there = marks[at] != 0
    verified = np.frombuffer(array.place.verified, np.uint64)
    for new in np.unique(at[there & (verified[at] != marks[at])]).tolist():
        if array.read(new) is None:
            there[at == new] = False
    return there


def within(array: Rows, indices: Any) -> Indices:
    """Read indices; refuse those that are none of the array's."""
    at = np.asarray(indices)
    if at.size and at.dtype.kind not in "iu":
        raise TypeError(f"an array got indices of {at.dtype}, expected integers")
    at = at.astype(np.int64)
    wrong = at[(at < 0) | (at >= array.layout.count)]
    if wrong.size:
        raise IndexError(f"an array got row {wrong[0]}, expected 0 to {array.layout.count - 1}")
    return at


def as_bytes(array: Rows, rows: Any, count: int) -> npt.NDArray[np.uint8]:
    """Give rows as bytes, one line each; refuse those of another shape, or that would change."""
    layout = array.layout
    wanted = numpy_type(layout.dtype)
    given = from_torch(rows, layout.dtype) if hasattr(rows, "__torch_function__") else np.asarray(rows)
    if given.shape != (count, *layout.row):
        raise ValueError(f"an array got rows of shape {given.shape}, expected {(count, *layout.row)}")
    if given.dtype != wanted:
        given = converted(given, layout.dtype, typed=hasattr(rows, "dtype"))
    return np.ascontiguousarray(given).view(np.uint8).reshape(count, layout.nbytes)


def converted(given: npt.NDArray[Any], dtype: str, *, typed: bool) -> npt.NDArray[Any]:
    """Give values in the array's type. What had a type, and would be another value in this one, is refused."""
    narrow = given.astype(numpy_type(dtype))
    rounded = given.dtype.kind == "f" and not typed
    if dtype == "bfloat16" or not (rounded or np.array_equal(narrow, given, equal_nan=given.dtype.kind in "fc")):
        raise ValueError(f"an array of {dtype} got rows of {given.dtype}, which it cannot hold; convert them first")
    return narrow


def to_bytes(array: Rows, row: Any) -> bytes:
    """Give the bytes of one row."""
    one = row[None] if hasattr(row, "shape") else [row]
    return as_bytes(array, one, 1).tobytes()


def from_bytes(array: Rows, row: bytes) -> Any:
    """Give one row that may be written to; a number as Python's."""
    value = np.frombuffer(bytearray(row), numpy_type(array.layout.dtype)).reshape(array.layout.row)
    return value if array.layout.row else value.item()


def from_torch(rows: Any, dtype: str) -> npt.NDArray[Any]:
    """Give a tensor's values; a bfloat16's as the bits that they are, for which NumPy has no type."""
    from memograd.store._array import _torch

    return _torch.to_numpy(rows, dtype)


def numpy_type(dtype: str) -> np.dtype[Any]:
    """Give NumPy's type of a name; for bfloat16, which it does not know, that of its bits."""
    return np.dtype("int16" if dtype == "bfloat16" else dtype)
