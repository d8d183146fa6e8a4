"""What is remembered for a call: its key, where that is looked for, and as what the result is given.

A key is looked up in two steps: under the base key there may be a signpost, which says what else the result depends on
(random streams that the call draws from); then the full key is made.
"""

from __future__ import annotations

from _thread import get_ident
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from memograd._after import After
from memograd._ambient._streams import loaded_streams
from memograd._copies._kept import Kept, Once
from memograd._deep._flight import here
from memograd._draws import Drawn, Draws, Signpost
from memograd._errors import NoIdentityError
from memograd._events import Hit, listeners, tell
from memograd._gradients import Graded, Gradients
from memograd._key import BARE, MISSING, Key
from memograd._pays import Pays, Watch
from memograd._shelf import Shelf
from memograd._voice import Voice
from memograd.store._results import Results

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from threading import RLock

    from memograd._far import Far
    from memograd._options import Options
    from memograd._shelf import Store
    from memograd._subject import Subject


class Lookup:
    """What is remembered of one function.

    Args:
        f: the function.
        subject: what it is, in all its versions.
        store: any mapping; what it raises costs a computation and one warning, never the call.
        lock: guards the counters and the order of use; shared by the functions of a Memo.
        options: how the function is remembered.
    """

    def __init__(self, f: Callable[..., Any], subject: Subject, store: Store, lock: RLock, options: Options) -> None:
        self.f = f
        self.subject = subject
        self.options = options
        self.voice = Voice(subject.face)
        if options.per:
            self.voice.said["per"] = f"{subject.parameters[0]} counts as itself: no change of what it holds is seen"
        self.shelf = Shelf(subject, store, lock, options.max_entries, self.voice)
        self.far = self._behind(store)
        self.draws = Draws()
        self.after = After(subject, options, self.shelf, self.draws, self.voice)
        self.gradients = Gradients(options.live)
        self.pays = Pays(always=options.always, lasting=self.far is not None and self.far.store.lasting)

    def _behind(self, store: Store) -> Far | None:
        if not isinstance(store, Results) or store.behind is None:
            return None
        from memograd._far import Far
        from memograd._indexed import Indexed
        from memograd.store import Array

        kind = Indexed if isinstance(store.behind, Array) else Far
        return kind(self.subject, store.behind, self.options, self.voice)

    def base(self, values: Sequence[Any]) -> Key:
        """Make the key of a call, without what its result depends on besides. Raises `NoIdentityError`."""
        flight = here.flight
        return self.subject.key(values, flight.reads if flight is not None and flight.subject is self.subject else None)

    def key(self, values: Sequence[Any]) -> Key:
        """Make the key of a call. Raises `NoIdentityError`."""
        key = self.draws.key(self.base(values))
        self.describe(key, values)
        return key

    def asked(
        self,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        values: Sequence[Any],
        probe: tuple[Any, ...] | None,
        watch: Watch | None = None,
    ) -> tuple[Key | None, Key | None, Any]:
        """Find the key of a call and what is remembered for it, as `look` does."""
        # Looked for by the wrapper and not found: to look again here would cost as much as all the rest of a miss.
        if probe is not None and BARE.issuperset(probe[1::2]) and not self.draws.signposts and self.far is None:
            key = Key(probe)
            return key, key, MISSING
        return self.look(args, kwargs, values, watch)

    def look(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], values: Sequence[Any], watch: Watch | None
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
        if watch is not None:
            watch.keyed()
        remembered: Any = MISSING
        if self.options.mode.looks:
            remembered = self.shelf.peek(key)
            if remembered is MISSING and self.far is not None:
                base, key, remembered = self.found_far(base, key, values)
        if remembered is not MISSING:
            value = self.verified(remembered, args, kwargs, values)
            if value is not MISSING:
                self.hit(key)
                return base, key, value
        for each in {base, key}:
            self.describe(each, values)
        return base, key, MISSING

    def find(self, key: Key) -> Any:
        """Find what is remembered under a key, in memory or behind it; MISSING if nothing is."""
        remembered = self.shelf.peek(key)
        if remembered is not MISSING or self.far is None or not self.far.serves:
            return remembered
        remembered = self.far.find(key)
        return MISSING if isinstance(remembered, Signpost) else self.brought(key, remembered)

    def found_far(self, base: Key, key: Key, values: Sequence[Any]) -> tuple[Key, Key, Any]:
        """Look behind what is in memory, and follow signposts there; give both keys again, as they are by now."""
        if self.far is None or not self.far.serves:
            return base, key, MISSING
        remembered = self.far.find(key)
        if isinstance(remembered, Signpost):
            if not self.may_follow(remembered):
                return base, key, MISSING
            if remembered.effects:
                self.subject.ignore(remembered.effects)
                base = self.base(values)
            if remembered.streams:
                self.draws.signposts[base] = remembered.streams
            key = self.draws.key(base)
            return base, key, self.find(key)
        return base, key, self.brought(key, remembered)

    def may_follow(self, signpost: Signpost) -> bool:
        """Tell whether a signpost leads anywhere: it names what the code reads, and streams that are there."""
        reads = {one.path for one in self.subject.captured} | self.subject.effects
        # A stream whose library the call would load now is where no entry says.
        return reads.issuperset(signpost.effects) and set(loaded_streams()).issuperset(signpost.streams)

    def brought(self, key: Key, remembered: Any) -> Any:
        """Keep in memory what was found behind it."""
        if remembered is not MISSING:
            self.shelf.counts.found += 1
            if type(remembered) is not Once:
                self.shelf.fill(key, remembered, 0.0 if self.far is None else self.far.worth.reading)
        return remembered

    def verified(self, remembered: Any, args: Sequence[Any], kwargs: Mapping[str, Any], values: Sequence[Any]) -> Any:
        """Give a remembered result; once in a while, where that was asked for, compute it again and compare."""
        if not self.options.verify or self.pays.dice.below(1.0) >= self.options.verify:
            return self.given(remembered, values)
        from memograd._verify import compare

        fresh, value = self.draws.beside(lambda: self.f(*args, **kwargs), lambda: self.given(remembered, values))
        difference = None if value is MISSING else compare(value, fresh)
        if difference:
            self.voice.say("verify", f"{self.subject.name}() gives another result than is remembered: {difference}")
            return fresh
        return value

    def given(self, remembered: Any, values: Sequence[Any]) -> Any:
        """Make of what is remembered what a caller is given; MISSING if that cannot be."""
        held = remembered.value if type(remembered) is Drawn else remembered
        kind = cast("type[Any]", type(held))
        if kind is Graded:
            return MISSING  # such a result is given with a graph, by who computes under grad
        value = held.give([*values, *self.subject.reads()]) if kind is Kept or kind is Once else held
        if type(remembered) is Drawn and value is not MISSING and not self.draws.move(remembered, values):
            return MISSING
        return value

    def describe(self, key: Key, values: Sequence[Any]) -> None:
        """Note how the arguments of a call look, for printing."""
        seen = [*values, *self.subject.reads(), "their states"]
        key.describe(seen[: len(key) // 2])

    def hit(self, key: Key) -> None:
        """Count a hit."""
        with self.shelf.lock:
            self.shelf.counts.hits += 1
        if listeners:
            tell(Hit(key))

    def missed(self) -> None:
        """Count a miss."""
        with self.shelf.lock:
            self.shelf.counts.misses += 1

    def bypass(self, error: NoIdentityError) -> None:
        """Say that a call has no key, or raise that."""
        if self.options.strict:
            raise error
        with self.shelf.lock:
            self.shelf.counts.bypasses += 1
        self.voice.refuse(self.subject.face, f"{error}. The call is computed and not remembered")

    def steps_aside(self) -> bool:
        """Tell whether a call is to be made plainly: by request, or since remembering does not pay."""
        return self.options.mode.off or self.pays.skips(perf_counter, get_ident())

    def aside(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Make a call plainly."""
        try:
            return self.f(*args, **kwargs)
        finally:
            self.pays.left(get_ident())

    def note(self, change: str) -> None:
        """Tell that the function is remembered more, or less, than before, since that pays."""
        self.voice.tell(self.subject.face, f"{self.subject.name}(): {change}" if change else "")

    def holds(self, values: Sequence[Any]) -> bool:
        """Tell whether the result of a call is remembered."""
        try:
            base = self.base(values)
        except NoIdentityError:
            return False
        key = self.draws.key(base)
        if self.gradients.holds(key) or self.shelf.holds(key):
            return True
        if self.far is None or not self.far.contains(key):
            return False
        # It may be a signpost, which leads elsewhere.
        return self.found_far(base, key, values)[2] is not MISSING

    def forget(self, values: Sequence[Any]) -> bool:
        """Remove the result of a call; tell whether there was one."""
        try:
            key = self.draws.key(self.base(values))
        except NoIdentityError:
            return False
        _drop([key])
        live = self.gradients.holds(key)
        self.gradients.drop([key])
        behind = self.far is not None and self.far.drop(key)
        return self.shelf.drop(key) or live or behind

    def clear(self) -> None:
        """Remove every result of this function and begin to count anew."""
        with self.shelf.lock:
            _drop(self.shelf.clear())
            self.draws.clear()
            self.gradients.clear()
            self.pays.reset()
        if self.far is not None:
            self.far.clear()


def _drop(keys: Sequence[Key]) -> None:
    """Forget results that were kept for the outermost call in progress in this thread."""
    if here.flight is not None:
        for key in keys:
            here.flight.known.pop(key, None)
