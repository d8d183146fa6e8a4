"""Arrays of numpy: their memory, copies of it in the same strides, and views into it. Imported when numpy is loaded."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"


def takes(kind: type) -> bool:
    """Tell whether values of a type are arrays."""
    return issubclass(kind, np.ndarray)


def fixed(value: Array) -> str:
    """Say why an array comes back as the same object, or nothing."""
    return "a memmap, which shows a file: every call is given the same object" if isinstance(value, np.memmap) else ""


def extent(value: Array) -> tuple[str, int, int] | None:
    """Find which memory the elements are in: first byte, and the one behind the last."""
    if value.size == 0:
        return None
    first: int = value.__array_interface__["data"][0]
    steps = [(size - 1) * stride for size, stride in zip(value.shape, value.strides, strict=True)]
    low, high = sum(min(step, 0) for step in steps), sum(max(step, 0) for step in steps)
    return "cpu", first + low, first + high + value.itemsize


def copier(value: Array) -> Callable[[Array], Array]:
    """Find how an array that shares its memory with nothing else in the result is copied."""
    if type(value) is not np.ndarray or value.dtype.hasobject or value.dtype.kind == "T":
        return deepcopy
    if value.size and not _dense(value):
        return _copy_alone
    return _copy if value.flags.writeable else _copy_sealed


def _copy(value: Array) -> Array:
    return np.array(value, order="K")


def _copy_sealed(value: Array) -> Array:
    copy = np.array(value, order="K")
    copy.flags.writeable = False
    return copy


def _copy_alone(value: Array) -> Array:
    # Elements with holes between them, backwards, or one that stands for many: all the memory is copied.
    memory, (view,) = block([value])
    return view(memory)


def _dense(value: Array) -> bool:
    steps = sorted((stride, size) for size, stride in zip(value.shape, value.strides, strict=True) if size != 1)
    expected = value.itemsize
    for stride, size in steps:
        if stride != expected:
            return False
        expected *= size
    return len(steps) == value.ndim or value.flags.c_contiguous


def viewer(view: Array, base: Array) -> Callable[[Array], Array] | None:
    """Find how to make of an array like `base` what `view` is of `base`; None if it shows anything else."""
    if not (_plain(view) and _plain(base)) or not _within(view, base):
        return None
    make = _shower(view, _first(view) - _span(base)[0])
    shape, strides = base.shape, _strides(base)

    def show(other: Array) -> Array:
        if other.shape != shape or _strides(other) != strides:
            raise ValueError
        return make(_bytes(other))

    return show


def _plain(value: Array) -> bool:
    return type(value) is np.ndarray and not value.dtype.hasobject and value.dtype.kind != "T"


def _first(value: Array) -> int:
    return value.__array_interface__["data"][0]


def _strides(value: Array) -> list[int]:
    return [stride for size, stride in zip(value.shape, value.strides, strict=True) if size != 1]


def _shower(view: Array, offset: int) -> Callable[[Array], Array]:
    shape, dtype, strides, writeable = view.shape, view.dtype, view.strides, view.flags.writeable

    def show(memory: Array) -> Array:
        shown: Array = np.ndarray(shape, dtype, memory, offset, strides)  # type: ignore[call-overload]
        if not writeable:
            shown.flags.writeable = False
        return shown

    return show


def _within(view: Array, base: Array) -> bool:
    """Tell whether each byte that `view` shows is a byte that `base` shows: what is between them is another's."""
    low, high = _span(base)
    first, last = _span(view)
    if first < low or last > high:
        return False
    return _dense(base) or bool(np.isin(_addresses(view), _addresses(base)).all())


def _span(value: Array) -> tuple[int, int]:
    span = extent(value)
    return (0, 0) if span is None else span[1:]


def _addresses(value: Array) -> Array:
    at: Array = np.arange(value.itemsize) + _first(value)
    for size, stride in zip(value.shape, value.strides, strict=True):
        at = np.unique(np.add.outer(at, cast("Any", np.arange(size) * stride)))
    return at


class _Memory:
    """Bytes at an address, which `owner` keeps where they are."""

    def __init__(self, owner: object, low: int, high: int, *, writeable: bool) -> None:
        self.owner = owner
        self.__array_interface__ = {
            "data": (low, not writeable),
            "shape": (high - low,),
            "typestr": "|u1",
            "version": 3,
        }


def _bytes(value: Array) -> Array:
    low, high = _span(value)
    return np.asarray(_Memory(value, low, high, writeable=bool(value.flags.writeable)))


def block(values: Sequence[Array]) -> tuple[Array, list[Callable[[Array], Array]]]:
    """Find the memory that arrays share, as one array, and how to make each of them of its copy."""
    spans = [_span(value) for value in values]
    # Aligned down, so that what was aligned is so in the copy.
    low, high = min(first for first, _ in spans) & ~15, max(last for _, last in spans)
    start = min(first for first, _ in spans)
    memory: Array = np.empty(high - low, np.uint8)
    memory[start - low :] = np.asarray(_Memory(list(values), start, high, writeable=False))
    return memory, [_shower(value, _first(value) - low) for value in values]


def leader(values: Sequence[Array]) -> int | None:
    """Find which of the arrays that share memory the others are views of."""
    for at, value in enumerate(values):
        if value.base is None and _plain(value) and all(viewer(other, value) for other in values):
            return at
    return None


def mark(value: Array) -> object:  # noqa: ARG001 - as torch's
    """Note what tells that an array was written to: nothing; its content is all there is."""
    return None
