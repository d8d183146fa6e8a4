"""Entries of a store, chosen, sorted, counted and compared."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from heapq import nsmallest
from itertools import islice
from typing import TYPE_CHECKING, Any

from memograd.store._evict import priority
from memograd.store._fields import attribute, greatest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from memograd._report._filter import Test
    from memograd.store import Info, Store


def chosen(store: Store, test: Test | None, sort: str = "", limit: int | None = None) -> Iterator[Info]:
    """Give the entries that a filter chooses, the greatest first."""
    by = attribute(sort) if sort else ""
    if test is None:
        return store.scan(sort=by, limit=limit)
    now = time.time()
    found = (info for info in store.infos() if test(info, now))
    return greatest(found, by, limit) if by else islice(found, limit)


def least_worth(store: Store, room: int) -> list[Info]:
    """Choose the entries that would go if the store had room for so many bytes: those that saved least per byte."""
    excess = store.nbytes - room
    gone: list[Info] = []
    for info in sorted(store.infos(), key=worth) if excess > 0 else ():
        if excess <= 0:
            break
        if not info.about.pinned:
            gone.append(info)
            excess -= info.nbytes
    return gone


def worth(info: Info) -> tuple[float, float]:
    """Rank an entry as a store does when it evicts, and by its last use."""
    return priority(0.0, info.hits + 1, info.about.seconds, info.nbytes), info.used


@dataclass(slots=True)
class Total:
    """Entries together.

    Attributes:
        entries: how many.
        size: the bytes that they take.
        hits: how often they were read.
        seconds: what they took to compute.
        saved: what their reads have saved.
    """

    entries: int = 0
    size: int = 0
    hits: int = 0
    seconds: float = 0.0
    saved: float = 0.0

    def add(self, info: Info) -> None:
        """Count one more."""
        self.entries += 1
        self.size += info.nbytes
        self.hits += info.hits
        self.seconds += info.about.seconds
        self.saved += info.saved


def totals(infos: Iterable[Info]) -> tuple[Total, dict[str, Total]]:
    """Count entries, all together and by function, those that saved most first."""
    whole, functions = Total(), dict[str, Total]()
    for info in infos:
        whole.add(info)
        functions.setdefault(info.about.function, Total()).add(info)
    return whole, dict(sorted(functions.items(), key=lambda pair: pair[1].saved, reverse=True))


def names(infos: Iterable[Info], most: int = 3) -> str:
    """Name the functions of entries: "embed (8), loss (4) and 2 more"."""
    counted = Counter(info.about.function or "no function" for info in infos).most_common()
    listed = ", ".join(f"{name} ({count:,})" for name, count in counted[:most])
    return listed + (f" and {len(counted) - most:,} more" if len(counted) > most else "")


def matching(store: Store, key: str) -> list[Info]:
    """Find entries by the beginning of their keys, in hexadecimal."""
    start = key.lower().removeprefix("0x")
    return list(islice((info for info in store.infos() if info.key.hex().startswith(start)), 10))


def differences(info: Info, other: Info) -> dict[str, tuple[str, str]]:
    """Give the parts of the keys of two entries that differ, with both."""
    ours, theirs = info.about.parts, other.about.parts
    return {
        name: (ours.get(name, "—"), theirs.get(name, "—"))
        for name in ours | theirs
        if ours.get(name) != theirs.get(name)
    }


def nearest(store: Store, info: Info, most: int) -> list[tuple[Info, dict[str, tuple[str, str]]]]:
    """Find the entries of the same function whose keys differ in the fewest parts."""
    function = info.about.function
    others = (other for other in store.infos() if other.about.function == function and other.key != info.key)
    pairs = ((other, differences(info, other)) for other in others)
    return nsmallest(most, pairs, key=lambda pair: (len(pair[1]), -pair[0].used))


def as_data(info: Info) -> dict[str, Any]:
    """Give an entry for programs."""
    about = info.about
    return {
        "key": info.key.hex(), "function": about.function, "text": about.text, "parts": about.parts,
        "seconds": about.seconds, "created": about.created, "expires": about.expires,
        "parent": None if about.parent is None else about.parent.hex(), "tags": list(about.tags),
        "pinned": about.pinned, "size": info.nbytes, "hits": info.hits, "used": info.used, "saved": info.saved,
    }  # fmt: skip
