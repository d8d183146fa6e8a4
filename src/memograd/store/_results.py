"""Results in memory: a mapping that, when it holds more than `max_bytes`, forgets what saves the fewest seconds a byte.

It does so among the few that were used least recently: nothing is counted at a hit, whose cost is all of its worth.
Whoever is spared is worth half as much the next time, so that what was dear once and is asked for no more goes, too
(the ageing of Young's GreedyDual, On-line file caching, 1998, with Corbato's clock for an order).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import MutableMapping
from functools import cache
from itertools import islice
from sys import getsizeof
from typing import TYPE_CHECKING, Any

from memograd._events import Evict, Refuse, listeners, tell
from memograd._key import MISSING, Key, in_front
from memograd.store._lock import guard, new_lock
from memograd.store._size import size_of

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from memograd.store._base import Store

# What an entry costs beside its key's arguments and its value: places in three tables and a front, the key's tuple.
ENTRY = 500
# How many of those used least recently are compared.
LOOKS = 16
# Of what two calls took, less than this factor says nothing.
NOISE = 4


class Results(MutableMapping[Key, Any]):
    """A mapping from keys to results, bounded in bytes; looking up makes an entry the most recent.

    Each operation is atomic among threads. A result that alone is larger than `max_bytes` is not kept.

    Args:
        max_bytes: the most bytes to hold, by estimate; None for a quarter of what this process may use.
        lock: what guards the entries, if the owner has one already.
        behind: what outlives the process, if anything does.
    """

    def __init__(
        self, max_bytes: int | None = None, lock: threading.RLock | None = None, behind: Store | None = None
    ) -> None:
        self.behind = behind
        self.entries: OrderedDict[Key, Any] = OrderedDict()
        self.nbytes = 0
        self.lock = new_lock() if lock is None else lock
        # Functions that are gone, whose entries nobody can ask for; noted by the garbage collector, at any moment.
        self.orphaned: deque[object] = deque()
        self._max_bytes = max_bytes
        self._sizes: dict[object, dict[Key, int]] = {}
        self._worth: dict[Key, float] = {}
        guard(self.lock, self)

    @property
    def max_bytes(self) -> int:
        """The most bytes to hold."""
        if self._max_bytes is None:
            from memograd.store._limit import memory_limit

            self._max_bytes = memory_limit() // 4
        return self._max_bytes

    def __reduce__(self) -> tuple[Any, ...]:
        # What is in memory does not travel.
        return (default_results, ()) if self is default_results() else (Results, (self._max_bytes, None, self.behind))

    def __getitem__(self, key: Key) -> Any:
        with self.lock:
            value = self.entries[key]
            self.entries.move_to_end(key)
            return value

    def find(self, key: Key, default: Any) -> Any:
        """Look up, with the lock held already."""
        value = self.entries.get(key, default)
        if value is not default:
            self.entries.move_to_end(key)
        return value

    def __setitem__(self, key: Key, value: Any) -> None:
        with self.lock:
            self.insert(key, value)

    def insert(self, key: Key, value: Any, seconds: float = 0.0) -> None:
        """Put an entry and make room for it, with the lock held already.

        Args:
            seconds: what it takes to have it again.
        """
        if key in self.entries:
            del self[key]
        nbytes = ENTRY + size_of(value) + sum(map(getsizeof, key[2::2]))
        limit = self._max_bytes or self.max_bytes
        if nbytes > limit:
            tell(Refuse(key, f"the result takes about {nbytes:,} bytes, the store holds {limit:,}"))
            return
        self.entries[key] = value
        self._sizes.setdefault(key[0].family, {})[key] = nbytes
        self._worth[key] = seconds / nbytes
        self.nbytes += nbytes
        if self.nbytes > limit or self.orphaned:
            self._make_room()

    def bring_to_front(self, key: tuple[Any, ...], value: Any) -> None:
        """Let the result of a call with integers alone be found by those, which is quicker, until the entry goes."""
        function, place = key[0], in_front(key)
        function.front[place] = value
        # Without the lock, so another thread may have removed the entry: whoever comes second sees the other's doing.
        if key not in self.entries:
            function.front.pop(place, None)

    def __delitem__(self, key: Key) -> None:
        with self.lock:
            del self.entries[key]
            key.function.front.pop(in_front(key), None)
            self._worth.pop(key, None)
            sizes = self._sizes[key.function.family]
            self.nbytes -= sizes.pop(key)
            if not sizes:
                del self._sizes[key.function.family]

    def __contains__(self, key: object) -> bool:
        with self.lock:
            return key in self.entries

    def __iter__(self) -> Iterator[Key]:
        with self.lock:
            return iter(list(self.entries))

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        return f"<Results: {len(self):,} entries, {self.nbytes:,} of {self.max_bytes:,} bytes>"

    def keys_of(self, family: object) -> list[Key]:
        """List the keys of all versions of a function."""
        with self.lock:
            return list(self._sizes.get(family, ()))

    def count_of(self, family: object) -> int:
        """Count the entries of all versions of a function."""
        with self.lock:
            return len(self._sizes.get(family, ()))

    def begin_anew(self) -> None:
        """Forget everything, consistent or not."""
        for key in list(self.entries):
            key.function.front.clear()
        self.entries.clear()
        self._sizes.clear()
        self._worth.clear()
        self.nbytes = 0

    def _make_room(self) -> None:
        while self.orphaned:
            for key in self.keys_of(self.orphaned.popleft()):
                del self[key]
        while self.nbytes > self.max_bytes:
            key = self._least()
            if key is None:
                continue
            del self[key]
            if listeners:
                tell(Evict(key, "max_bytes"))

    def _least(self) -> Key | None:
        """Find what to forget; None if it is to be looked for again, since there was something in front."""
        # The first are those used least recently: every use moves an entry to the end. But for those in front: there
        # nothing is noted, so they have a second chance (Corbato's clock).
        few = list(islice(self.entries, LOOKS))
        in_use = [key for key in few if key.function.front.pop(in_front(key), MISSING) is not MISSING]
        if in_use:
            for key in in_use:
                self.entries.move_to_end(key)
            return None
        for key in few:
            self._worth[key] /= 2
        # What has just come stays: it may be asked for at once.
        others = few[:-1] if 1 < len(few) == len(self.entries) else few
        least = min(others, key=self._worth.__getitem__)
        return least if self._worth[least] < self._worth[few[0]] / NOISE else few[0]


@cache
def default_results() -> Results:
    """Give the memory that all functions of this process share where nothing else is said."""
    return Results()
