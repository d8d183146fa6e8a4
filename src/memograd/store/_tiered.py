"""Several stores as one, fast before slow: what is found in a slow one is kept in the fast ones, if that is worth it.

A tier that fails is passed over, with one warning: what it holds is missing for the time, and nothing else is.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from memograd._errors import warn
from memograd.store._base import Entry, Info, Lease, Store
from memograd.store._memory import Memory, refuse
from memograd.store._turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")

# Bytes that one core copies in a second, at least.
COPIED = 4e9
# Bodies up to this size tell what a read costs at all, larger ones what it costs by the byte.
SMALL = 16_384


class Tier:
    """A store, what it takes to read from it, and whether it was said that it fails."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.warned = False
        self._latency = 0.0
        self._per_byte = 0.0

    def ask(self, what: Callable[[Store], T], otherwise: T) -> T:
        """Ask the store, and take its failure for `otherwise`."""
        try:
            return what(self.store)
        except Exception as error:  # noqa: BLE001 - a store raises what its library raises; each costs a computation
            if not self.warned:
                self.warned = True
                said = f"{self.store!r} failed ({type(error).__name__}: {error})"
                warn(f"{said}; memograd goes on without it, and asks again")
            return otherwise

    def get(self, key: bytes) -> Entry | None:
        """Read, and learn what that takes."""
        start = time.perf_counter()
        entry = self.ask(lambda store: store.get(key), None)
        if entry is not None:
            self.learn(entry.nbytes, time.perf_counter() - start)
        return entry

    def get_many(self, keys: Sequence[bytes]) -> list[Entry | None]:
        """Read many."""
        nothing: list[Entry | None] = [None] * len(keys)
        if not keys:
            return nothing
        start = time.perf_counter()
        found = self.ask(lambda store: store.get_many(keys), nothing)
        entries = [entry for entry in found if entry is not None]
        if entries:
            self.learn(
                sum(entry.nbytes for entry in entries) // len(entries), (time.perf_counter() - start) / len(entries)
            )
        return found

    def learn(self, nbytes: int, seconds: float) -> None:
        """Note what a read took."""
        if nbytes <= SMALL:
            self._latency += (seconds - self._latency) * (0.1 if self._latency else 1.0)
        else:
            per_byte = max(seconds - self._latency, 0.0) / nbytes
            self._per_byte += (per_byte - self._per_byte) * (0.2 if self._per_byte else 1.0)

    def read(self, nbytes: int) -> float:
        """Guess the seconds of a read, 0 while none was seen."""
        return self._latency + (self._per_byte * nbytes if nbytes > SMALL else 0.0)


