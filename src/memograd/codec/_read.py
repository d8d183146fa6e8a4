"""Rows back to a value, one after the other. Whatever the bytes are, the outcome is a value or an `Unreadable`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from memograd.codec import _plain, _plain_read
from memograd.codec._base import DEPTH, Unreadable
from memograd.codec._format import Span, read

if TYPE_CHECKING:
    from memograd.codec._plain import Build

_Cell = bool | int | float | str | tuple[Annotated[int, msgspec.Meta(ge=0)]] | None


class Row(msgspec.Struct, array_like=True):
    """A container, or a value that is no cell."""

    kind: str
    cells: list[_Cell]
    facts: dict[str, Any] = {}


_value = msgspec.json.Decoder(tuple[_Cell, list[Row]]).decode

# Kinds whose reading needs a module that is loaded only for them.
_ADAPTERS: Final = {
    "array": "memograd.codec._numpy",
    "scalar": "memograd.codec._numpy",
    "numpy": "memograd.codec._numpy",
    "tensor": "memograd.codec._torch",
    "torch": "memograd.codec._torch",
    "size": "memograd.codec._torch",
    "returned": "memograd.codec._torch",
    "namedtuple": "memograd.codec._classes",
    "enum": "memograd.codec._classes",
}
_MADE: Final = ("dataclass", "record")


class Reader:
    """Reads one value.

    Attributes:
        data: the memory of the tensors; nobody else uses it, and it can be written to.
        shared: what adapters note by the number of a tensor.
    """

    __slots__ = ("_open", "_rows", "_shells", "_spans", "_values", "data", "shared")

    def __init__(self, spans: list[Span], data: memoryview) -> None:
        self.data: Final = data
        self.shared: Final[dict[Any, Any]] = {}
        self._spans: Final = spans
        self._rows: list[Row] = []
        self._values: list[Any] = []
        self._shells: dict[int, Any] = {}
        self._open = 0

    def read(self, root: Any, rows: list[Row]) -> Any:
        """Give the value."""
        self._rows, values, build = rows, self._values, _plain_read.BUILD
        depths: list[int] = []
        for row in rows:
            items: list[Any] = row.cells
            inner: list[int] = [cell[0] for cell in items if type(cell) is tuple]
            depth = 1
            if inner:
                try:
                    depth += max([depths[at] for at in inner])
                    items = [values[cell[0]] if type(cell) is tuple else cell for cell in items]
                except IndexError:
                    depth += max([0, *(depths[at] for at in inner if at < len(depths))])
                    items = [self._item(cell) for cell in items]
            if depth > DEPTH:
                raise Unreadable(f"nested deeper than {DEPTH}")
            depths.append(depth)
            make = build.get(row.kind)
            values.append(self._row(row, items) if make is None else make(self, items, row.facts))
        return values[root[0]] if type(root) is tuple else root

    def span(self, number: Any) -> Span:
        """Give where a tensor of the file is."""
        if type(number) is not int or number < 0:
            raise Unreadable("a tensor by no number")
        return self._spans[number]

    def bytes_of(self, number: Any) -> memoryview:
        """Give the memory of a tensor of the file."""
        span = self.span(number)
        return self.data[span.begin : span.end]

    def hashed(self, items: list[Any]) -> None:
        """Refuse keys that find their place by code of a user's, or that are not complete."""
        odd = [*_plain.plain_keys(items)]
        if not odd:
            return
        if self._open:
            raise Unreadable("a key that holds what holds it")
        from memograd.codec._classes import hashed

        for item in odd:
            hashed(item)

    def _row(self, row: Row, items: list[Any]) -> Any:
        if row.kind in _ADAPTERS:
            _plain_read.BUILD.update(import_module(_ADAPTERS[row.kind]).BUILD)
            build: Build = _plain_read.BUILD[row.kind]
            return build(self, items, row.facts)
        at = len(self._values)
        made = self._shells.pop(at, None)
        if made is None:
            made = self._make(row)
        elif row.kind in _MADE:
            self._open -= 1
        _filling(row.kind)[1](self, made, items, row.facts)
        return made

    def _item(self, cell: Any) -> Any:
        if type(cell) is not tuple:
            return cell
        at: int = cell[0]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        if at < len(self._values):
            return self._values[at]
        if at not in self._shells:
            self._shells[at] = self._make(self._rows[at])
            self._open += self._rows[at].kind in _MADE
        return self._shells[at]

    def _make(self, row: Row) -> Any:
        return _filling(row.kind)[0](row.facts)


def _filling(kind: str) -> Any:
    if kind in _MADE and kind not in _plain_read.FILL:
        from memograd.codec._classes import FILL

        _plain_read.FILL.update(FILL)
    return _plain_read.FILL[kind]


def decode(buffer: bytes | bytearray | memoryview, *, own: bool) -> Any:
    """Give the value that bytes hold.

    Args:
        buffer: the bytes of an entry.
        own: the memory belongs to this value alone, so that tensors and arrays may be views of it that can be
            written to: a bytearray, or a private mapping. Memory that is read-only is copied all the same.

    Raises:
        Unreadable: they hold none, or none that can be read here.
    """
    try:
        view = memoryview(buffer)
        if view.format != "B" or view.ndim != 1:
            view = view.cast("B")
        text, spans, data = read(view)
        root, rows = _value(text)
        if not own or data.readonly:
            data = memoryview(bytearray(data))
        return Reader(spans, data).read(root, rows)
    except Unreadable:
        raise
    except Exception as error:
        message = f"an entry that is damaged, or was made to look like one: {type(error).__name__}: {str(error)[:200]}"
        raise Unreadable(message) from error
