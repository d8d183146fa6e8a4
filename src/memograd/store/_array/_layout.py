"""What an array's rows look like: how many, of which shape and type; as data, and as a header."""

from __future__ import annotations

import json
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import Any

VERSION = 1
# Bytes of an item, and how Python's `struct` calls it where it knows it.
TYPES: dict[str, tuple[int, str]] = {
    "bool": (1, "?"), "int8": (1, "b"), "uint8": (1, "B"), "int16": (2, "h"), "uint16": (2, "H"), "int32": (4, "i"),
    "uint32": (4, "I"), "int64": (8, "q"), "uint64": (8, "Q"), "float16": (2, ""), "bfloat16": (2, ""),
    "float32": (4, "f"), "float64": (8, "d"), "complex64": (8, ""), "complex128": (16, ""),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Layout:
    """What an array's rows look like.

    Attributes:
        count: how many.
        row: the shape of each.
        dtype: the name of the items' type.
        fingerprint: what they belong to.
        torch: whether they are tensors to the user.
    """

    count: int
    row: tuple[int, ...]
    dtype: str
    fingerprint: str
    torch: bool

    @property
    def nbytes(self) -> int:
        """The bytes of a row."""
        return prod(self.row) * TYPES[self.dtype][0]

    @property
    def code(self) -> str:
        """How `struct` calls the items' type; empty where it does not know it."""
        return TYPES[self.dtype][1]

    @property
    def name(self) -> str:
        """How it reads: "float32[512]"."""
        return f"{self.dtype}{list(self.row) if self.row else ''}"

    @property
    def header(self) -> dict[str, Any]:
        """What the folder of an array says about it."""
        shape = [self.count, *self.row]
        return {"format": "memograd array", "version": VERSION, "dtype": self.dtype, "shape": shape,
                "byteorder": sys.byteorder, "fingerprint": self.fingerprint}  # fmt: skip

    def pack(self, value: float) -> bytes:
        """Give the bytes of a number; refuse one that would come back as another."""
        with suppress(struct.error, OverflowError):
            packed = struct.pack(f"={self.code}", value)
            back = self.unpack(packed)
            # Only NaN differs from itself; a float32 is what people ask for to have their floats rounded.
            if back == value or back != back or self.dtype == "float32":  # noqa: PLR0124
                return packed
        raise ValueError(f"got {value!r}, which {self.dtype} cannot hold; make the array with a wider dtype")

    def unpack(self, row: bytes) -> Any:
        """Give the number whose bytes these are."""
        return struct.unpack(f"={self.code}", row)[0]


def described(shape: int | tuple[int, ...], dtype: Any, fingerprint: str) -> Layout:
    """Read what was asked for."""
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    if not sizes or any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in sizes):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(
            f"shape got {shape!r}, expected rows and the shape of each, all above 0; write shape=(60_000, 512)"
        )
    name = getattr(dtype, "__name__", None) or str(dtype)
    if name.removeprefix("torch.") not in TYPES:
        raise ValueError(f'dtype got {dtype!r}, expected one of {", ".join(TYPES)}; write dtype="float32"')
    return Layout(sizes[0], sizes[1:], name.removeprefix("torch."), fingerprint, name.startswith("torch."))


def check(text: bytes, layout: Layout, where: str) -> None:
    """Refuse a folder whose header says another thing than what is asked for."""
    found: dict[str, Any] = {}
    with suppress(ValueError, TypeError, RecursionError):
        found = dict(json.loads(text))
    for name, expected in layout.header.items():
        if found.get(name) != expected:
            said = f"{where} has {name} {found.get(name)!r}, expected {expected!r}"
            raise ValueError(f"{said}: its rows belong to something else; remove the folder or take another")