class Tiered(Store):
    """Several stores as one.

    What is put goes to all that take entries; what takes longer to read from one than to compute does not go there.
    The right to compute is that of the slowest store that others share, since that is where they look.

    Args:
        stores: fast to slow.

    Example:
        >>> from memograd.store import Memory
        >>> fast, slow = Memory("1MiB"), Memory("1GiB")
        >>> both = Tiered(fast, slow)
    """

    def __init__(self, *stores: Store) -> None:
        if not stores:
            raise ValueError(
                "Tiered() got no stores, expected one or more, fast to slow; write Tiered(Memory(), Disk(path))"
            )
        for store in stores:
            if not isinstance(store, Store):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(
                    f"Tiered() got {store!r}, expected stores, fast to slow; write Tiered(Memory(), Disk(path))"
                )
        self._tiers = [Tier(store) for store in stores]
        self._turns = Turns()
        self.lasting = any(store.lasting for store in stores)
        self.shared = any(store.shared for store in stores)
        self.readonly = all(store.readonly for store in stores)

    @property
    def stores(self) -> tuple[Store, ...]:
        """The stores, fast to slow."""
        return tuple(tier.store for tier in self._tiers)

    def get(self, key: bytes) -> Entry | None:
        """Give the entry of a key from the fastest that has it, and keep it in those that are faster."""
        for at, tier in enumerate(self._tiers):
            entry = tier.get(key)
            if entry is not None:
                self._fill(at, key, entry)
                return entry
        return None

    def get_many(self, keys: Sequence[bytes]) -> list[Entry | None]:
        """Give the entries of many keys; each store is asked for what the faster ones lack."""
        found: dict[bytes, Entry] = {}
        missing = list(dict.fromkeys(keys))
        for at, tier in enumerate(self._tiers):
            for key, entry in zip(missing, tier.get_many(missing), strict=True):
                if entry is not None:
                    found[key] = entry
                    self._fill(at, key, entry)
            missing = [key for key in missing if key not in found]
        return [found.get(key) for key in keys]

    def put(self, key: bytes, entry: Entry) -> bool:
        """Put an entry into every store that takes entries and reads it sooner than it is computed."""
        taken, below = False, 0.0
        for tier in reversed(self._tiers):
            if tier.store.readonly:
                continue
            if pays(tier, entry) and self._put(tier, key, entry, below):
                taken, below = True, tier.read(entry.nbytes) or below
            else:
                # What is there of this key is another entry, and must not be found in the place of this one.
                tier.ask(lambda store: store.delete(key), otherwise=False)
        return taken or refuse(key, "no store takes it, or it is computed sooner than read")

    def delete(self, key: bytes) -> bool:
        """Take an entry out of all stores; tell whether there was one."""
        return sum(tier.ask(lambda store: store.delete(key), otherwise=False) for tier in self._tiers) > 0

    def contains(self, key: bytes) -> bool:
        """Tell whether there is an entry, without counting that as a use."""
        return any(tier.ask(lambda store: store.contains(key), otherwise=False) for tier in self._tiers)

    def infos(self) -> Iterator[Info]:
        """Go through all entries, each once: as it stands in the slowest store, with the uses of all."""
        faster: dict[bytes, Info] = {}
        for tier in reversed(self._tiers[:-1]):
            for info in tier.ask(lambda store: list(store.infos()), []):
                slower = faster.get(info.key)
                faster[info.key] = info if slower is None else merged(slower, info)
        for info in guarded(self._tiers[-1]):
            yield merged(info, faster.pop(info.key, None))
        yield from faster.values()

    def count(self) -> int:
        """Count the entries, each once."""
        last = self._tiers[-1].ask(lambda store: store.count(), 0)
        above = {info.key for tier in self._tiers[:-1] for info in tier.ask(lambda store: list(store.infos()), [])}
        return last + sum(
            not self._tiers[-1].ask(lambda store, key=key: store.contains(key), otherwise=False) for key in above
        )

    def clear(self) -> int:
        """Take every entry out of all stores; count them."""
        count = 0 if self.readonly else self.count()
        for tier in self._tiers:
            tier.ask(lambda store: store.clear(), 0)
        return count

    @property
    def nbytes(self) -> int:
        """Count the bytes that the entries take, in all stores."""
        return sum(tier.ask(lambda store: store.nbytes, 0) for tier in self._tiers)

    def lease(self, key: bytes) -> Lease | None:
        """Take the right to compute a key from the slowest store that others share, or else outlives the process."""
        writable = [tier for tier in self._tiers if not tier.store.readonly] or self._tiers
        tier = max(reversed(writable), key=lambda tier: (tier.store.shared, tier.store.lasting))
        asked: tuple[Lease | None] | None = tier.ask(lambda store: (store.lease(key),), None)
        return self._turns.take(key) if asked is None else asked[0]

    def pin(self, key: bytes, *, pinned: bool = True) -> bool:
        """Keep an entry from being evicted in every store, or no longer; tell whether there is one."""
        return sum(tier.ask(lambda store: store.pin(key, pinned=pinned), otherwise=False) for tier in self._tiers) > 0

    def close(self) -> None:
        """Close all stores."""
        for tier in self._tiers:
            tier.ask(lambda store: store.close(), None)

    def __repr__(self) -> str:
        return f"Tiered({', '.join(map(repr, self.stores))})"

    def _fill(self, at: int, key: bytes, entry: Entry) -> None:
        """Keep what was found in one store in the faster ones, where to copy it costs less than to read it again."""
        nbytes = entry.nbytes
        read = self._tiers[at].read(nbytes)
        if at and read > nbytes / COPIED:
            for tier in self._tiers[:at]:
                if not tier.store.readonly and tier.read(nbytes) < read:
                    self._put(tier, key, entry, read)

    def _put(self, tier: Tier, key: bytes, entry: Entry, read: float) -> bool:
        if isinstance(tier.store, Memory):
            memory = tier.store
            return tier.ask(lambda _: memory.put(key, entry, read=read), otherwise=False)
        return tier.ask(lambda store: store.put(key, entry), otherwise=False)


def pays(tier: Tier, entry: Entry) -> bool:
    """Tell whether to read an entry takes less than to compute it; where that was not measured, yes."""
    seconds = entry.about.seconds
    return seconds <= 0 or entry.about.pinned or tier.read(entry.nbytes) < seconds


def guarded(tier: Tier) -> Iterator[Info]:
    """Go through a store until it fails."""
    nothing: Iterator[Info] = iter(())
    infos = tier.ask(lambda store: store.infos(), nothing)
    while (info := tier.ask(lambda _: next(infos, None), None)) is not None:
        yield info


def merged(info: Info, other: Info | None) -> Info:
    """Count the uses of an entry in two stores together."""
    return info if other is None else replace(info, hits=info.hits + other.hits, used=max(info.used, other.used))
