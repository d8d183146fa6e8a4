"""What the body of an entry holds, read as data: kinds, sizes and names; no value is made, and no code is run."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from memograd.codec._format import Span
    from memograd.codec._read import Row
    from memograd.store import Entry

# How much is shown: so many parts, of containers in so many containers, and so much of a text.
_MOST, _DEEP, _LONG = 100, 5, 60
_MAPPINGS = {"dict", "OrderedDict", "defaultdict", "Counter"}
_SEQUENCES = {"list", "tuple", "set", "frozenset", "deque"}
_NAMED = {"dataclass", "record", "namedtuple"}
_ARRAYS = {"tensor", "array", "scalar"}
_BYTES = {"str", "bytes", "bytearray"}


class Tensor(NamedTuple):
    """The memory of an array, as the file has it."""

    dtype: str
    shape: tuple[int, ...]


class Part(NamedTuple):
    """One thing that the value holds: where, and what."""

    path: str
    kind: str


class Body(NamedTuple):
    """What a body holds.

    Attributes:
        format: "safetensors", or "bytes" for what is no file of the codec's.
        tensors: the memory of its arrays, in their order.
        parts: what the value holds, as far as it is shown.
        begin: the first bytes, of what is no such file.
    """

    format: str
    tensors: list[Tensor]
    parts: list[Part]
    begin: bytes


def body_of(entry: Entry) -> Body:
    """Look at a body."""
    from memograd.codec._format import read

    data = memoryview(entry.body[0]).cast("B") if entry.body and entry.nbytes else memoryview(b"")
    try:
        text, spans, _ = read(data)
    except Exception:  # noqa: BLE001 - whatever the bytes are
        return Body("bytes", [], [], bytes(data[:32]))
    tensors = [Tensor(span.dtype, tuple(span.shape)) for span in spans]
    return Body("safetensors", tensors, _parts(text, spans), b"")


def _parts(text: str, spans: list[Span]) -> list[Part]:
    import msgspec

    from memograd.codec._read import Row

    try:
        root, rows = msgspec.json.decode(text, type=tuple[Any, list[Row]])
        outline = _Outline(rows, spans)
        return list(islice(outline.of(outline.value(root), "result"), _MOST))
    except Exception:  # noqa: BLE001 - as above
        return [Part(f"tensor {at}", f"{span.dtype} {_tuple(span.shape)}") for at, span in enumerate(spans[:_MOST])]


class _Outline:
    """Goes through a structure that nobody has checked."""

    def __init__(self, rows: list[Row], spans: list[Span]) -> None:
        self.rows = rows
        self.spans = spans

    def value(self, cell: Any) -> Any:
        """Give the cell of what the call gave, where it is wrapped as results of calls are."""
        row = self.row(cell)
        wrapped = row is not None and row.kind == "tuple" and len(row.cells) > 1 and row.cells[0] == "value"
        return row.cells[1] if row is not None and wrapped else cell

    def of(self, cell: Any, path: str, deep: int = 0) -> Iterator[Part]:
        """Give the parts of a cell, itself first."""
        row = self.row(cell)
        plain = "None" if cell is None else f"{type(cell).__name__} {_short(cell)}"
        yield Part(path, plain if row is None else self.kind(row))
        if row is not None and deep < _DEEP and row.kind not in _ARRAYS | _BYTES:
            for name, inner in self.inside(row):
                yield from self.of(inner, path + name, deep + 1)

    def row(self, cell: Any) -> Row | None:
        """Give the row that a cell refers to; None for a plain cell."""
        if type(cell) not in {list, tuple}:
            return None
        at: int = cell[0]
        return self.rows[at]

    def inside(self, row: Row) -> Iterator[tuple[str, Any]]:
        """Give what a container holds, with its name there."""
        cells = row.cells
        if row.kind in _MAPPINGS:
            half = len(cells) // 2
            return ((f"[{self.key(cells[at])}]", cells[half + at]) for at in range(half))
        if row.kind in _NAMED:
            names = [*row.facts["fields"], *row.facts.get("keys", ())]
            return ((f".{_cut(str(name))}", cell) for name, cell in zip(names, cells, strict=False))
        # Of others the plain cells are how they are written, and say nothing to people.
        shown = row.kind in _SEQUENCES
        return ((f"[{at}]", cell) for at, cell in enumerate(cells) if shown or self.row(cell) is not None)

    def key(self, cell: Any) -> str:
        """Name a key of a mapping."""
        row = self.row(cell)
        return _short(cell) if row is None else f"<{self.kind(row)}>"

    def kind(self, row: Row) -> str:
        """Say what a row is."""
        facts = row.facts
        if row.kind in _ARRAYS:
            span = self.spans[self.number(row)]
            return f"{row.kind} {_cut(str(facts.get('dtype', span.dtype)))} {_tuple(facts.get('shape', span.shape))}"
        if row.kind in _BYTES:
            span = self.spans[self.number(row)]
            return f"{row.kind} of {span.end - span.begin:,} bytes"
        if "items" in facts:
            span = self.spans[cast("int", facts["items"])]
            return f"{row.kind} of {span.shape[0]:,} ({span.dtype})"
        name = str(facts.get("class", facts.get("name", ""))).replace(":", ".")
        if name:
            return f"{row.kind} {_cut(name)}"
        count = len(row.cells) // 2 if row.kind in _MAPPINGS else len(row.cells)
        return f"{_cut(row.kind)} of {count:,}" if row.kind in _MAPPINGS | _SEQUENCES else _cut(row.kind)

    def number(self, row: Row) -> int:
        """Give the number of the tensor that a row is made of."""
        number = row.cells[0]
        if type(number) is not int or number < 0:
            raise ValueError("a tensor by no number")
        return number


def _tuple(shape: Sequence[int]) -> str:
    return _cut(f"({', '.join(map(str, islice(shape, 64)))}{',' if len(shape) == 1 else ''})")


def _short(cell: object) -> str:
    return _cut(repr(cell[: _LONG + 2] if isinstance(cell, str) else cell))


def _cut(text: str) -> str:
    return text if len(text) <= _LONG else text[: _LONG - 1] + "…"
