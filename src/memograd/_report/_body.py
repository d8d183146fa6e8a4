"""What the body of an entry holds, read as data: the header of a safetensors file, nothing decoded, nothing run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    from memograd.store import Entry

# The longest header that is read: a safetensors file of a million tensors has less.
_LONGEST = 100_000_000


class Tensor(NamedTuple):
    """One array of the body."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Body(NamedTuple):
    """What a body holds.

    Attributes:
        format: "safetensors", or "bytes" for what is no such file.
        tensors: the arrays.
        notes: what else its header says, as text.
        begin: the first bytes, of what is no such file.
    """

    format: str
    tensors: list[Tensor]
    notes: dict[str, str]
    begin: bytes


def body_of(entry: Entry) -> Body:
    """Look at a body."""
    data = memoryview(entry.body[0]).cast("B") if entry.body and entry.nbytes else memoryview(b"")
    length = int.from_bytes(data[:8], "little")
    if len(data) >= 8 and length <= min(len(data) - 8, _LONGEST):
        try:
            return _described(json.loads(bytes(data[8 : 8 + length])))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            pass
    return Body("bytes", [], {}, bytes(data[:32]))


def _described(header: dict[str, Any]) -> Body:
    notes = cast("dict[str, Any]", header.pop("__metadata__", {}))
    tensors = [
        Tensor(name, str(item["dtype"]), tuple(int(size) for size in item["shape"])) for name, item in header.items()
    ]
    return Body("safetensors", tensors, {str(name): str(value) for name, value in notes.items()}, b"")
