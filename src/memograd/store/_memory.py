"""Entries in the memory of this process, as bytes, within a limit: what saves the most seconds per byte stays.

A heap finds the entry of the least priority. Priorities only grow (by uses, by the clock, by what a lost parent
adds), so a place in the heap may be out of date, and is corrected when it comes up.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from memograd._events import Evict, Refuse, listeners, tell
from memograd.store._base import About, Entry, Info, Store
from memograd.store._evict import Family, priority
from memograd.store._lock import guard, new_lock
from memograd.store._turns import Turns
from memograd.store._units import parse_bytes, show_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from memograd.store._base import Lease

# What an entry takes beside its body, by estimate: places in tables and heaps, its facts, their text.
OVERHEAD = 1000


@dataclass(slots=True)
class Held:
    """An entry as it is kept."""

    about: About
    body: bytes
    nbytes: int
    read: float
    used: float
    hits: int = 0
    priority: float = 0.0
    place: int = field(default=-1)


class Memory(Store):
    """Entries in the memory of this process.

    Args:
        max_bytes: the most bytes to hold, as 2_000_000 or "2GiB"; None for a quarter of what this process may use.
        clock: gives the time, in seconds since the epoch.

    Example:
        >>> from memograd.store import About, Entry
        >>> store = Memory("1MiB")
        >>> store.put(b"key", Entry(About(seconds=2.0), [b"bo", b"dy"]))
        True
        >>> store.get(b"key").body
        [b'body']
    """

    lasting = False

    def __init__(self, max_bytes: int | str | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._max_bytes = None if max_bytes is None else parse_bytes(max_bytes)
        self._clock = clock
        self._lock = new_lock()
        self._turns = Turns()
        self._last = 0
        self.begin_anew()
        guard(self._lock, self)

    def begin_anew(self) -> None:
        """Forget everything."""
        self._held: dict[bytes, Held] = {}
        self._nbytes = 0
        self._age = 0.0
        self._family = Family()
        # Each place is (what is sorted by, its number, key); it counts as long as the entry has that number.
        self._least: list[tuple[float, int, bytes]] = []
        self._ends: list[tuple[float, bytes]] = []

    @property
    def max_bytes(self) -> int:
        """The most bytes to hold."""
        if self._max_bytes is None:
            from memograd.store._limit import memory_limit

            self._max_bytes = memory_limit() // 4
        return self._max_bytes

    def get(self, key: bytes) -> Entry | None:
        """Give the entry of a key, None if there is none, and count that as a use."""
        with self._lock:
            held = self._find(key)
            if held is None:
                return None
            held.hits += 1
            held.used = self._clock()
            held.priority = self._priority(held)
            return Entry(held.about, [held.body])

    def put(self, key: bytes, entry: Entry, *, read: float = 0.0) -> bool:
        """Put an entry in the place of any other of its key, and make room; tell whether it was taken.

        Args:
            key: its key.
            entry: what to keep. Its bytes are copied.
            read: seconds in which it could be had from a slower store, if it is there; all that it saves are those.
        """
        nbytes = entry.nbytes + OVERHEAD
        with self._lock:
            if key in self._held:
                self._remove(key)
            held = Held(self._from_the_nearest(entry.about), b"", nbytes, read, self._clock())
            held.priority = self._priority(held)
            if self._make_room(key, held):
                return self._copy(key, held, entry)
            self._orphan(key, held.about)
            return False

    def delete(self, key: bytes) -> bool:
        """Take an entry out; tell whether there was one."""
        with self._lock:
            return self._find(key) is not None and self._take_out(key)

    def contains(self, key: bytes) -> bool:
        """Tell whether there is an entry, without counting that as a use."""
        with self._lock:
            return self._find(key) is not None

    def infos(self) -> Iterator[Info]:
        """Go through the entries that there are now, in any order."""
        with self._lock:
            self._drop_expired()
            found = [Info(key, held.about, held.nbytes, held.hits, held.used) for key, held in self._held.items()]
        return iter(found)

    def count(self) -> int:
        """Count the entries."""
        with self._lock:
            self._drop_expired()
            return len(self._held)

    def clear(self) -> int:
        """Take every entry out; count them."""
        with self._lock:
            self._drop_expired()
            count = len(self._held)
            self.begin_anew()
            return count

    @property
    def nbytes(self) -> int:
        """Count the bytes that the entries take, by estimate."""
        return self._nbytes

    def lease(self, key: bytes) -> Lease | None:
        """Take the right to compute a key; None while another thread of this process has it."""
        return self._turns.take(key)

    def pin(self, key: bytes, *, pinned: bool = True) -> bool:
        """Keep an entry from being evicted, or no longer; tell whether there is one."""
        with self._lock:
            held = self._find(key)
            if held is None:
                return False
            held.about = replace(held.about, pinned=pinned)
            self._enter(key, held)
            return True

    def __repr__(self) -> str:
        return f"<Memory: {len(self._held):,} entries, {show_bytes(self._nbytes)} of {show_bytes(self.max_bytes)}>"

    # With the lock held:

    def _find(self, key: bytes) -> Held | None:
        held = self._held.get(key)
        if held is None or held.about.expires is None or held.about.expires > self._clock():
            return held
        self._take_out(key)
        return None

    def _priority(self, held: Held) -> float:
        return priority(self._age, held.hits + 1, held.about.seconds, held.nbytes, held.read)

    def _insert(self, key: bytes, held: Held) -> None:
        self._held[key] = held
        self._nbytes += held.nbytes
        self._family.add(key, held.about.parent)
        self._enter(key, held)
        if held.about.expires is not None:
            heappush(self._ends, (held.about.expires, key))

    def _enter(self, key: bytes, held: Held) -> None:
        """Give an entry a place among those that may be evicted; any other of its places no longer counts."""
        self._last += 1
        held.place = self._last
        if not held.about.pinned:
            heappush(self._least, (held.priority, held.place, key))
        if len(self._least) > 2 * len(self._held) + 100:
            self._least = [place for place in self._least if self._counts(place)]
            heapify(self._least)

    def _counts(self, place: tuple[float, int, bytes]) -> bool:
        held = self._held.get(place[2])
        return held is not None and held.place == place[1]

    def _take_out(self, key: bytes) -> bool:
        self._orphan(key, self._remove(key).about)
        return True

    def _remove(self, key: bytes) -> Held:
        held = self._held.pop(key)
        self._nbytes -= held.nbytes
        self._family.keep(key)
        return held

    def _orphan(self, key: bytes, about: About) -> None:
        """Let what continues a key that is gone be computed, from now on, from that one's parent on."""
        for child in self._family.lose(key, about.parent, about.seconds):
            held = self._held[child]
            held.about = replace(held.about, seconds=held.about.seconds + about.seconds, parent=about.parent)
            held.priority = self._priority(held)

    def _copy(self, key: bytes, held: Held, entry: Entry) -> bool:
        try:
            held.body = b"".join(entry.body)
        except MemoryError:
            return refuse(key, f"there is no memory for {held.nbytes:,} bytes; give the store a smaller max_bytes")
        self._insert(key, held)
        return True

    def _from_the_nearest(self, about: About) -> About:
        """Count what a chained entry takes from the nearest ancestor that remains."""
        if about.parent is None:
            return about
        seconds, parent = self._family.nearest(about.parent, self._held)
        return replace(about, seconds=about.seconds + seconds, parent=parent) if seconds else about

    def _drop_expired(self) -> None:
        now = self._clock()
        while self._ends and self._ends[0][0] <= now:
            self._find(heappop(self._ends)[1])

    def _make_room(self, key: bytes, new: Held) -> bool:
        """Evict what saves less than an entry that wants to come, until it fits; tell whether it does."""
        limit = self.max_bytes
        if new.nbytes > limit:
            return refuse(key, f"the entry takes about {new.nbytes:,} bytes, the store holds {limit:,}")
        if self._nbytes + new.nbytes > limit:
            self._drop_expired()
        victims, room = self._victims(new, self._nbytes + new.nbytes - limit)
        if not room:
            return refuse(key, "what the store holds saves more seconds per byte")
        for victim in victims:
            self._take_out(victim)
            if listeners:
                tell(Evict(victim, "max_bytes"))
        return True

    def _victims(self, new: Held, lack: int) -> tuple[list[bytes], bool]:
        """Choose the least entries that together make room; tell whether all of them save less than the new one."""
        chosen: list[tuple[float, int, bytes]] = []
        while lack > 0 and self._least:
            place = heappop(self._least)
            if not self._counts(place):
                continue
            held = self._held[place[2]]
            if place[0] < held.priority:
                heappush(self._least, (held.priority, *place[1:]))
                continue
            if held.priority > new.priority:
                heappush(self._least, place)
                break
            chosen.append(place)
            lack -= held.nbytes
        if lack > 0:
            # As if it had come and were the first to go: so the age grows, and what is not used any more goes in time.
            self._age = max(self._age, new.priority)
            for place in chosen:
                heappush(self._least, place)
            return [], False
        self._age = max([self._age, *(place[0] for place in chosen)])
        new.priority = self._priority(new)
        return [place[2] for place in chosen], True


def refuse(key: bytes, reason: str) -> bool:
    """Say that an entry is not taken, and why."""
    if listeners:
        tell(Refuse(key, reason))
    return False
