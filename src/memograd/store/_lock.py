"""Locks that survive a fork: in the child, one that another thread held is free again, and what it guarded begins anew.

The threads of the parent do not exist in the child, so nobody would ever release what they hold, nor end what they
were changing.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary, WeakValueDictionary

if TYPE_CHECKING:
    from typing import TypeAlias


class Guarded(Protocol):
    """What a lock guards, and how it begins anew."""

    def begin_anew(self) -> None:
        """Forget what may be half changed."""


_Owners: TypeAlias = "WeakValueDictionary[int, Guarded]"
_locks: WeakKeyDictionary[Any, _Owners] = WeakKeyDictionary()


def new_lock() -> threading.RLock:
    """Make a lock that is free in a forked child, unless the thread that forked holds it."""
    lock = threading.RLock()
    _locks[lock] = WeakValueDictionary()
    return lock


def guard(lock: threading.RLock, owner: Guarded) -> None:
    """Let `owner` begin anew in a forked child if another thread held the lock."""
    _locks.setdefault(lock, WeakValueDictionary())[id(owner)] = owner


def _in_the_child() -> None:
    for lock, owners in list(_locks.items()):
        if lock.acquire(blocking=False):
            lock.release()
            continue
        lock._at_fork_reinit()  # noqa: SLF001 - what the standard library's own locks do
        for owner in list(owners.values()):
            owner.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_the_child)
