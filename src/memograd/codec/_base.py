"""What the codec refuses, where its limits are, and the kinds that a user has taught it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from memograd._errors import MemogradError

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION = "1"
DEPTH = 1_000  # of containers in containers
HEADER = 64 << 20  # bytes: bounds time and memory of reading structure
AXES = 64
ELEMENTS = 1 << 62
DIGITS = 1 << 16  # bits of a fraction's parts: their common divisor takes quadratic time


class Unencodable(MemogradError, TypeError):  # noqa: N818 - it says of a value what it is
    """A value holds something that cannot be written as data.

    Attributes:
        path: where in the value, `result["mask"][2]`.
        kind: what is there.
    """

    def __init__(self, path: str, kind: str) -> None:
        super().__init__(
            f"{path} is {kind}, which cannot be written as data: return plain data instead, or write "
            "memograd.codec.register(kind, name, pack, unpack), in which pack gives plain data and unpack takes it back"
        )
        self.path = path
        self.kind = kind


class Unreadable(MemogradError):  # noqa: N818 - as above
    """Bytes are no entry, or one that cannot be read here: damaged, of another version, of a class that has changed."""


class Refused(Exception):  # noqa: N818 - it never leaves the codec: whoever knows the path makes an Unencodable of it
    """A value cannot be written; says what it is."""


class Custom(NamedTuple):
    """A kind that a user has taught the codec."""

    kind: type
    name: str
    pack: Callable[[Any], Any]
    unpack: Callable[[Any], Any]


BY_KIND: dict[type, Custom] = {}
BY_NAME: dict[str, Custom] = {}


def register(kind: type[Any], name: str, pack: Callable[[Any], Any], unpack: Callable[[Any], Any]) -> None:
    """Teach the codec a kind of value.

    Args:
        kind: the exact class; its subclasses are other kinds.
        name: what stands for it in an entry. Take another whenever `pack` changes what it gives.
        pack: gives data that can be encoded: plain values, tensors, or what is registered itself.
        unpack: takes that data back to a value. It runs on whatever an entry says, so it should trust nothing.
    """
    old = BY_NAME.get(name)
    if old is not None and (old.kind.__module__, old.kind.__qualname__) != (kind.__module__, kind.__qualname__):
        raise ValueError(f"{name!r} is registered for {old.kind.__qualname__}: take another name")
    stale = BY_KIND.get(kind)
    if stale is not None:
        BY_NAME.pop(stale.name, None)
    BY_KIND[kind] = BY_NAME[name] = Custom(kind, name, pack, unpack)
