"""A store that keeps nothing: calls are still computed by one thread at a time, and by every one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memograd.store._base import Entry, Info, Lease, Store
from memograd.store._turns import Turns

if TYPE_CHECKING:
    from collections.abc import Iterator


class Null(Store):
    """Keeps nothing. Leases work.

    Example:
        >>> from memograd.store import About, Entry
        >>> store = Null()
        >>> store.put(b"key", Entry(About(), [b"body"])), store.get(b"key")
        (False, None)
    """

    lasting = False

    def __init__(self) -> None:
        self._turns = Turns()

    def get(self, key: bytes) -> Entry | None:
        """Give None."""
        del key

    def put(self, key: bytes, entry: Entry) -> bool:
        """Take nothing."""
        del key, entry
        return False

    def delete(self, key: bytes) -> bool:
        """Find nothing."""
        del key
        return False

    def contains(self, key: bytes) -> bool:
        """Find nothing."""
        del key
        return False

    def infos(self) -> Iterator[Info]:
        """Go through nothing."""
        return iter(())

    @property
    def nbytes(self) -> int:
        """Count nothing."""
        return 0

    def lease(self, key: bytes) -> Lease | None:
        """Take the right to compute a key; None while another thread has it."""
        return self._turns.take(key)

    def pin(self, key: bytes, *, pinned: bool = True) -> bool:
        """Find nothing."""
        del key, pinned
        return False

    def __repr__(self) -> str:
        return "Null()"
