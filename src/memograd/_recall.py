"""Act one, across calls: look → compute what is missing → put → tell, in front of any `MutableMapping`."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from memograd._deep._flight import STRIDE, here, outermost
from memograd._deep._landing import Call
from memograd._errors import NoIdentityError, warn
from memograd._events import Evict, Hit, Miss, Put, Refuse, listeners, tell
from memograd._key import BARE, MISSING, Key, key_of
from memograd.store._keepable import unkeepable
from memograd.store._memory import Memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping, Sequence
    from threading import RLock
    from typing import TypeAlias

    from memograd._deep._flight import Flight
    from memograd._key import Function

    Store: TypeAlias = MutableMapping[Any, Any]


class Counts:
    """What happened to the calls of one function."""

    __slots__ = ("bypasses", "evictions", "hits", "misses", "puts")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin to count anew."""
        self.hits = self.misses = self.bypasses = self.puts = self.evictions = 0


class Recall:
    """One function in front of one store.

    Args:
        f: the function; it is called without any lock held.
        function: whose keys the keys are.
        store: any mapping; what it raises costs a computation and one warning, never the call.
        lock: guards the counters and the order of use; shared by the functions of a Memo.
        max_entries: the most results of this function to hold; the least recently used goes first.
        strict: raise for an argument without identity in place of computing without remembering.
    """

    def __init__(
        self,
        f: Callable[..., Any],
        function: Function,
        store: Store,
        lock: RLock,
        max_entries: int | None,
        strict: bool,
    ) -> None:
        self.f = f
        self.function = function
        self.store = store
        self.lock = lock
        self.max_entries = max_entries
        self.strict = strict
        self.counts = Counts()
        self.insert = store.insert if isinstance(store, Memory) and store.lock is lock else store.__setitem__
        self.order: OrderedDict[Key, None] | None = None if max_entries is None else OrderedDict()
        self.warned: set[str] = set()

    def answer(
        self,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        values: Sequence[Any],
        probe: tuple[Any, ...] | None = None,
    ) -> Any:
        """Answer a call: from the store, else by computing.

        `values` are those of the parameters, bound. `probe` is what the wrapper has looked for in the store already:
        the key, if all of them are plain.
        """
        flight = here.flight
        # Looked for by the wrapper and not found: to look again here would cost as much as all the rest of a miss.
        if probe is not None and BARE.issuperset(probe[1::2]):
            key, value = Key(probe), MISSING
        else:
            key, value = self.look(values)
            if key is None:
                return self.f(*args, **kwargs)
        if value is not MISSING:
            return value
        if flight is None:
            return self.first(key, args, kwargs)
        # Evicted meanwhile, or never taken by the store: what this outermost call has computed is not computed twice.
        if key in flight.known:
            self.hit(key)
            return flight.known[key]
        level = flight.level = flight.level + 1
        try:
            if level % flight.stride == 0 or level < STRIDE or flight.leaving or flight.handed:
                value = flight.detour(Call(key, self.f, args, kwargs))
            if value is not MISSING:
                return self.put(flight, key, value)
            # Called from here, and not from a method of the flight: that would take a frame from every level.
            value = self.f(*args, **kwargs)
        except Exception as error:
            self.missed()
            flight.judge(error, Call(key, self.f, args, kwargs))
            raise
        # The body has swallowed the exception that was to unwind it: what it returned is not its result.
        if flight.leaving:
            raise flight.leaving
        flight.level = level - 1
        return self.put(flight, key, value)

    def first(self, key: Key, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Compute the outermost memoized call of this thread."""
        try:
            value = outermost(self.f, args, kwargs)
        except Exception:
            self.missed()
            raise
        return self.put(None, key, value)

    def missed(self) -> None:
        """Count a miss."""
        with self.lock:
            self.counts.misses += 1

    def look(self, values: Sequence[Any]) -> tuple[Key | None, Any]:
        """Find the key of a call, None if it has none, and what the store has for it, MISSING if nothing."""
        try:
            key = key_of(self.function, values)
        except NoIdentityError as error:
            self.bypass(error)
            return None, MISSING
        value = self.peek(key)
        if value is MISSING:
            key.describe(values)
        else:
            self.hit(key)
        return key, value

    def hit(self, key: Key) -> None:
        """Count a hit."""
        with self.lock:
            self.counts.hits += 1
        if listeners:
            tell(Hit(key))

    def bypass(self, error: NoIdentityError) -> None:
        """Say that a call has no key, or raise that."""
        if self.strict:
            raise error
        with self.lock:
            self.counts.bypasses += 1
        self.refuse(self.function, f"{error}. The call is computed and not remembered")

    def peek(self, key: Key) -> Any:
        """Look into the store without counting."""
        with self.lock:
            try:
                value = self.store.get(key, MISSING)
            except Exception as error:  # noqa: BLE001 - a store that fails costs a computation, never the call
                return self.failed("look into", error)
            if value is not MISSING and self.order is not None:
                self.order[key] = None
                self.order.move_to_end(key)
            return value

    def put(self, flight: Flight | None, key: Key, value: Any) -> Any:
        """Give a computed result to the store, if it can be given back a second time, make room, and return it."""
        reason = "" if type(value) in BARE else unkeepable(value)
        kept = not reason
        if kept and flight is not None:
            flight.known[key] = value
        counts = self.counts
        with self.lock:
            counts.misses += 1
            try:
                if kept:
                    self.insert(key, value)
                    counts.puts += 1
                    if self.order is not None:
                        self.make_room(self.order, key)
            except Exception as error:  # noqa: BLE001 - as in peek
                kept = False
                self.failed("put into", error)
        if reason:
            self.refuse(key, f"{self.function.name}() returned {reason}; the result is not remembered")
        if listeners:
            tell(Miss(key))
            if kept:
                tell(Put(key))
        return value

    def make_room(self, order: OrderedDict[Key, None], key: Key) -> None:
        """Let the least recently used results go while there are more than `max_entries`."""
        order[key] = None
        order.move_to_end(key)
        while len(order) > (self.max_entries or 0):
            oldest, _ = order.popitem(last=False)
            if self.store.pop(oldest, MISSING) is not MISSING:
                self.counts.evictions += 1
                if listeners:
                    tell(Evict(oldest, "max_entries"))

    def key(self, values: Sequence[Any]) -> Key:
        """Make the key of a call. Raises `NoIdentityError`."""
        key = key_of(self.function, values)
        key.describe(values)
        return key

    def holds(self, values: Sequence[Any]) -> bool:
        """Tell whether the result of a call is remembered."""
        try:
            return self.peek(key_of(self.function, values)) is not MISSING
        except NoIdentityError:
            return False

    def forget(self, values: Sequence[Any]) -> bool:
        """Remove the result of a call; tell whether there was one."""
        try:
            key = key_of(self.function, values)
        except NoIdentityError:
            return False
        _drop([key])
        with self.lock:
            if self.order is not None:
                self.order.pop(key, None)
            return self.store.pop(key, MISSING) is not MISSING

    def keys(self) -> list[Key]:
        """List the keys of this function in the store."""
        if isinstance(self.store, Memory):
            return self.store.keys_of(self.function)
        return [key for key in list(self.store) if isinstance(key, Key) and key.function is self.function]

    def clear(self) -> None:
        """Remove every result of this function and begin to count anew."""
        with self.lock:
            keys = self.keys()
            for key in keys:
                self.store.pop(key, None)
            _drop(keys)
            if self.order is not None:
                self.order.clear()
            self.counts.reset()

    def failed(self, doing: str, error: Exception) -> Any:
        """Say once that the store failed, and go on as if nothing were remembered."""
        self.refuse(self.function, f"{self.function.name}(): could not {doing} the store: {error!r}", once=doing)
        return MISSING

    def refuse(self, key: object, reason: str, once: str = "") -> None:
        """Say why something is not remembered: as an event each time, as a warning once a kind."""
        if listeners:
            tell(Refuse(key, reason))
        kind = once or type(key).__name__
        if kind not in self.warned:
            self.warned.add(kind)
            warn(reason)


def _drop(keys: Sequence[Key]) -> None:
    """Forget results that were kept for the outermost call in progress in this thread."""
    if here.flight is not None:
        for key in keys:
            here.flight.known.pop(key, None)
