"""Act one, across calls: look → take the turn → look again → compute → look what has changed → put → tell."""

from __future__ import annotations

from _thread import get_ident
from collections import OrderedDict
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from memograd._before import NOTHING, Before
from memograd._copies._kept import Kept
from memograd._deep._flight import STRIDE, Flight, here, outermost
from memograd._deep._landing import Call
from memograd._draws import Drawn, Draws
from memograd._errors import NoIdentityError, warn
from memograd._events import Evict, Hit, Miss, Put, Refuse, listeners, tell
from memograd._gradients import Gradients, concerns, know_within, known_within
from memograd._key import BARE, CONTENT, MISSING, Key
from memograd._mode import MODES, Mode
from memograd._pays import Pays
from memograd._single import ALONE, Turn, Turns
from memograd.store._memory import Memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping, Sequence
    from threading import RLock
    from typing import TypeAlias

    from memograd._async import AsyncFlight
    from memograd._subject import Subject

    Store: TypeAlias = MutableMapping[Any, Any]


# No matter for a warning: what a body imports at its first call is known at the next.
MORE_CODE = "has brought in code that was not known before; the next result is remembered"


class Options(NamedTuple):
    """How one function is remembered; see `Memo.__call__`."""

    max_entries: int | None = None
    strict: bool = False
    version: str | None = None
    rng: str = "replay"
    copy: bool = True
    mode: Mode = MODES["use"]
    always: bool = False
    verify: float = 0.0
    live: int = 0


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
        subject: what the function is, in all its versions.
        store: any mapping; what it raises costs a computation and one warning, never the call.
        lock: guards the counters and the order of use; shared by the functions of a Memo.
        options: how the function is remembered.
    """

    def __init__(self, f: Callable[..., Any], subject: Subject, store: Store, lock: RLock, options: Options) -> None:
        self.f = f
        self.subject = subject
        self.store = store
        self.lock = lock
        self.options = options
        self.max_entries = options.max_entries
        self.counts = Counts()
        # A memory of our own is looked into with its lock held already.
        own = store if isinstance(store, Memory) and store.lock is lock else None
        self.insert: Callable[[Key, Any], None] = store.__setitem__ if own is None else own.insert
        self.find: Callable[[Key, Any], Any] = store.get if own is None else own.find
        self.order: OrderedDict[Key, None] | None = None if self.max_entries is None else OrderedDict()
        self.said: dict[str, str] = {}
        self.draws = Draws()
        self.turns = Turns()
        self.tasks: AsyncFlight | None = None
        self.gradients = Gradients(options.live)
        self.pays = Pays(always=options.always)

    def answer(  # noqa: C901 - what were methods would take frames from every level of a recursion
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
            self.turns.leave(turn, key)

    def outermost(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], values: Sequence[Any], probe: tuple[Any, ...] | None
    ) -> Any:
        """Answer the outermost memoized call of this thread."""
        if (self.options.mode.off or self.pays.off) and self.steps_aside():
            return self.aside(args, kwargs)
        watch = Watch(self.pays, plain=probe is not None)
        base, key, value = self.asked(args, kwargs, values, probe)
        if base is None or key is None:
            return self.f(*args, **kwargs)
        watch.looked()
        if value is not MISSING:
            self.note(watch.hit())
            return value
        turn = Turn()
        try:
            value = self.taken(turn, key, values)
            if value is not MISSING:
                return value
            before = Before(self.subject, base, key, values)
            if concerns(values, self.reads()):
                return self.recorded(before, args, kwargs, turn)
            value, known = self.computed(before, args, kwargs)
            watch.computed()
            self.put(None, before, value, turn, watch, known=known)
            return value
        finally:
            turn.owner = 0
            self.turns.leave(turn, key)

    def recorded(self, before: Before, args: Sequence[Any], kwargs: Mapping[str, Any], turn: Turn) -> Any:
        """Compute an outermost call whose result may require grad, and remember it as a graph where it does."""
        value = self.gradients.hit(before.key, args, kwargs, self.reads())
        if value is not MISSING:
            turn.value = ALONE
            self.hit(before.key)
            return value
        known: dict[Key, Any] = {}

        def compute(*args: Any, **kwargs: Any) -> Any:
            value, within = self.computed(before, args, kwargs)
            known.update(within)
            return value

        key = before.key
        output, recording, reason = self.gradients.record(compute, args, kwargs, self.reads())
        if recording is None and not reason:
            self.put(None, before, output, turn, known=known)
            return output
        turn.value = ALONE
        if not reason:
            reason, key, _ = self.looked_back(before, None, known, among_tasks=False)
            if not reason and self.draws.signposts.get(before.base) and recording is not None:
                reason = "draws random numbers and gives what requires grad; the result is not remembered"
        self.missed()
        self.say_effects()
        if reason:
            self.refuse(before.key, f"{self.subject.name}() {reason}")
        elif self.options.mode.stores and recording is not None:
            self.gradients.lives.put(key, recording)
        if listeners:
            tell(Miss(before.key))
        return output

    def asked(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], values: Sequence[Any], probe: tuple[Any, ...] | None
    ) -> tuple[Key | None, Key | None, Any]:
        """Find the key of a call and what is remembered for it, as `look` does."""
        # Looked for by the wrapper and not found: to look again here would cost as much as all the rest of a miss.
        if probe is not None and BARE.issuperset(probe[1::2]) and not self.draws.signposts:
            key = Key(probe)
            return key, key, MISSING
        return self.look(args, kwargs, values)

    async def answer_async(self, args: Sequence[Any], kwargs: Mapping[str, Any], values: Sequence[Any]) -> Any:
        """Answer a call of an async function: from the store, from one in progress in this loop, else by computing."""
        if self.options.mode.off:
            return await self.f(*args, **kwargs)
        try:
            base = self.subject.key(values)
        except NoIdentityError as error:
            self.bypass(error)
            return await self.f(*args, **kwargs)
        key = self.draws.key(base)
        self.describe(key, values)
        before = Before(self.subject, base, key, values)

        def look() -> Any:
            remembered = self.peek(key) if self.options.mode.looks else MISSING
            return MISSING if remembered is MISSING else take(remembered)

        def take(remembered: Any) -> Any:
            value = self.given(remembered, values)
            if value is not MISSING:
                self.hit(key)
            return value

        def put(value: Any) -> Any:
            turn = Turn()
            self.put(None, before, value, turn, among_tasks=True)
            return MISSING if turn.value is ALONE else turn.value

        if self.tasks is None:
            from memograd._async import AsyncFlight

            self.tasks = AsyncFlight()
        return await self.tasks.answer(key, look, lambda: self.f(*args, **kwargs), put, take)

    def steps_aside(self) -> bool:
        """Tell whether a call is to be made plainly: by request, or since remembering does not pay."""
        return self.options.mode.off or self.pays.skips(perf_counter, get_ident())

    def aside(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Make a call plainly."""
        try:
            return self.f(*args, **kwargs)
        finally:
            self.pays.left(get_ident())

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
            shared = self.peek(key)
        value = MISSING if shared is MISSING else self.given(shared, values)
        if value is not MISSING:
            self.hit(key)
        return value

    def missed(self) -> None:
        """Count a miss."""
        with self.lock:
            self.counts.misses += 1

    def look(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], values: Sequence[Any]
    ) -> tuple[Key | None, Key | None, Any]:
        """Find the key of a call, without and with what its result depends on besides, and what is remembered for it.

        None for the keys of a call that has none, MISSING for what is not remembered.
        """
        try:
            base = self.base(values)
        except NoIdentityError as error:
            self.bypass(error)
            return None, None, MISSING
        key = self.draws.key(base)
        remembered = self.peek(key) if self.options.mode.looks else MISSING
        if remembered is not MISSING:
            value = self.verified(remembered, args, kwargs, values)
            if value is not MISSING:
                self.hit(key)
                return base, key, value
        for each in {base, key}:
            self.describe(each, values)
        return base, key, MISSING

    def base(self, values: Sequence[Any]) -> Key:
        """Make the key of a call, without what its result depends on besides. Raises `NoIdentityError`."""
        flight = here.flight
        return self.subject.key(values, flight.reads if flight is not None and flight.subject is self.subject else None)

    def verified(self, remembered: Any, args: Sequence[Any], kwargs: Mapping[str, Any], values: Sequence[Any]) -> Any:
        """Give a remembered result; once in a while, where that was asked for, compute it again and compare."""
        if not self.options.verify or self.pays.dice.below(1.0) >= self.options.verify:
            return self.given(remembered, values)
        from memograd._verify import compare

        fresh, value = self.draws.beside(lambda: self.f(*args, **kwargs), lambda: self.given(remembered, values))
        difference = None if value is MISSING else compare(value, fresh)
        if difference:
            self.say("verify", f"{self.subject.name}() gives another result than is remembered: {difference}")
            return fresh
        return value

    def given(self, remembered: Any, values: Sequence[Any]) -> Any:
        """Make of what is remembered what a caller is given; MISSING if that cannot be."""
        held = remembered.value if type(remembered) is Drawn else remembered
        value = held.give([*values, *self.reads()]) if type(held) is Kept else held
        if type(remembered) is Drawn and value is not MISSING:
            self.draws.move(remembered, values)
        return value

    def reads(self) -> list[Any]:
        """List the values that the code reads beside its arguments."""
        return [one.value for one in self.subject.captured]

    def describe(self, key: Key, values: Sequence[Any]) -> None:
        """Note how the arguments of a call look, for printing."""
        seen = [*values, *self.reads(), "their states"]
        key.describe(seen[: len(key) // 2])

    def hit(self, key: Key) -> None:
        """Count a hit."""
        with self.lock:
            self.counts.hits += 1
        if listeners:
            tell(Hit(key))

    def bypass(self, error: NoIdentityError) -> None:
        """Say that a call has no key, or raise that."""
        if self.options.strict:
            raise error
        with self.lock:
            self.counts.bypasses += 1
        self.refuse(self.subject.face, f"{error}. The call is computed and not remembered")

    def peek(self, key: Key) -> Any:
        """Look into the store without counting."""
        with self.lock:
            try:
                value = self.find(key, MISSING)
            except Exception as error:  # noqa: BLE001 - a store that fails costs a computation, never the call
                return self.failed("look into", error)
            if value is not MISSING and self.order is not None:
                self.order[key] = None
                self.order.move_to_end(key)
            return value

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
    ) -> None:
        """Remember a computed result, if it can be given back a second time.

        Args:
            known: of an outermost call, what was computed within it.
            among_tasks: other tasks have run meanwhile.
        """
        reason, key, kept = self.looked_back(before, value, known, among_tasks=among_tasks)
        turn.value = kept if not reason and key is before.key else ALONE
        stores = not reason and self.options.mode.stores and not self.leaves_at_the_door(key, watch)
        with self.lock:
            self.counts.misses += 1
            stored = stores and self.inserted(key, kept)
        self.say_effects()
        if reason == MORE_CODE:
            if listeners:
                tell(Refuse(key, f"{self.subject.name}() {reason}"))
        elif reason:
            if not know_within(key, value):
                self.refuse(key, f"{self.subject.name}() {reason}")
        elif flight is not None:
            flight.known[key] = kept
        if listeners:
            tell(Miss(key))
            if stored:
                tell(Put(key))
        if watch is not None:
            self.note(watch.missed())

    def leaves_at_the_door(self, key: Key, watch: Watch | None) -> bool:
        """Tell whether, of this call, only the key is to be noted, since remembering has not paid of late."""
        return watch is not None and self.pays.door and not watch.sees(key)

    def looked_back(
        self, before: Before, value: Any, known: Mapping[Key, Any] | None, *, among_tasks: bool
    ) -> tuple[str, Key, Any]:
        """Look what a call has changed: why its result is not to be remembered, else under which key, and as what."""
        key, drawn = before.key, {}
        if before.has_read_more():
            return MORE_CODE, key, value
        flight = here.flight
        # A recursion's own changes of what it reads are looked at where it began.
        top = flight is None or flight.subject is not self.subject
        if before.watched:
            argument = before.changed_argument()
            if argument:
                return f"changes its argument {argument}; the result is not remembered", key, value
            within = flight is not None and not top and self.subject.is_kept(flight.reads)
            changed = NOTHING if within else before.changed_reads(logs=top)
            if changed.others or (changed.logs and (among_tasks or not before.was_alone())):
                names = ", ".join([*changed.others, *changed.logs])
                return f"changes {names}, which it reads; the result is not remembered", key, value
            if changed.logs:
                key = self.learned(changed.logs, before, known or {})
            drawn = before.drawn()
        kept, reason = self.kept(before, value)
        if reason:
            return f"returned {reason}; the result is not remembered", key, value
        return self.draws.told(self.options.rng, before, key, drawn, kept, among_tasks=among_tasks)

    def kept(self, before: Before, value: Any) -> tuple[Any, str]:
        """Make of a result what is remembered, or say why it cannot be."""
        if type(value) in BARE:
            return value, ""
        from memograd._copies._keep import Unkeepable, keep

        try:
            kept = keep(value, [*before.arguments, *self.reads()], copy=self.options.copy)
        except Unkeepable as unkeepable:
            return value, str(unkeepable)
        if type(kept) is Kept and kept.same:
            self.say("same", f"{self.subject.name}() returned {kept.same}")
        return kept, ""

    def learned(self, paths: Sequence[str], before: Before, known: Mapping[Key, Any]) -> Key:
        """Take what an outermost call has changed of what it reads for effects: from now on they are no inputs.

        Gives the key of the call without them. What was computed within it is remembered under such keys, too.
        """
        self.subject.ignore(paths)
        for key, kept in known.items():
            if key.function is before.base.function:
                self.inserted(self.renewed(key), kept)
        return self.renewed(before.base)

    def renewed(self, key: Key) -> Key:
        """Give the key of the same arguments for what the code is, and reads, by now."""
        cells = key[1 : 1 + 2 * len(self.subject.parameters)]
        version = self.subject.settle(plain=CONTENT not in cells[::2])
        return Key((version, *cells, *self.subject.cells()))

    def say_effects(self) -> None:
        """Say once what a hit does not do that the call does."""
        if self.subject.effects:
            names = ", ".join(sorted(self.subject.effects))
            self.say("effects", f"{self.subject.name}() changes {names}, which a remembered call does not repeat")

    def inserted(self, key: Key, value: Any) -> bool:
        """Give a result to the store, with the lock held, and make room; tell whether it took it."""
        try:
            self.insert(key, value)
            self.counts.puts += 1
            if self.order is not None:
                self.make_room(self.order, key)
        except Exception as error:  # noqa: BLE001 - as in peek
            self.failed("put into", error)
            return False
        return True

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
        key = self.draws.key(self.base(values))
        self.describe(key, values)
        return key

    def holds(self, values: Sequence[Any]) -> bool:
        """Tell whether the result of a call is remembered."""
        try:
            return self.peek(self.draws.key(self.base(values))) is not MISSING
        except NoIdentityError:
            return False

    def forget(self, values: Sequence[Any]) -> bool:
        """Remove the result of a call; tell whether there was one."""
        try:
            key = self.draws.key(self.base(values))
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
            return self.store.keys_of(self.subject)
        return [key for key in list(self.store) if isinstance(key, Key) and key.function.family is self.subject]

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
            self.draws.clear()
            self.pays.reset()

    def failed(self, doing: str, error: Exception) -> Any:
        """Say once that the store failed, and go on as if nothing were remembered."""
        reason = f"{self.subject.name}(): could not {doing} the store: {error!r}"
        self.refuse(self.subject.face, reason, once=doing)
        return MISSING

    def refuse(self, key: object, reason: str, once: str = "") -> None:
        """Say why something is not remembered: as an event each time, as a warning once a kind."""
        if listeners:
            tell(Refuse(key, reason))
        self.say(once or type(key).__name__, reason)

    def note(self, change: str) -> None:
        """Tell that the function is remembered more, or less, than before, since that pays."""
        if change and listeners:
            tell(Refuse(self.subject.face, f"{self.subject.name}(): {change}"))

    def say(self, kind: str, reason: str) -> None:
        """Warn once a kind, if there is anything to say."""
        if reason and kind not in self.said:
            self.said[kind] = reason
            warn(reason)


class Watch:
    """The seconds that one outermost call takes, for the account of its function."""

    __slots__ = ("_began", "_computed", "_looked", "_pays", "again")

    def __init__(self, pays: Pays, *, plain: bool) -> None:
        # A key of a few plain values costs nothing to speak of.
        self._pays = None if plain or not pays.timed() else pays
        self._began = self._looked = self._computed = perf_counter()
        self.again = False

    def sees(self, key: Key) -> bool:
        """Tell whether a call was seen before."""
        if self._pays is not None:
            self.again = self._pays.sees(hash(key))
        return self.again

    def looked(self) -> None:
        """Note that key and store have been looked at."""
        self._looked = self._computed = perf_counter()

    def computed(self) -> None:
        """Note that the function has returned."""
        self._computed = perf_counter()

    def hit(self) -> str:
        """Tell of a hit; give what has changed thereby."""
        return "" if self._pays is None else self._pays.hit(self._looked - self._began, 0.0)

    def missed(self) -> str:
        """Tell of a call that was computed and is remembered by now; give what has changed thereby."""
        if self._pays is None:
            return ""
        seconds = self._looked - self._began, 0.0, perf_counter() - self._computed, self._computed - self._looked
        return self._pays.missed(*seconds, again=self.again)


def _drop(keys: Sequence[Key]) -> None:
    """Forget results that were kept for the outermost call in progress in this thread."""
    if here.flight is not None:
        for key in keys:
            here.flight.known.pop(key, None)
