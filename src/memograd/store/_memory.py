"""Results in memory: a mapping that forgets what was used least recently when it holds more than `max_bytes`."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import MutableMapping
from functools import cache
from sys import getsizeof
from typing import TYPE_CHECKING, Any

from memograd._events import Evict, Refuse, listeners, tell
from memograd._key import MISSING, Key, in_front
from memograd.store._lock import guard, new_lock
from memograd.store._size import size_of

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

# What an entry costs beside its key's arguments and its value: places in three tables and a front, the key's tuple.
ENTRY = 500


class Memory(MutableMapping[Key, Any]):
    """A mapping from keys to results, bounded in bytes; looking up makes an entry the most recent.

    Each operation is atomic among threads. A result that alone is larger than `max_bytes` is not kept.

    Args:
        max_bytes: the most bytes to hold, by estimate; None for a quarter of what this process may use.
        lock: what guards the entries, if the owner has one already.
    """

    def __init__(self, max_bytes: int | None = None, lock: threading.RLock | None = None) -> None:
        self.entries: OrderedDict[Key, Any] = OrderedDict()
        self.nbytes = 0
        self.lock = new_lock() if lock is None else lock
        # Functions that are gone, whose entries nobody can ask for; noted by the garbage collector, at any moment.
        self.orphaned: deque[object] = deque()
        self._max_bytes = max_bytes
        self._sizes: dict[object, dict[Key, int]] = {}
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
        return (default_memory, ()) if self is default_memory() else (Memory, (self._max_bytes,))

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

    def insert(self, key: Key, value: Any) -> None:
        """Put an entry and make room for it, with the lock held already."""
        if key in self.entries:
            del self[key]
        nbytes = ENTRY + size_of(value) + sum(map(getsizeof, key[2::2]))
        limit = self._max_bytes or self.max_bytes
        if nbytes > limit:
            tell(Refuse(key, f"the result takes about {nbytes:,} bytes, the store holds {limit:,}"))
            return
        self.entries[key] = value
        self._sizes.setdefault(key[0].family, {})[key] = nbytes
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
        return f"<Memory: {len(self):,} entries, {self.nbytes:,} of {self.max_bytes:,} bytes>"

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
        self.nbytes = 0

    def _make_room(self) -> None:
        while self.orphaned:
            for key in self.keys_of(self.orphaned.popleft()):
                del self[key]
        while self.nbytes > self.max_bytes:
            # The first is the one used least recently: every use moves an entry to the end. But for those in front:
            # there nothing is noted, so they have a second chance (Corbato's clock).
            key = next(iter(self.entries))
            if key.function.front.pop(in_front(key), MISSING) is not MISSING:
                self.entries.move_to_end(key)
                continue
            del self[key]
            if listeners:
                tell(Evict(key, "max_bytes"))


@cache
def default_memory() -> Memory:
    """Give the memory that all functions of this process share where nothing else is said."""
    return Memory()
