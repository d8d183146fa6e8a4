"""Arrays and scalars of numpy, and views of memory at an address."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.lib.format import descr_to_dtype, dtype_to_descr

from memograd.codec._base import AXES, ELEMENTS, Refused, Unreadable
from memograd.codec._write import Memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memograd.codec._plain import Build, Way
    from memograd.codec._read import Reader
    from memograd.codec._write import Writer

_NAMES = {
    "BOOL": "|b1", "U8": "|u1", "I8": "|i1", "U16": "<u2", "I16": "<i2", "F16": "<f2",
    "U32": "<u4", "I32": "<i4", "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8",
}  # fmt: skip
_PLAIN = {form: np.dtype(name) for form, name in _NAMES.items()}
_FORMATS = {np.dtype(name): form for form, name in _NAMES.items()}
_KNOWN = re.compile(r"[<>|]?([biufcSUV]\d{1,9}|[mM]8(\[\d{0,9}(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?)")
_NESTED = 32  # of types in types


class _Over:
    """Memory at an address, as numpy asks for it."""

    __slots__ = ("__array_interface__", "owners")

    def __init__(self, address: int, nbytes: int, owners: Any) -> None:
        self.__array_interface__ = {"data": (address, False), "shape": (nbytes,), "typestr": "|u1", "version": 3}
        self.owners = owners


def over(address: int, nbytes: int, owners: Any) -> memoryview:
    """Give a view of memory, which keeps its owners."""
    return np.asarray(_Over(address, nbytes, owners)).data


@lru_cache(1024)
def usual(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Give the strides of elements that lie in their order."""
    strides: list[int] = []
    for length in reversed(shape):
        strides.append(size)
        size *= max(length, 1)
    return tuple(reversed(strides))


def extent(shape: Sequence[int], strides: Sequence[int]) -> tuple[int, int]:
    """Give how far elements reach below the first, and above it; both 0 where there are none."""
    low = high = 0
    for length, stride in zip(shape, strides, strict=True):
        if length == 0:
            return 0, 0
        if stride < 0:
            low += (length - 1) * stride
        else:
            high += (length - 1) * stride
    return low, high


# Writing


def _array(writer: Writer, value: Any) -> list[int]:
    facts = {} if value.flags.writeable else {"readonly": True}
    return writer.memory("array", _memory(value), facts)


def _scalar(writer: Writer, value: Any) -> list[int]:
    array = np.asarray(value)  # a scalar is a copy of an element, and so is this
    return writer.memory("scalar", _memory(array), {})


def _memory(value: Any) -> Memory:
    dtype, shape, strides = value.dtype, value.shape, value.strides
    form = _FORMATS.get(dtype) if dtype.isnative and dtype.metadata is None else None
    name = None if form is not None else _described(dtype)
    first, size = value.__array_interface__["data"][0], dtype.itemsize
    if strides == usual(shape, size):
        return Memory("cpu", first, first + value.nbytes, first, True, form or "U8", name, shape, None, value)
    low, high = extent(shape, strides)
    end = first + high + size if value.size else first
    return Memory("cpu", first + low, end, first, False, form or "U8", name, shape, strides, value)


def _described(dtype: Any) -> Any:
    if dtype.hasobject:
        raise Refused(f"a numpy array of {dtype}, which holds objects")
    if _annotated(dtype):
        raise Refused(f"a numpy array of {dtype}, which carries metadata")
    try:
        described = _jsonable(dtype_to_descr(dtype))
        same = _dtype(described) == dtype and _dtype(described).isalignedstruct == dtype.isalignedstruct
    except (ValueError, TypeError, Unreadable) as error:
        raise Refused(f"a numpy array of {dtype}") from error
    if not same:
        raise Refused(f"a numpy array of {dtype}")
    return described


def _annotated(dtype: Any) -> bool:
    """Tell whether a type, or one within it, carries metadata, which no comparison of types shows."""
    fields: dict[str, Any] = dtype.fields or {}
    inner: list[Any] = [] if dtype.base is dtype else [dtype.base]
    inner += [field[0] for field in fields.values()]
    return dtype.metadata is not None or any(map(_annotated, inner))


def _jsonable(described: Any) -> Any:
    return [_jsonable(item) for item in cast("Any", described)] if isinstance(described, (list, tuple)) else described


_ARRAY: dict[type, Way] = {np.ndarray: _array}


def _kinds(kind: type[Any]) -> set[type]:
    return {kind}.union(*map(_kinds, kind.__subclasses__()))


WRITE: dict[type, Way] = _ARRAY | {
    kind: _scalar for kind in _kinds(np.generic) if kind.__module__ == "numpy" and kind is not np.object_
}


