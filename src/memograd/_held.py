"""Which leases the code of the moment is inside of: to ask for one of them again would be to wait for oneself.

They follow the context, so tasks, `asyncio.to_thread` and forked children that are begun inside a call know them, too.
"""

from __future__ import annotations

import os
from _thread import get_ident
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memograd.store import Lease

# Whoever sets it does so anew: contexts share what is in them.
leases_held: ContextVar[tuple[Held, ...]] = ContextVar("memograd leases", default=())

# By digest, those that threads of this process have.
_by_threads: dict[bytes, Held] = {}


class Held:
    """A lease that was taken.

    Args:
        digest: of what.
        lease: the store's.

    Attributes:
        owner: the thread that computes, 0 if it is a task, or nobody any more.
    """

    __slots__ = ("digest", "lease", "live", "owner", "pid")

    def __init__(self, digest: bytes, lease: Lease) -> None:
        self.digest = digest
        self.lease = lease
        self.live = True
        self.owner = 0
        self.pid = os.getpid()

    def enter(self, *, task: bool = False) -> None:
        """Note that from here on the code of this context has it."""
        leases_held.set((*(held for held in leases_held.get() if held.live), self))
        if not task:
            self.owner = get_ident()
            _by_threads[self.digest] = self

    def release(self) -> None:
        """Give it back; a second time it does nothing."""
        if self.live:
            self.live = False
            self.leave()
            self.lease.release()

    def leave(self) -> None:
        """Note that the code of this context has it no more; of others, that it is over."""
        held = leases_held.get()
        if self in held:
            leases_held.set(tuple(each for each in held if each is not self))
        if _by_threads.get(self.digest) is self:
            _by_threads.pop(self.digest, None)


def is_inside(digest: bytes) -> bool:
    """Tell whether the code of this context has the lease of a digest, or was begun by who has it."""
    return any(held.live and held.digest == digest for held in leases_held.get())


def held_by_thread(digest: bytes) -> Held | None:
    """Give the lease of a digest that a thread of this process has, None if none has."""
    held = _by_threads.get(digest)
    return held if held is not None and held.pid == os.getpid() else None
