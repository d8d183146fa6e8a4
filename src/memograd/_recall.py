"""Act one, across calls: look → take the turn → look again → compute → look what has changed → put → tell."""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from memograd._after import MORE_CODE
from memograd._before import Before
from memograd._deep._flight import STRIDE, Flight, here, outermost
from memograd._deep._landing import Call
from memograd._draws import Drawn
from memograd._events import Miss, Put, listeners, tell
from memograd._gradients import concerns, is_graded, know_within, known_within
from memograd._key import MISSING, Binding, Key
from memograd._lookup import Lookup
from memograd._pays import Watch
from memograd._single import ALONE, Turn, Turns
from memograd._subject import Subject, digest_for
from memograd.store._lock import new_lock
from memograd.store._results import Results

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from threading import RLock

    from memograd._async import AsyncFlight
    from memograd._options import Options
    from memograd._replay import Recording
    from memograd._shelf import Store


class Recall(Lookup):
    """One function in front of one store: computes what is not remembered, without any lock held.

    Args: as `Lookup`.
    """

    def __init__(self, f: Callable[..., Any], subject: Subject, store: Store, lock: RLock, options: Options) -> None:
        super().__init__(f, subject, store, lock, options)
        self.turns = Turns()
        self.tasks: AsyncFlight | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # In another process it begins with no results, but for those that the store brings with it.
        store: object = self.shelf.store
        return _begun_anew, (self.f, {} if type(store) is dict else store, self.options)

    def answer(  # noqa: C901, PLR0912 - what were methods would take frames from every level of a recursion
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
        if flight is None:
            return self.outermost(args, kwargs, values, probe)
        if self.options.mode.off:
            return self.f(*args, **kwargs)
        base, key, value = self.asked(args, kwargs, values, probe)
        if base is None or key is None:
            return self.f(*args, **kwargs)
        # Evicted meanwhile, or never taken by the store: what this outermost call has computed is not computed twice.
        if value is MISSING:
            value = self.given(flight.known[key], values) if key in flight.known else known_within(key)
            if value is not MISSING:
                self.hit(key)
        if value is not MISSING:
            return value
        turn = Turn()
        try:
            value = self.taken(turn, key, values)
            if value is MISSING:
                before = Before(self.subject, base, key, values)
                level = flight.level = flight.level + 1
                try:
                    if level % flight.stride == 0 or level < STRIDE or flight.leaving or flight.handed:
                        value = flight.detour(Call(key, self.f, args, kwargs))
                    if value is MISSING:
                        # Called from here, and not from a method: that would take a frame from every level.
                        above, flight.subject = flight.subject, self.subject
                        if above is not self.subject and self.subject.captured:
                            self.subject.keep(flight.reads, before.cells)
                        try:
                            value = self.f(*args, **kwargs)
                        finally:
                            flight.subject = above
                        # The body may have swallowed the exception that was to unwind it: this is not its result, then.
                        flight.go_on(level)
                except Exception as error:
                    self.missed()
                    flight.judge(error, Call(key, self.f, args, kwargs))
                    raise
                self.put(flight, before, value, turn)
            return value
        finally:
            turn.owner = 0
            self.leave(turn, key)

    def outermost(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], values: Sequence[Any], probe: tuple[Any, ...] | None
    ) -> Any:
        """Answer the outermost memoized call of this thread."""
        if (self.options.mode.off or self.pays.off) and self.steps_aside():
            return self.aside(args, kwargs)
        # A key of a few plain values costs nothing to speak of, where no store is asked.
        watch = Watch(self.pays) if (probe is None or self.far is not None) and self.pays.timed() else None
        base, key, value = self.asked(args, kwargs, values, probe, watch)
        if base is None or key is None:
            return self.f(*args, **kwargs)
        if watch is not None:
            watch.looked()
        if value is not MISSING:
            if watch is not None:
                self.note(watch.hit())
            return value
        turn = Turn()
        try:
            value = self.taken(turn, key, values)
            if value is not MISSING:
                return value
            if concerns(values, self.subject.reads()):
                return self.graded(base, key, args, kwargs, values, turn, watch)
            before = self.prepared(base, key, values, watch)
            value, known = self.computed(before, args, kwargs)
            if watch is not None:
                watch.computed()
            self.put(None, before, value, turn, watch, known=known)
            return value
        finally:
            turn.owner = 0
            self.leave(turn, key)

    def prepared(self, base: Key, key: Key, values: Sequence[Any], watch: Watch | None) -> Before:
        """Note how things stand before an outermost call is computed."""
        since = perf_counter()
        before = Before(self.subject, base, key, values)
        if watch is not None:
            watch.prepared(since, before.began)
        return before

    def graded(
        self,
        base: Key,
        key: Key,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        values: Sequence[Any],
        turn: Turn,
        watch: Watch | None,
    ) -> Any:
        """Answer an outermost call whose result may require grad: from a graph, from the store, else by computing."""
        value = self.recalled(key, args, kwargs, values)
        if value is MISSING:
            return self.recorded(self.prepared(base, key, values, watch), args, kwargs, turn, watch)
        turn.value = ALONE
        if watch is not None:
            self.note(watch.hit())
        return value

    def recorded(
        self, before: Before, args: Sequence[Any], kwargs: Mapping[str, Any], turn: Turn, watch: Watch | None
    ) -> Any:
        """Compute an outermost call whose result may require grad, and remember it as a graph where it does."""
        known: dict[Key, Any] = {}

        def compute(*args: Any, **kwargs: Any) -> Any:
            value, within = self.computed(before, args, kwargs)
            known.update(within)
            return value

        reads, version = self.subject.reads(), before.base.function
        output, recording, reason = self.gradients.record(compute, args, kwargs, reads, version)
        if watch is not None:
            watch.computed()
        if recording is None and not reason:
            self.put(None, before, output, turn, watch, known=known)
            return output
        turn.value = ALONE
        key, told = before.key, None
        if not reason:
            reason, key, told = self.after.look(before, None, known)
        self.missed()
        self.after.say_effects()
        if reason:
            self.voice.refuse(before.key, f"{self.subject.name}() {reason}")
        elif self.options.mode.stores and recording is not None and not self.leaves_at_the_door(key, watch):
            self.keep_recorded(before, key, recording, told)
        if listeners:
            tell(Miss(before.key))
        if watch is not None:
            self.note(watch.missed())
        return output

    def leaves_at_the_door(self, key: Key, watch: Watch | None) -> bool:
        """Tell whether of this call the key alone is to be noted, since remembering has not paid of late."""
        return watch is not None and self.pays.door and not watch.sees(key)

    def keep_recorded(self, before: Before, key: Key, recording: Recording, told: Any) -> None:
        """Remember a recorded call: its graph while it is in use, and its result."""
        seconds = perf_counter() - before.began
        stored = self.gradients.keep(key, recording, told if type(told) is Drawn else None)
        # What was drawn for ever is not known, where it is to be drawn again.
        if stored is MISSING or self.options.rng == "freeze":
            return
        with self.shelf.lock:
            taken = self.shelf.put(key, stored, seconds)
        if taken and listeners:
            tell(Put(key))
        if self.far is not None:
            self.put_far(before, key, stored, seconds)

    def recalled(self, key: Key, args: Sequence[Any], kwargs: Mapping[str, Any], values: Sequence[Any]) -> Any:
        """Give a remembered result that requires grad, MISSING if there is none."""
        if not self.options.mode.looks:
            return MISSING
        reads = self.subject.reads()
        value, drawn = self.gradients.hit(key, args, kwargs, reads)
        if value is MISSING:
            stored = self.find(key)
            if not is_graded(stored):
                return MISSING
            drawn = stored if type(stored) is Drawn else None
            base = self.base(values)
            value = self.gradients.given(
                key, stored, self.again, args, kwargs, reads, lambda: self.subject.key(values) == base
            )
        if value is not MISSING:
            if drawn is not None and not self.draws.move(drawn, values):
                return MISSING
            self.hit(key)
        return value

    def again(self, *args: Any, **kwargs: Any) -> Any:
        """Make a call once more, for its gradients; it is an outermost one."""
        flight = Flight()
        flight.subject = self.subject
        return outermost(flight, self.f, args, kwargs)

    async def answer_async(self, args: Sequence[Any], kwargs: Mapping[str, Any], values: Sequence[Any]) -> Any:
        """Answer a call of an async function: from the store, from one in progress in this loop, else by computing."""
        if self.options.mode.off:
            return await self.f(*args, **kwargs)
        from memograd._awaited import answer

        return await answer(self, args, kwargs, values)

    def computed(self, before: Before, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, Mapping[Key, Any]]:
        """Compute the outermost memoized call of this thread; give its value and what was computed within it."""
        flight = Flight()
        flight.subject = self.subject
        self.subject.keep(flight.reads, before.cells)
        try:
            return outermost(flight, self.f, args, kwargs), flight.known
        except Exception:
            self.missed()
            raise

    def taken(self, turn: Turn, key: Key, values: Sequence[Any]) -> Any:
        """Take the turn to compute a key; where another thread had it, give what came of it."""
        shared = self.turns.join(turn, key)
        if shared is MISSING and self.turns.crowded and self.options.mode.looks:
            # It may have come between looking and the turn.
            shared = self.shelf.peek(key)
        if shared is MISSING and self.far is not None and self.options.mode.looks:
            # What was brought, and is given with a graph, is there already.
            shared = self.shelf.peek(key)
            if shared is MISSING:
                found, turn.lease = self.far.wait(key)
                shared = self.brought(key, found)
        value = MISSING if shared is MISSING else self.given(shared, values)
        if value is not MISSING:
            self.hit(key)
        return value

    def leave(self, turn: Turn, key: Key) -> None:
        """End a turn, among the threads of this process and among others who share the store."""
        self.turns.leave(turn, key)
        if self.far is not None:
            self.far.release(getattr(turn, "lease", None))

    def put_far(self, before: Before, key: Key, kept: Any, seconds: float) -> bool:
        """Store a computed result beyond this process, and what leads from the base key to it.

        Returns:
            Whether it is at hand there, and needs no place in memory.
        """
        assert self.far is not None
        streams, effects = self.draws.signposts.get(before.base, ()), self.after.learned
        if key is not before.base and key != before.base and (streams or effects):
            self.far.sign(before.base, streams, effects)
        if not self.options.copy:
            from memograd._copies._keep import lends
            from memograd._far import PART

            value = kept.value if type(kept) is Drawn else kept
            if lends(value, [*before.arguments, *self.subject.reads()]):
                self.far.stays(key, PART)
                return False
        return self.far.put(key, kept, seconds)

    def put(
        self,
        flight: Flight | None,
        before: Before,
        value: Any,
        turn: Turn,
        watch: Watch | None = None,
        *,
        known: Mapping[Key, Any] | None = None,
        among_tasks: bool = False,
    ) -> Callable[[], None] | None:
        """Remember a computed result, if it can be given back a second time.

        Args:
            known: of an outermost call, what was computed within it.
            among_tasks: other tasks have run meanwhile, and are not to be held up.

        Returns:
            Among tasks, what is still to be done, if anything: it waits for the store.
        """
        seconds = perf_counter() - before.began
        reason, key, kept = self.after.look(before, value, known, among_tasks=among_tasks)
        turn.value = kept if not reason and key is before.key else ALONE
        stored = not reason and not self.leaves_at_the_door(key, watch) and self.options.mode.stores
        later = partial(self.put_later, before, key, kept, seconds) if stored and self.far and among_tasks else None
        mapped = stored and self.far is not None and later is None and self.put_far(before, key, kept, seconds)
        with self.shelf.lock:
            self.shelf.counts.misses += 1
            stored = stored and (mapped or self.shelf.put(key, kept, seconds))
        self.after.say_effects()
        if reason == MORE_CODE:
            self.voice.tell(key, f"{self.subject.name}() {reason}")
        elif reason:
            if not know_within(key, value):
                self.voice.refuse(key, f"{self.subject.name}() {reason}")
        elif flight is not None:
            flight.known[key] = kept
        if listeners:
            tell(Miss(key))
            if stored:
                tell(Put(key))
        if watch is not None:
            self.note(watch.missed())
        return later

    def put_later(self, before: Before, key: Key, kept: Any, seconds: float) -> None:
        """Store a result that has its place in memory by now, beyond this process."""
        if self.put_far(before, key, kept, seconds):
            self.shelf.drop(key)


def recall_of(
    f: Callable[..., Any], binding: Binding, store: Store, lock: RLock, options: Options, name: str = ""
) -> Recall:
    """Put a function in front of a store; `binding` says what keys tell of its calls."""
    own, trust = int(options.per == "instance"), options.trust == "versions"
    if own and not binding.has_first:
        raise TypeError("memo() got per='instance' for a function without a first parameter; write it for a method")
    name = name or getattr(f, "__name__", type(f).__name__)
    digest = digest_for(store.behind) if isinstance(store, Results) else "xxh3"
    subject = Subject(f, name, binding.names, options.version, trust=trust, own=own, digest=digest)
    return Recall(f, subject, store, lock, options)


def _begun_anew(f: Callable[..., Any], store: Store, options: Options) -> Recall:
    return recall_of(f, Binding(f), store, store.lock if isinstance(store, Results) else new_lock(), options)