def _write_dtype(writer: Writer, value: Any) -> list[int]:
    return writer.row("numpy", [], {"dtype": _described(value)})


WRITE.update({kind: _write_dtype for kind in _kinds(np.dtype) if kind is not np.dtype})


# Reading


def _dtype(described: Any) -> Any:
    dtype: Any = descr_to_dtype(_checked(described, 0))
    if dtype.hasobject:
        raise Unreadable("an array of objects")
    return dtype


def _checked(described: Any, depth: int) -> Any:
    """Give a type as numpy describes it: a name, or fields."""
    if depth > _NESTED:
        raise Unreadable("a type nested too deep")
    if type(described) is str and _KNOWN.fullmatch(described):
        return described
    parts: list[Any] = cast("Any", described) if type(described) is list else []
    if parts and type(parts[0]) is list:
        return [_field(field, depth) for field in parts]
    if len(parts) == 2:
        return _checked(parts[0], depth + 1), _shape(parts[1])
    raise Unreadable(f"an array of an odd type: {str(described)[:100]}")  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def _field(field: Any, depth: int) -> Any:
    name, described, *shape = field
    titled = tuple(_texts(cast("Any", name))) if type(name) is list else name
    if len(shape) > 1:
        raise Unreadable("a field of an odd form")
    return (titled, _checked(described, depth + 1), *map(_shape, shape))


def _texts(names: list[Any]) -> list[str]:
    if len(names) != 2 or not all(type(name) is str for name in names):
        raise Unreadable("a field of an odd name")
    return names


def _shape(shape: Any) -> tuple[int, ...]:
    if type(shape) is not list or not all(
        type(length) is int and 0 <= length < ELEMENTS for length in cast("Any", shape)
    ):
        raise Unreadable("a shape that is none")
    return tuple(cast("Any", shape))


class Geometry:
    """Where the elements of a tensor or an array are, having been checked.

    Attributes:
        at: the byte, in the data, of the first.
        shape: lengths.
        strides: in whatever they were written, None for the usual.
    """

    __slots__ = ("at", "shape", "strides")

    def __init__(self, reader: Reader, number: int, facts: dict[str, Any], size: int, unit: int) -> None:
        """Check it.

        Args:
            reader: has the file.
            number: the tensor of the file.
            facts: of the row.
            size: the bytes of an element.
            unit: the bytes of a stride of 1.
        """
        span = reader.span(number)
        self.shape = tuple(span.shape) if "shape" not in facts else _shape(facts["shape"])
        self.strides: Any = None
        offset = facts.get("at", 0)
        if "strides" in facts:
            self.strides = facts["strides"]
            if type(self.strides) is not list or not all(type(stride) is int for stride in cast("Any", self.strides)):
                raise Unreadable("strides that are none")
        if len(self.shape) > AXES or type(offset) is not int:
            raise Unreadable("a tensor of an odd form")
        self.at = span.begin + offset
        self._check(span.begin, span.end, size, unit)

    def _check(self, begin: int, end: int, size: int, unit: int) -> None:
        count = 1
        for length in self.shape:
            count *= length or 1
        if count * size >= ELEMENTS:
            raise Unreadable(f"a tensor of shape {self.shape[:9]}")
        strides = usual(self.shape, size // unit) if self.strides is None else self.strides
        low, high = extent(self.shape, strides)
        last = high * unit + (0 if 0 in self.shape else size)
        if self.at + low * unit < begin or self.at + last > end:
            raise Unreadable("a tensor that reaches out of its memory")


def _view(reader: Reader, items: list[Any], facts: dict[str, Any]) -> Any:
    (number,) = items
    named = facts.get("dtype", reader.span(number).dtype)
    dtype = _PLAIN[named] if type(named) is str and named in _PLAIN else _dtype(named)
    where = Geometry(reader, number, facts, dtype.itemsize, 1)
    if 0 in where.shape or not dtype.itemsize:
        strides = usual(where.shape, dtype.itemsize) if where.strides is None else where.strides
        return np.ndarray(where.shape, dtype, bytearray(dtype.itemsize), 0, strides)
    return np.ndarray(where.shape, dtype, reader.data, where.at, where.strides)


def _read_array(reader: Reader, items: list[Any], facts: dict[str, Any]) -> Any:
    array = _view(reader, items, facts)
    if facts and facts.get("readonly"):
        array.flags.writeable = False
    return array


def _read_scalar(reader: Reader, items: list[Any], facts: dict[str, Any]) -> Any:
    return _view(reader, items, facts).copy()[()]


def _read_numpy(_: Reader, __: list[Any], facts: dict[str, Any]) -> Any:
    return _dtype(facts["dtype"])


BUILD: dict[str, Build] = {"array": _read_array, "scalar": _read_scalar, "numpy": _read_numpy}
