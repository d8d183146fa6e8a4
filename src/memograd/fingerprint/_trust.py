"""Tensors that are taken for unchanged while their version counters are: they are not hashed again.

What changes a tensor unseen (`.data`, a numpy array that shares its memory, C code) is not seen here either.
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from memograd.fingerprint._form import Writing

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from memograd.fingerprint._form import Quick

    Stamp = tuple[Any, ...]


class Trust:
    """What was written of tensors, and how they looked then.

    Args:
        all: whether all tensors are trusted, or those alone that are in `ids`.
        ids: of those that are trusted.
    """

    __slots__ = ("all", "ids", "known")
    kinds: ClassVar[set[type]] = set()

    def __init__(self, all: bool, ids: Counter[int] | None = None) -> None:  # noqa: A002 - it is what it is
        self.all = all
        self.ids: Counter[int] = Counter() if ids is None else ids
        self.known: dict[int, tuple[weakref.ref[Any], Stamp, bytes]] = {}

    @property
    def on(self) -> bool:
        """Whether anything is trusted."""
        return self.all or bool(self.ids)

    def covers(self, value: object) -> bool:
        """Tell whether a value is trusted."""
        return id(value) in self.ids or (self.all and type(value) in self.kinds)

    def chunk_of(self, value: Any) -> bytes | None:
        """Give what was written of a tensor that has not changed since, as far as it shows."""
        found = self.known.get(id(value))
        return found[2] if found is not None and found[0]() is value and found[1] == _stamp(value) else None

    def keep(self, value: Any, chunk: bytes) -> None:
        """Note what was written of a tensor."""
        stamp, key, known = _stamp(value), id(value), self.known
        if stamp:
            known[key] = weakref.ref(value, lambda _: known.pop(key, None)), stamp, chunk

    def over(self, write: Quick) -> Quick:
        """Make of what writes tensors what writes those that are trusted once."""

        def trusting(value: Any) -> bytes | None:
            if not self.covers(value):
                return write(value)
            chunk = self.chunk_of(value)
            if chunk is None:
                chunk = write(value)
                if chunk is not None:
                    self.keep(value, chunk)
            return chunk

        return trusting


def _stamp(value: Any) -> Stamp:
    """Say how a tensor looks; nothing of one that does not count its changes."""
    try:
        version = value._version  # noqa: SLF001 - torch has no other name for it
        if value.__dict__ or (value.requires_grad and (value._backward_hooks or value._post_accumulate_grad_hooks)):
            return ()  # what is noted on it, and its hooks, have no counter
        return version, value.data_ptr(), value.requires_grad, value.dtype, value.shape, value.stride()
    except RuntimeError:  # an inference tensor, a sparse one
        return ()


FROZEN = Trust(all=False)
_frozen = {"xxh3": FROZEN}


def frozen(digest: str) -> Trust:
    """Give what is written, with this digest, of those that are trusted for a while."""
    return _frozen.setdefault(digest, Trust(all=False, ids=FROZEN.ids))


_lock = threading.Lock()


@contextmanager
def trusted(values: Iterable[object]) -> Generator[None]:
    """Trust these values for a while."""
    ids = Counter(map(id, values))
    with _lock:
        FROZEN.ids.update(ids)
        _arm()
    try:
        yield
    finally:
        with _lock:
            FROZEN.ids -= ids  # those that are left, with a count above zero
            for one in ids.keys() - FROZEN.ids.keys():
                for trust in _frozen.values():
                    trust.known.pop(one, None)
            _arm()


def _arm() -> None:
    for writing in Writing.made:
        if writing.trust in _frozen.values():
            writing.arm()
