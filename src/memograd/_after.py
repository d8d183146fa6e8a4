"""After a call was computed: what has it changed? So it is found whether its result can stand for it the next time.

What it may have changed was noted before (`_before`): arguments, what its code reads, random streams.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from memograd._before import NOTHING
from memograd._copies._kept import Kept
from memograd._deep._flight import here
from memograd._key import BARE, CONTENT, Key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from memograd._before import Before
    from memograd._draws import Draws
    from memograd._key import Function
    from memograd._options import Options
    from memograd._shelf import Shelf
    from memograd._subject import Subject
    from memograd._voice import Voice

# No matter for a warning: what a body imports at its first call is known at the next.
MORE_CODE = "has brought in code that was not known before; the next result is remembered"


class Found(NamedTuple):
    """What was found of a computed call.

    Attributes:
        reason: why its result is not to be remembered; empty if it is.
        key: under which key it is, then.
        kept: and as what.
    """

    reason: str
    key: Key
    kept: Any


class After:
    """Looks back at the computed calls of one function, and learns from them: its effects, what it draws from.

    Attributes:
        learned: the effects that were found last.
    """

    def __init__(self, subject: Subject, options: Options, shelf: Shelf, draws: Draws, voice: Voice) -> None:
        self._subject = subject
        self._options = options
        self._shelf = shelf
        self._draws = draws
        self._voice = voice
        self.learned: tuple[str, ...] = ()

    def look(
        self, before: Before, value: Any, known: Mapping[Key, Any] | None = None, *, among_tasks: bool = False
    ) -> Found:
        """Look what a call has changed.

        Args:
            before: how things stood before it.
            value: what it gave.
            known: of an outermost call, what was computed within it.
            among_tasks: other tasks have run meanwhile.
        """
        key, drawn = before.key, {}
        if before.has_read_more():
            return Found(MORE_CODE, key, value)
        if before.watched:
            reason, logs = self._changes(before, among_tasks=among_tasks)
            if reason:
                return Found(f"{reason}; the result is not remembered", key, value)
            if logs:
                key = self._learned(logs, before, known or {})
            drawn = before.drawn()
        kept, reason = self._kept(before, value)
        if reason:
            return Found(f"returned {reason}; the result is not remembered", key, value)
        return Found(*self._draws.told(self._options.rng, before, key, drawn, kept, among_tasks=among_tasks))

    def say_effects(self) -> None:
        """Say once what a hit does not do that the call does."""
        if self._subject.effects:
            name, names = self._subject.name, ", ".join(sorted(self._subject.effects))
            self._voice.say("effects", f"{name}() changes {names}, which a remembered call does not repeat")

    def _changes(self, before: Before, *, among_tasks: bool) -> tuple[str, list[str]]:
        """Say what a call has changed that it must not; else list the logs that it has written."""
        argument = before.changed_argument()
        if argument:
            return f"changes its argument {argument}", []
        modes = before.changed_modes()
        if modes:
            return f"changes torch's modes ({', '.join(modes)})", []
        flight = here.flight
        # A recursion's own changes of what it reads are looked at where it began.
        top = flight is None or flight.subject is not self._subject
        within = flight is not None and not top and self._subject.is_kept(flight.reads)
        changed = NOTHING if within else before.changed_reads(logs=top)
        if changed.others or (changed.logs and (among_tasks or not before.was_alone())):
            return f"changes {', '.join([*changed.others, *changed.logs])}, which it reads", []
        return "", changed.logs

    def _kept(self, before: Before, value: Any) -> tuple[Any, str]:
        """Make of a result what is remembered, or say why it cannot be."""
        if type(value) in BARE:
            return value, ""
        from memograd._copies._keep import Unkeepable, keep

        try:
            kept = keep(value, [*before.arguments, *self._subject.reads()], copy=self._options.copy)
        except Unkeepable as unkeepable:
            return value, str(unkeepable)
        if type(kept) is Kept and kept.same:
            self._voice.say("same", f"{self._subject.name}() returned {kept.same}")
        return kept, ""

    def _learned(self, paths: Sequence[str], before: Before, known: Mapping[Key, Any]) -> Key:
        """Take what an outermost call has changed of what it reads for effects: from now on they are no inputs.

        Gives the key of the call without them. What was computed within it is remembered under such keys alone.
        """
        subject = self._subject
        subject.ignore(paths)
        self.learned = tuple(paths)
        count = 1 + 2 * len(subject.parameters)
        # What the code is, and reads, by now.
        states: dict[bool, tuple[Function, tuple[Any, ...]]] = {}

        def renewed(key: Key) -> Key:
            cells = key[1:count]
            plain = CONTENT not in cells[::2]
            if plain not in states:
                states[plain] = subject.settle(plain=plain), subject.cells()
            version, reads = states[plain]
            return Key((version, *cells, *reads))

        with self._shelf.lock:
            for key, kept in known.items():
                if key.function is before.base.function:
                    self._shelf.drop(key)
                    self._shelf.put(renewed(key), kept)
        return renewed(before.base)
