"""A value as rows: each container is a row of cells, written after what it holds, so that depth costs no stack.

A cell is a plain value, or `[n]`: what row n gives. What occurs twice is one row; what holds itself is referred to
before its row is written, which those that read it allow for what can be made first and filled later.
"""

from __future__ import annotations

import sys
from ctypes import string_at
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, cast

import msgspec

from memograd.codec import _plain, _plain_write
from memograd.codec._base import BY_KIND, DEPTH, Refused, Unencodable
from memograd.codec._format import SIZES, Part, write

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

_text = msgspec.json.Encoder().encode
_LOW, _HIGH = -(1 << 63), (1 << 64) - 1
_SHORT = 4096  # bytes: so many are copied in less time than a view takes
_OPEN, _SEALED = -1, -2  # in place of a row's number while it is not written: may be referred to, may not


class Memory(NamedTuple):
    """Memory that a tensor or an array looks at.

    Attributes:
        place: "cpu", or the name of a device.
        low: the address of its lowest byte.
        high: the address after its highest.
        first: the address of the first element.
        plain: its elements lie one after the other, in their order.
        dtype: what the format calls the type that its bytes are written as.
        name: what the library calls the type of its elements, None if the format's name says it.
        shape: of the tensor.
        strides: of the tensor, None for the usual ones.
        owner: what keeps the memory.
    """

    place: str
    low: int
    high: int
    first: int
    plain: bool
    dtype: str
    name: Any
    shape: Sequence[int]
    strides: Sequence[int] | None
    owner: Any


class Frame:
    """A container of which some of the children are written."""

    __slots__ = ("cells", "children", "facts", "kind", "names", "ref")

    def __init__(
        self,
        kind: str,
        children: Collection[Any],
        facts: dict[str, Any] | None,
        ref: list[int],
        names: Callable[[int], str] | None,
    ) -> None:
        self.kind = kind
        self.children = iter(children)
        self.facts = facts
        self.ref = ref
        self.names = names
        self.cells: list[Any] = []


