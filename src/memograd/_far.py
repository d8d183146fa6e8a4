"""What outlives the process: the results of one function in a store of bytes, behind those in memory.

A key becomes a digest and a result becomes bytes. Where they cannot (a lock in the key, a module in the result), and
where computing is quicker than reading (`Worth`), the result stays in memory. Of processes that ask for one result at
once, one has the lease and computes. Whatever a store raises, or holds, costs a computation.
"""

from __future__ import annotations

import time
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from memograd._copies._keep import Unkeepable
from memograd._deep._flight import here
from memograd._draws import Signpost
from memograd._events import Wait, listeners, tell
from memograd._forms import as_data, as_kept
from memograd._held import Held, held_by_thread, is_inside
from memograd._key import CONTENT, MISSING
from memograd._single import LOOK_UP, Watch
from memograd._subject import digest_for, full_name, joined
from memograd._worth import Worth
from memograd.fingerprint._digest import hash_of
from memograd.fingerprint._form import marshalled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from memograd._key import Key
    from memograd._options import Options
    from memograd._subject import Subject
    from memograd._voice import Voice
    from memograd.store import About, Entry, Info, Store

T = TypeVar("T")

# Bytes from which on a result that is mapped from a file is mapped anew at each hit, and not kept in memory.
MAPPED = 1 << 20
_PAUSES = 0.001, 0.1  # seconds between two looks while waiting, at first and at most
_MODULES = "memograd._module"


class _Nobody:
    """In place of a lease where nobody else computes."""

    live = False

    def enter(self, *, task: bool = False) -> None:
        """Do nothing."""

    def leave(self) -> None:
        """Do nothing."""

    def release(self) -> None:
        """Do nothing."""


NOBODY: Any = _Nobody()
PART = "the result is, or has, a part of the arguments"


