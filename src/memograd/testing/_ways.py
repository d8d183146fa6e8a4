"""How the tests of a store look at it: from here, from another thread, from a forked child."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar
from warnings import catch_warnings, simplefilter

if TYPE_CHECKING:
    from collections.abc import Callable

    from memograd.store._base import Entry, Info, Lease, Store


T = TypeVar("T")

# How long anything is waited for that must happen in the end.
PATIENCE = 20.0


def joined(entry: Entry | None) -> bytes | None:
    """Give the body of an entry in one piece."""
    return None if entry is None else b"".join(bytes(piece) for piece in entry.body)


def read(store: Store, key: bytes) -> bytes | None:
    """Give the body of a key in one piece, None if there is none."""
    return joined(store.get(key))


def got(store: Store, key: bytes) -> Entry:
    """Give the entry of a key, which must be there."""
    entry = store.get(key)
    assert entry is not None, f"the entry of {key!r} is gone"
    return entry


def leased(store: Store, key: bytes) -> Lease:
    """Take the lease of a key, which must be free."""
    lease = store.lease(key)
    assert lease is not None, "a lease that nobody has was not given"
    return lease


def keys_of(store: Store) -> set[bytes]:
    """Give all keys of a store."""
    return {info.key for info in store.infos()}


def value_of(info: Info, sort: str) -> float:
    """Give what entries are sorted by."""
    value: float = getattr(info.about if sort in {"seconds", "created"} else info, sort)
    return value


def scribble(buffer: bytes | bytearray | memoryview) -> None:
    """Change every byte, if the buffer lets itself be changed."""
    view = memoryview(buffer)
    if not view.readonly:
        view.cast("B")[:] = b"\xff" * view.nbytes


def elsewhere(run: Callable[[], T]) -> T:
    """Run in another thread, and give what that gives."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result(PATIENCE)


def wait_for(happened: Callable[[], bool], else_: str) -> None:
    """Look until something has happened."""
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, else_
        time.sleep(0.01)


def in_child(run: Callable[[], bool]) -> bool:
    """Tell whether it is true in a forked child; where no process can be forked, whether it is true here."""
    if not hasattr(os, "fork"):
        return run()
    with catch_warnings():
        simplefilter("ignore", DeprecationWarning)  # a fork beside threads, which is what is tried
        child = os.fork()
    if child == 0:
        try:
            os._exit(0 if run() else 1)
        finally:
            os._exit(2)
    return _ended_well(child)


def _ended_well(child: int) -> bool:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status == 0
        time.sleep(0.002)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return False