class Writer:
    """Writes one value."""

    __slots__ = ("_careful", "_frames", "_keep", "_memories", "_parts", "_rows", "_slots")

    def __init__(self, *, careful: bool) -> None:
        self._careful: Final = careful
        self._rows: list[list[Any]] = []
        self._frames: list[Frame] = []
        self._slots: dict[int, list[int]] = {}
        self._keep: list[Any] = []
        self._parts: list[Part] = []
        self._memories: list[tuple[str, int, int, Memory, list[Any]]] = []

    def write(self, value: Any) -> list[bytes | memoryview]:
        """Give the pieces of the file."""
        try:
            root = self._cell(value)
            while self._frames:
                self._step(self._frames[-1])
            self._settle()
            return write(_text([root, self._rows]).decode(), self._parts)
        except Refused as refused:
            raise Unencodable(self._path(), str(refused)) from refused.__cause__

    # What the ways of the kinds call.

    def row(self, kind: str, cells: list[Any], facts: dict[str, Any] | None = None) -> list[int]:
        """Write a row of plain cells."""
        self._rows.append([kind, cells, facts] if facts else [kind, cells])
        return [len(self._rows) - 1]

    def open(
        self,
        kind: str,
        children: Collection[Any],
        facts: dict[str, Any] | None = None,
        names: Callable[[int], str] | None = None,
        *,
        sealed: bool = True,
    ) -> list[int]:
        """Begin a container.

        Args:
            kind: the row's kind.
            children: what it holds.
            facts: what else is to be said.
            names: how a path names the n-th of the children.
            sealed: it cannot be made before what it holds.
        """
        if len(self._frames) >= DEPTH:
            raise Refused(f"nested deeper than {DEPTH}")
        ref = [_SEALED if sealed else _OPEN]
        self._keep.append(children)
        self._frames.append(Frame(kind, children, facts, ref, names))
        return ref

    def part(self, dtype: str, shape: Sequence[int], piece: bytes | memoryview) -> int:
        """Add a tensor to the file; give its number."""
        nbytes = piece.nbytes if isinstance(piece, memoryview) else len(piece)
        self._parts.append(Part(dtype, shape, nbytes, piece))
        return len(self._parts) - 1

    def memory(self, kind: str, memory: Memory, facts: dict[str, Any]) -> list[int]:
        """Write a row of what looks at memory, which may be looked at by others as well."""
        row: list[Any] = [kind, [0], facts]
        self._memories.append((memory[0], memory[1], len(self._rows), memory, row))
        self._rows.append(row)
        return [len(self._rows) - 1]

    def mark(self, **facts: Any) -> None:
        """Say more of the memory that was written last."""
        self._rows[-1][2] |= facts

    # How it goes through a value.

    def _step(self, frame: Frame) -> None:
        frames, cells, careful = self._frames, frame.cells, self._careful
        depth = len(frames)
        child: Any
        for child in frame.children:
            kind: Any = type(child)  # pyright: ignore[reportUnknownVariableType]
            if (kind is str and not careful) or child is None or kind is bool:
                cells.append(child)
                continue
            cells.append(None)  # so that a path counts the child that is refused
            cells[-1] = self._cell(child)
            if len(frames) > depth:
                return
        frames.pop()
        frame.ref[0] = len(self._rows)
        self._rows.append([frame.kind, cells, frame.facts] if frame.facts else [frame.kind, cells])

    def _cell(self, value: Any) -> Any:
        kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
        if kind is int and _LOW <= value <= _HIGH:
            return value
        if kind is float and value - value == 0.0:
            return value
        if value is None or kind is bool or (kind is str and not (self._careful and _plain.odd(value))):
            return value
        known = self._slots.get(id(value))
        if known is not None:
            if known[0] == _SEALED:
                raise Refused(f"{_plain.a(kind)} that holds itself")
            return known
        way = _plain_write.WRITE.get(kind) or _find(kind)
        ref = self._slots[id(value)] = way(self, value)
        return ref

    def _path(self) -> str:
        path = "result"
        for frame in self._frames:
            at = len(frame.cells) - 1
            if at >= 0:
                path += frame.names(at) if frame.names else f"[{at}]"
        return path

    # How memory is shared out.

    def _settle(self) -> None:
        groups = [[item[3:] for item in group] for group in _overlapping(self._memories)]
        for group in groups:
            if len(group) == 1 and group[0][0].plain:
                self._alone(*group[0])
            else:
                self._together(group, max(memory.high for memory, _ in group))

    def _alone(self, memory: Memory, row: list[Any]) -> None:
        _, low, high, _, _, dtype, name, shape, _, _ = memory
        nbytes = high - low
        if name is not None:
            row[2] |= {"dtype": name, "shape": list(shape)}
            shape = [nbytes // SIZES[dtype]]
        small = nbytes <= _SHORT and memory.place == "cpu"
        piece = string_at(low, nbytes) if small else _piece([memory], low, high)
        row[1][0] = len(self._parts)
        self._parts.append(Part(dtype, shape, nbytes, piece))
        if not row[2]:
            row.pop()

    def _together(self, group: list[tuple[Memory, list[Any]]], high: int) -> None:
        first = group[0][0]
        alike = all(memory.dtype == first.dtype for memory, _ in group)
        dtype = first.dtype if alike and not (high - first.low) % SIZES[first.dtype] else "U8"
        piece = _piece([memory for memory, _ in group], first.low, high)
        number = self.part(dtype, [(high - first.low) // SIZES[dtype]], piece)
        for memory, row in group:
            row[1][0] = number
            row[2] |= {"at": memory.first - first.low, "shape": list(memory.shape)}
            if memory.strides is not None:
                row[2]["strides"] = list(memory.strides)
            if memory.name is not None or dtype != memory.dtype:
                row[2]["dtype"] = memory.name if memory.name is not None else memory.dtype


_Item: TypeAlias = "tuple[str, int, int, Memory, list[Any]]"


def _overlapping(items: list[_Item]) -> list[list[_Item]]:
    """Put together what looks at the same memory, in the order of the rows: equal values make equal files."""
    groups: list[list[_Item]] = []
    where, high = "", 0
    for item in sorted(items) if len(items) > 1 else items:  # by place and address: what overlaps stands together
        if item[1] < high and item[0] == where:
            groups[-1].append(item)
            high = max(high, item[3].high)
        else:
            groups.append([item])
            where, high = item[0], item[3].high
    if len(groups) > 1:
        groups.sort(key=_row_of)
    return groups


def _row_of(group: list[_Item]) -> int:
    return min(item[2] for item in group) if len(group) > 1 else group[0][2]


def _piece(group: list[Memory], low: int, high: int) -> bytes | memoryview:
    if low == high:
        return b""
    if group[0].place != "cpu":
        from memograd.codec._torch import fetch

        return fetch([memory.owner for memory in group], low, high)
    if high - low <= _SHORT:
        return string_at(low, high - low)
    from memograd.codec._numpy import over

    return over(low, high - low, [memory.owner for memory in group])


# What knows a library's kinds, once that library is loaded.
_ADAPTERS: Final = {"numpy": "memograd.codec._numpy", "torch": "memograd.codec._torch"}
_loaded: set[str] = set()


def _find(kind: type[Any]) -> Callable[[Writer, Any], list[int]]:
    for library, adapter in _ADAPTERS.items():
        if library in sys.modules and library not in _loaded:
            _plain_write.WRITE.update(import_module(adapter).WRITE)
            _loaded.add(library)
    way = _plain_write.WRITE.get(kind)
    if way is not None:
        return way
    if kind in BY_KIND:
        return _custom
    from memograd.codec._classes import find

    return find(kind)


def _custom(writer: Writer, value: Any) -> list[int]:
    custom = BY_KIND[type(value)]
    try:
        packed = custom.pack(value)
    except Exception as error:
        raise Refused(f"{_plain.a(cast('Any', type(value)))} whose pack raised {type(error).__name__}") from error
    return writer.open("custom", [packed], {"name": custom.name}, _plain.inside)


def encode(value: Any) -> list[bytes | memoryview]:
    """Give the bytes of a value, in pieces that one after the other are a safetensors file.

    The memory of tensors and arrays is not copied: pieces are views of it, and keep it. Whoever writes them
    does so before the value is changed.

    Raises:
        Unencodable: the value holds something that cannot be written as data; the message names where.
    """
    try:
        return Writer(careful=False).write(value)
    except UnicodeEncodeError:  # a lone surrogate, which no JSON holds: look at each text
        return Writer(careful=True).write(value)