class Far:
    """The results of one function in a store of bytes.

    Args:
        subject: what the function is.
        store: where they are.
        options: how the function is remembered.
        voice: says what fails.
    """

    def __init__(self, subject: Subject, store: Store, options: Options, voice: Voice) -> None:
        self.store = store
        # All modules are called by one function of ours.
        self.name = subject.name if subject.f.__module__ == _MODULES else full_name(subject.f)
        self.subject = subject
        self.options = options
        self.voice = voice
        self.hash = hash_of(digest_for(store))
        self.worth = Worth()
        self._signed: set[Key] = set()
        self._last: tuple[Key | None, bytes | None] = (None, None)

    @property
    def serves(self) -> bool:
        """Tell whether to ask the store: not within a recursion of the function, nor where computing is quicker."""
        flight = here.flight
        within = flight is not None and flight.subject is self.subject
        return not within and (self._always or self.worth.looks())

    @property
    def _always(self) -> bool:
        # Who computes anew does so for those who read what is stored.
        return self.options.always or not self.options.mode.looks

    def digest(self, key: Key) -> bytes | None:
        """Digest a key; None where a part of it stands for itself, in this process."""
        last, digest = self._last
        if last is not key:  # a miss asks for one three times
            digest = self._digest(key)
            self._last = key, digest
        return digest

    def _digest(self, key: Key) -> bytes | None:
        if not self.subject.has_name:
            return None
        # What was drawn for ever is none of those who draw anew.
        frozen = b"freeze" if self.options.rng == "freeze" else b""
        chunks = [self.options.salt.encode(), frozen, self.subject.written(key.function)]
        for kind, part in zip(key[1::2], key[2::2], strict=True):
            if kind is not CONTENT:
                chunks.append(b"." + marshalled(part))
            elif part.held:
                return None
            else:
                chunks.append(b"c" + part.stream)
        return self.hash(joined(chunks))

    def find(self, key: Key) -> Any:
        """Find what is stored for a call: as it is kept in memory, or a `Signpost`; MISSING if nothing is."""
        digest = self.digest(key)
        if digest is None:
            return MISSING
        began = perf_counter()
        try:
            entry = self.store.get(digest)
            return MISSING if entry is None else self.thawed(entry)
        except Exception as error:  # noqa: BLE001 - whatever a store raises, or holds, costs a computation
            self.failed("look into", error)
            return MISSING
        finally:
            self.worth.note_read(perf_counter() - began)

    def thawed(self, entry: Entry) -> Any:
        """Make of an entry what is kept in memory, MISSING if it cannot be read."""
        from memograd.codec import Unreadable, decode

        (body,) = entry.body
        try:
            form, value, *rest = decode(body, own=True)
            return as_kept(form, value, rest, entry.nbytes >= MAPPED and self.store.maps, copy=self.options.copy)
        except (Unreadable, Unkeepable, ValueError, TypeError) as error:
            self.voice.tell(self.subject.face, f"{self.subject.name}(): an entry cannot be read: {error}")
            return MISSING

    def put(self, key: Key, stored: Any, seconds: float) -> bool:
        """Store a result, as it is kept in memory.

        Args:
            seconds: what it took to compute.

        Returns:
            Whether it was taken, and will be mapped at each hit: a place in memory would be one too many.
        """
        self.worth.note_computed(seconds)
        if not self.serves:
            return False
        digest = self.digest(key)
        data = None if digest is None else as_data(stored)
        if digest is None:
            self.say_unkeyed(key)
        elif data is None:
            self.stays(key, PART)
        elif self.takes(seconds):
            return self.give(digest, data, lambda: self._about(key, seconds)) >= MAPPED and self.store.maps
        return False

    def takes(self, seconds: float) -> bool:
        """Tell whether to store what took so long to compute."""
        return self._always or self.worth.takes(seconds)

    def say_unkeyed(self, key: Key) -> None:
        """Say that a key has no digest."""
        self.stays(key, self._unkeyed())

    def explain(self, key: Key) -> str:
        """Say whether a result is stored, and if it is not, what may be the reason."""
        if self.digest(key) is None:
            return f"in memory alone: {self._unkeyed()}"
        if self.contains(key):
            return "has it"
        if not self.options.always and not self.worth.pays:
            return f"has it not: it is computed sooner than read, which takes {1e6 * self.worth.reading:.0f} µs"
        return "has it not"

    def stays(self, key: object, reason: str) -> None:
        """Say that a result is kept in memory alone."""
        self.voice.refuse(key, f"{self.subject.name}() is remembered in memory alone: {reason}", once="in memory")

    def sign(self, base: Key, streams: Sequence[str], effects: Sequence[str]) -> None:
        """Say under a base key what else a result depends on."""
        digest = self.digest(base)
        if digest is not None and base not in self._signed:
            self._signed.add(base)
            leads = _pointing(streams, effects)
            self.give(digest, ("signpost", tuple(streams), tuple(effects)), lambda: self._about(base, 0.0, leads))

    def _unkeyed(self) -> str:
        if not self.subject.has_name:
            return "version= is said of what has no name of its own; leave it out, or write a def of a module"
        return "a part of the key stands for itself, in this process"

    def give(self, digest: bytes, data: tuple[Any, ...], about: Callable[[], About]) -> int:
        """Give a result to the store, in the form that `as_data` has made; count the bytes that it took."""
        from memograd.codec import Unencodable, encode
        from memograd.store._base import Entry

        try:
            entry = Entry(about(), encode(data))
            return entry.nbytes if self.store.put(digest, entry) else 0
        except Unencodable as error:
            # The path begins in our own tuple.
            self.stays(self.subject.face, str(error).replace("result[1]", "the result", 1))
        except Exception as error:  # noqa: BLE001 - as above
            self.failed("put into", error)
        return 0

    def _about(self, key: Key, seconds: float, more: str = "") -> About:
        from memograd.store._base import About

        now, ttl = time.time(), self.options.ttl
        expires = None if ttl is None else now + ttl
        return About(self.name, repr(key) + more, key.texts, seconds, now, expires, tags=self.options.tags)

    def wait(self, key: Key) -> tuple[Any, Held | None]:
        """Take the lease of a key, or wait for whoever has it; look again then.

        Returns:
            What is stored by now, MISSING if nothing is, and the lease to compute it.
        """
        pauses = self.pauses(key)
        while True:
            found, lease = self.attempt(key)
            pause = 0.0 if found is not MISSING or lease is not None else next(pauses, 0.0)
            if not pause:
                if lease is not None:
                    lease.enter()
                return found, lease
            time.sleep(pause)

    def pauses(self, key: Key) -> Iterator[float]:
        """Say how long to pause between attempts, until it is time to compute beside whoever has the lease."""
        if listeners:
            tell(Wait(key))
        until, (pause, last) = monotonic() + self.worth.patience, _PAUSES
        stands = self.standing(self.digest(key))
        while monotonic() < until and not next(stands):
            yield pause
            pause = min(1.5 * pause, last)

    def standing(self, digest: bytes | None) -> Iterator[bool]:
        """Tell, as often as it is asked, whether the thread of this process that has the lease stands still for long.

        It may wait for this one, which it has begun. See `memograd._single` NOTE [turns] 5.
        """
        watch, seen, again = Watch(), None, 0.0
        while True:
            held = None if digest is None or monotonic() < again else held_by_thread(digest)
            if held is not None and held.owner:
                watch, seen, again = watch if held is seen else Watch(), held, monotonic() + LOOK_UP
                watch.look_at(held)
            yield watch.has_seen_enough

    def attempt(self, key: Key) -> tuple[Any, Held | None]:
        """Take the lease of a key, or see whether it is needed no more: give what is stored, and the lease.

        Neither, and another has it. Where there is nobody to agree with, the lease is `NOBODY`: so it is where who asks
        has it already, as two wrappers of one function have one digest.
        """
        held: Held | None = None
        try:
            digest = self.digest(key) if self.serves else None
            if digest is None:
                return MISSING, NOBODY
            lease = self.store.lease(digest)
            held = None if lease is None else Held(digest, lease)
            # Before there was a lease, another may have computed it.
            found = self.find(key) if held is None or self.store.contains(digest) else MISSING
        except Exception as error:  # noqa: BLE001 - as above
            self.failed("take a lease of", error)
            self.release(held)
            return MISSING, NOBODY
        if found is MISSING or isinstance(found, Signpost):
            return MISSING, NOBODY if held is None and is_inside(digest) else held
        self.release(held)
        return found, None

    def release(self, lease: Held | None) -> None:
        """Give a lease back."""
        if lease is not None:
            self._tried("give back a lease of", lease.release, None)

    def contains(self, key: Key) -> bool:
        """Tell whether something is stored for a call."""
        digest = self.digest(key)
        return digest is not None and self._tried("look into", lambda: self.store.contains(digest), otherwise=False)

    def drop(self, key: Key) -> bool:
        """Take a result out; tell whether there was one."""
        digest = self.digest(key)
        return digest is not None and self._tried("take out of", lambda: self.store.delete(digest), otherwise=False)

    def infos(self) -> list[Info]:
        """List what is stored of the function, in all its versions."""
        return self._tried("look through", self._infos, [])

    def _infos(self) -> list[Info]:
        return [info for info in self.store.infos() if info.about.function == self.name]

    def clear(self) -> None:
        """Take out all that is stored of the function, in all its versions."""
        self._signed.clear()
        self._tried("clear", lambda: self.store.delete_many([info.key for info in self._infos()]), 0)

    def _tried(self, doing: str, act: Callable[[], T], otherwise: T) -> T:
        try:
            return act()
        except Exception as error:  # noqa: BLE001 - as above
            self.failed(doing, error)
            return otherwise

    def failed(self, doing: str, error: Exception) -> None:
        """Say, once a kind, what the store could not do."""
        if isinstance(error, RecursionError):
            return  # it is the stack that is short
        reason = f"{self.subject.name}(): could not {doing} {self.store!r}: {error!r}"
        self.voice.refuse(self.subject.face, reason, once=f"far {doing}")


def _pointing(streams: Sequence[str], effects: Sequence[str]) -> str:
    drawn = f": draws from {', '.join(streams)}" if streams else ""
    return drawn + (f": changes {', '.join(effects)}" if effects else "")
