"""How a type says what its values are made of: a tag, bytes, and parts that are values again."""

from __future__ import annotations

import marshal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    Buffer: TypeAlias = "bytes | bytearray | memoryview"
    Writer: TypeAlias = "Callable[[Any], Form | Opaque]"

# Compared by exact type. What they are is said by one marshalled value: typed, to the bit, in C.
PLAIN: frozenset[type] = frozenset({int, float, complex, bool, type(None), str, bytes})


def marshalled(value: Any) -> bytes:
    """Write a plain leaf, or a tuple of them. Version 2 of the format: what is equal is written equal."""
    return marshal.dumps(value, 2)


class Form:
    """A value taken apart. `tag` tells kinds apart, `data` are bytes of its own, `parts` the values inside.

    `label` names part `index` for error messages (`["mask"]`, `.weight`); by itself it says `[0]`, `[1]`, ….
    """

    __slots__ = ("data", "label", "parts", "tag")

    def __init__(
        self,
        tag: bytes,
        data: Buffer = b"",
        parts: Sequence[object] = (),
        label: Callable[[int], str] = "[{}]".format,
    ) -> None:
        self.tag = tag
        self.data = data
        self.parts = parts
        self.label = label


class Opaque:
    """A value that stands for itself, by its own `__eq__` and `__hash__` and its exact type."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


class Unidentified(Exception):  # noqa: N818 - it never leaves memograd: the door turns it into NoIdentityError
    """A value has no identity. `path` leads to it from the value that was asked about; `reason` follows "is"."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path
