"""The results of one function in a store, whatever the store is: looked up, put, taken out, and counted."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from memograd._events import Evict, listeners, tell
from memograd._key import MISSING, Key
from memograd.store._results import Results

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from threading import RLock
    from typing import TypeAlias

    from memograd._voice import Voice

    Store: TypeAlias = MutableMapping[Any, Any]


class Counts:
    """What happened to the calls of one function."""

    __slots__ = ("bypasses", "evictions", "found", "hits", "misses", "puts")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin to count anew."""
        self.hits = self.found = self.misses = self.bypasses = self.puts = self.evictions = 0


class Shelf:
    """The results of one function.

    Args:
        family: what all versions of the function have in common.
        store: any mapping; what it raises costs a computation and one warning, never the call.
        lock: guards the counters and the order of use; shared by the functions of a Memo.
        max_entries: the most results to hold, None for any number.
        voice: says what fails.

    Attributes:
        order: the keys, the one used least recently first; None where any number is held.
    """

    def __init__(self, family: object, store: Store, lock: RLock, max_entries: int | None, voice: Voice) -> None:
        self.family = family
        self.store = store
        self.lock = lock
        self.max_entries = max_entries
        self.counts = Counts()
        self.order: OrderedDict[Key, None] | None = None if max_entries is None else OrderedDict()
        self._voice = voice
        # A memory of our own is looked into with its lock held already.
        own = store if isinstance(store, Results) and store.lock is lock else None
        self._insert: Callable[[Key, Any, float], None] = _inserter(store) if own is None else own.insert
        self._find: Callable[[Key, Any], Any] = store.get if own is None else own.find

    def peek(self, key: Key) -> Any:
        """Look up without counting. That is a use: the result is the last one to go."""
        with self.lock:
            value = self._looked_up(self._find, key)
            if value is not MISSING and self.order is not None:
                self.order[key] = None
                self.order.move_to_end(key)
            return value

    def holds(self, key: Key) -> bool:
        """Tell whether a result is there. That is no use: the order in which results go stays as it is."""
        with self.lock:
            if isinstance(self.store, Results):
                return key in self.store
            return self._looked_up(self.store.get, key) is not MISSING

    def _looked_up(self, find: Callable[[Key, Any], Any], key: Key) -> Any:
        try:
            return find(key, MISSING)
        except Exception as error:  # noqa: BLE001 - a store that fails costs a computation, never the call
            self._failed("look into", error)
            return MISSING

    def put(self, key: Key, value: Any, seconds: float = 0.0) -> bool:
        """Give a result to the store, with the lock held, and make room; tell whether it took it.

        Args:
            seconds: what it took to compute.
        """
        try:
            self._insert(key, value, seconds)
            self.counts.puts += 1
            if self.order is not None:
                self._make_room(self.order, key)
        except Exception as error:  # noqa: BLE001 - as in peek
            self._failed("put into", error)
            return False
        return True

    def fill(self, key: Key, value: Any, seconds: float) -> None:
        """Keep at hand what was found elsewhere, which takes so many seconds."""
        with self.lock:
            try:
                self._insert(key, value, seconds)
                if self.order is not None:
                    self._make_room(self.order, key)
            except Exception as error:  # noqa: BLE001 - as in peek
                self._failed("put into", error)

    def _make_room(self, order: OrderedDict[Key, None], key: Key) -> None:
        order[key] = None
        order.move_to_end(key)
        while len(order) > (self.max_entries or 0):
            oldest, _ = order.popitem(last=False)
            if self.store.pop(oldest, MISSING) is not MISSING:
                self.counts.evictions += 1
                if listeners:
                    tell(Evict(oldest, "max_entries"))

    def drop(self, key: Key) -> bool:
        """Take a result out; tell whether there was one."""
        with self.lock:
            if self.order is not None:
                self.order.pop(key, None)
            return self._taken_out(key)

    def _taken_out(self, key: Key) -> bool:
        try:
            return self.store.pop(key, MISSING) is not MISSING
        except Exception as error:  # noqa: BLE001 - as in peek
            self._failed("take out of", error)
            return False

    def keys(self) -> list[Key]:
        """List the keys of this function in the store; none where it cannot list them."""
        if isinstance(self.store, Results):
            return self.store.keys_of(self.family)
        try:
            return [key for key in list(self.store) if isinstance(key, Key) and key.function.family is self.family]
        except Exception as error:  # noqa: BLE001 - as in peek
            self._failed("list what is in", error)
            return []

    def __len__(self) -> int:
        return self.store.count_of(self.family) if isinstance(self.store, Results) else len(self.keys())

    def clear(self) -> list[Key]:
        """Take every result out and begin to count anew; list what was there."""
        with self.lock:
            keys = self.keys()
            for key in keys:
                self._taken_out(key)
            if self.order is not None:
                self.order.clear()
            self.counts.reset()
            return keys

    def _failed(self, doing: str, error: Exception) -> None:
        reason = f"{self._voice.face}(): could not {doing} the store: {error!r}"
        self._voice.refuse(self._voice.face, reason, once=doing)


def _inserter(store: Store) -> Callable[[Key, Any, float], None]:
    """Put into a mapping of the user's, which knows nothing of seconds."""

    def insert(key: Key, value: Any, _: float) -> None:
        store[key] = value

    return insert
