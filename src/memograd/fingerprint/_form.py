"""How a type says what its values are made of: a tag, bytes, and parts that are values again."""

from __future__ import annotations

import marshal
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from typing import TypeAlias

    from memograd.fingerprint._trust import Trust

    Buffer: TypeAlias = "bytes | bytearray | memoryview"
    Hash: TypeAlias = "Callable[[Buffer], bytes]"
    Writer: TypeAlias = "Callable[[Any], Form | Opaque]"
    Quick: TypeAlias = "Callable[[Any], bytes | None]"

# Compared by exact type. What they are is said by one marshalled value: typed, to the bit, in C.
PLAIN: frozenset[type] = frozenset({int, float, complex, bool, type(None), str, bytes})


def marshalled(value: Any) -> bytes:
    """Write a plain leaf, or a tuple of them. Version 2 of the format: what is equal is written equal."""
    return marshal.dumps(value, 2)


def kind_of(value: object) -> type[Any]:
    """Give the exact type of a value, whatever it is a type of."""
    return type(value)


class Writing:
    """How a value is written down: for a key, or for a fingerprint.

    Attributes:
        hash: bytes to 128 bits.
        aspects: whether for a key, which tells apart what has equal content and yet looks different to a function.
        holds: whether what has no content may stand for itself, by identity, for as long as this process lives.
        quick: what writes values of a type whole when nothing about them is out of the ordinary, and else gives None.
        writers: the same, but of what is not trusted.
        trust: which tensors are not written again; None for none.
    """

    __slots__ = ("aspects", "hash", "holds", "quick", "trust", "writers")
    made: ClassVar[list[Writing]] = []
    makers: ClassVar[dict[type, Callable[[Writing], Quick]]] = {}

    def __init__(self, hash: Hash, aspects: bool, holds: bool, trust: Trust | None = None) -> None:  # noqa: A002
        self.hash = hash
        self.aspects = aspects
        self.holds = holds
        self.trust = trust
        self.writers: dict[type, Quick] = {}
        self.quick: dict[type, Quick] = {}
        for kind, make in self.makers.items():
            self.learn(kind, make)
        self.made.append(self)

    def learn(self, kind: type, make: Callable[[Writing], Quick]) -> None:
        """Have values of a type written by what `make` makes for this way of writing."""
        self.writers[kind] = make(self)
        self.arm()

    def arm(self) -> None:
        """Write as the trust of the moment says."""
        for kind, write in self.writers.items():
            trusts = self.trust is not None and self.trust.on and kind in self.trust.kinds
            self.quick[kind] = self.trust.over(write) if trusts and self.trust is not None else write

    @classmethod
    def quicken(cls, kind: type, make: Callable[[Writing], Quick]) -> None:
        """Have values of a type written by what `make` makes for each way of writing."""
        cls.makers[kind] = make
        for writing in cls.made:
            writing.learn(kind, make)

    @classmethod
    def slow(cls, kind: type) -> None:
        """Have values of a type taken apart like others."""
        cls.makers.pop(kind, None)
        for writing in cls.made:
            writing.writers.pop(kind, None)
            writing.quick.pop(kind, None)


class Source(Protocol):
    """Data that are read piece by piece, such as those of a file."""

    def digested(self, hash: Hash) -> bytes:  # noqa: A002 - it is what it is
        """Digest the data as `_digest.digested` does."""
        ...


class Form:
    """A value taken apart. `tag` tells kinds apart, `data` are bytes of its own, `parts` the values inside.

    `aspect` is what a function can see of the value beside its content, such as the device of a tensor: keys have it,
    fingerprints do not. `label` names part `index` for error messages (`["mask"]`, `.weight`); by itself `[0]`, `[1]`.
    """

    __slots__ = ("aspect", "data", "label", "parts", "tag")

    def __init__(
        self,
        tag: bytes,
        data: Buffer | Source = b"",
        parts: Sequence[object] = (),
        label: Callable[[int], str] = "[{}]".format,
        aspect: bytes = b"",
    ) -> None:
        self.tag = tag
        self.data = data
        self.parts = parts
        self.label = label
        self.aspect = aspect


class Unordered(Form):
    """A set: its parts have no order."""

    __slots__ = ()


class Reached(Form):
    """Code: its parts are what it reads, and may stand for themselves in a key."""

    __slots__ = ()


class Opaque:
    """A value without content that never changes, and stands for itself. `value` is compared in its place."""

    __slots__ = ("value",)

    def __init__(self, value: Hashable) -> None:
        self.value = value


class Unidentified(Exception):  # noqa: N818 - it never leaves memograd: the door turns it into NoIdentityError
    """A value has no identity.

    `path` leads to it from the value that was asked about; `reason` follows "is". `stands`: whether code that reads it
    may have it stand for itself: a lock is no input of what it guards.
    """

    def __init__(self, reason: str, path: str = "", *, stands: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path
        self.stands = stands
