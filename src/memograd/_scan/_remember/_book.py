"""Remembered prefixes, in memory and in a store behind it. What fails, or fits nothing, is not there."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch

from memograd._errors import warn
from memograd._subject import digest_for
from memograd.codec import decode, encode
from memograd.fingerprint._digest import hash_of
from memograd.store import About, Entry, Memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from memograd.store import Store
    from memograd.store._memory import Held

# What one name leads to: a state, the outputs since the point before, where in a block there are points.
STATE, OUTPUTS, ENDS, NAMED = b"state", b"outputs", b"ends", b"named"


@dataclass(frozen=True)
class Point:
    """A prefix whose state is remembered.

    Attributes:
        state: (layers, H) each part of it.
        before: the steps of the prefix that was resumed when it was computed.
        name_before: the name of that.
        outputs: the name of those since then; they may go on behind this prefix.
    """

    state: list[Tensor]
    before: int
    name_before: bytes
    outputs: bytes


class _Valued(Entry):
    """An entry that holds its value as it is; bytes are made of it for a store behind alone."""

    __slots__ = ("value",)

    def __init__(self, about: About, value: Any) -> None:
        super().__init__(about, [])
        self.value = value

    @property
    def body(self) -> list[bytes | memoryview]:
        """The bytes."""
        return encode(self.value)

    @property
    def nbytes(self) -> int:
        """Count the bytes of its tensors."""
        return sum(t.nbytes for t in _tensors_of(self.value))


def _tensors_of(value: Any) -> list[Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    parts = cast("list[Any]", value) if isinstance(value, (list, tuple)) else []
    return [t for part in parts for t in _tensors_of(part)]


class Near(Memory):
    """Values in memory as they are; nobody changes them. What goes first is a store's to say: see `Memory`."""

    def _copy(self, key: bytes, held: Held, entry: Entry) -> bool:
        kept: Any = entry
        held.body = kept
        self._insert(key, held)
        return True


class Book:
    """Values by name.

    Args:
        near: in memory.
        far: what outlives the process; None for nothing.
        salt: a word that names begin with.
    """

    def __init__(self, near: Near, far: Store | None, salt: str) -> None:
        self.near, self.far, self._failed = near, far, False
        self.hash: Callable[..., bytes] = hash_of("xxh3" if far is None else digest_for(far))
        self.salt = salt.encode()

    def __reduce__(self) -> tuple[Any, ...]:
        return Book, (self.near, self.far, self.salt.decode())

    def point(self, name: bytes) -> Point | None:
        """Find the state of a prefix."""
        found = self._get(STATE, name)
        if not isinstance(found, tuple) or len(cast("tuple[Any, ...]", found)) != 4:
            return None
        state, before, *names = cast("tuple[Any, ...]", found)
        fits = isinstance(state, list) and isinstance(before, int) and all(isinstance(name, bytes) for name in names)
        parts = cast("list[Any]", state) if fits else []
        return Point(parts, before, *names) if parts and all(isinstance(t, torch.Tensor) for t in parts) else None

    def outputs(self, name: bytes, steps: int, like: Tensor) -> Tensor | None:
        """Find the first of the outputs of this name, (steps, R), of the dtype and size of `like`."""
        found = self._get(OUTPUTS, name)
        if not isinstance(found, torch.Tensor) or found.dim() != 2 or found.dtype != like.dtype:
            return None
        return found[:steps] if len(found) >= steps and found.shape[1] == like.shape[1] else None

    def ends(self, block: bytes) -> list[int]:
        """List how many steps behind a place on the grid, in ascending order, states are remembered."""
        found = self._get(ENDS, block)
        several = cast("list[Any]", found) if isinstance(found, list) else []
        return sorted({n for n in several if isinstance(n, int) and n >= 0})

    def put(self, name: bytes, point: Point, about: About) -> None:
        """Remember a prefix. The tensors are the book's from now on."""
        self._put(STATE, name, (point.state, point.before, point.name_before, point.outputs), about)

    def put_outputs(self, name: bytes, outputs: Tensor, about: About) -> None:
        """Remember outputs, (steps, R). They are the book's from now on."""
        self._put(OUTPUTS, name, outputs, about)

    def note_end(self, block: bytes, steps: int, function: str) -> None:
        """Note that a state is remembered so many steps behind a place on the grid."""
        ends = self.ends(block)
        if steps not in ends:
            self._put(ENDS, block, [*ends, steps], About(function, "ends", created=time.time(), seconds=1.0))

    def pin(self, name: bytes, outputs: bytes) -> None:
        """Keep a prefix, and its outputs, from being evicted."""
        for kind, of in ((STATE, name), (OUTPUTS, outputs)):
            key = self._key(kind, of)
            self.near.pin(key)
            self._tried(lambda store, key=key: store.pin(key))

    def save(self, name: bytes, state: Sequence[Tensor], function: str, text: str) -> None:
        """Remember a state under a name of the user's, until it is saved again."""
        about = About(function, text, created=time.time(), pinned=True)
        self._put(NAMED, name, [t.detach().clone() for t in state], about)

    def load(self, name: bytes) -> list[Tensor] | None:
        """Find a state by the name of the user's."""
        found = self._get(NAMED, name)
        several = cast("list[Any]", found) if isinstance(found, list) else []
        return [t.clone() for t in several] if several and all(isinstance(t, torch.Tensor) for t in several) else None

    def _key(self, kind: bytes, name: bytes) -> bytes:
        return self.hash(kind + b":" + self.salt + b":" + name)

    def _get(self, kind: bytes, name: bytes) -> Any:
        key = self._key(kind, name)
        held = self.near.get(key)
        if held is not None:
            entry: Any = held.body[0]
            return entry.value
        found = self._tried(lambda store: store.get(key))
        if found is None:
            return None
        value = self._tried(lambda _: decode(found.body[0], own=True))
        if value is not None and kind is not ENDS:  # others may add to these
            self.near.put(key, _Valued(found.about, value))
        return value

    def _put(self, kind: bytes, name: bytes, value: Any, about: About) -> None:
        key, about = self._key(kind, name), self._within(kind, about)
        entry = _Valued(about, value)
        if kind is not ENDS or self.far is None:
            self.near.put(key, entry)
        self._tried(lambda store: store.put(key, Entry(about, entry.body)))

    def _within(self, kind: bytes, about: About) -> About:
        """Let an entry continue the entry of its own kind."""
        if about.parent is None:
            return about
        return replace(about, parent=self._key(kind, about.parent))

    def _tried(self, act: Callable[[Store], Any]) -> Any:
        """Ask the store behind; what it raises costs a computation, and is said once."""
        if self.far is None:
            return None
        try:
            return act(self.far)
        except Exception as error:  # noqa: BLE001 - whatever a store raises, or holds
            if not self._failed:
                self._failed = True
                warn(f"memo.scan: states cannot be had from {self.far!r}: {error!r}; they are computed")
            return None
