"""How things stood before a call was computed, to see afterwards what it has changed: arguments, globals, streams."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from memograd._ambient._streams import loaded_streams, read_generators, read_streams
from memograd._ambient._surroundings import modes_changed, modes_now
from memograd._key import CONTENT, is_log
from memograd.fingerprint._content import identify
from memograd.fingerprint._form import Unidentified

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memograd._ambient._streams import State
    from memograd._copies._witness import Witness
    from memograd._key import Key
    from memograd._subject import Subject


class Changed(NamedTuple):
    """What a call has changed of what its code reads, by name.

    Attributes:
        logs: containers of plain values: they are written to.
        others: what may be written to and read, such as a module that counts its batches.
    """

    logs: list[str]
    others: list[str]


NOTHING = Changed([], [])


class Before:
    """How things stand before a call is computed.

    Attributes:
        base, key: of the call, without and with the states of the streams that it draws from.
        arguments: the values of the parameters.
        watched: whether there is anything that it may change; code that is all known and plain arguments leave nothing.
        began: when, in seconds.
    """

    __slots__ = (
        "_code",
        "_generators",
        "_loaded",
        "_modes",
        "_others",
        "_reads",
        "_streams",
        "_subject",
        "_witness",
        "arguments",
        "base",
        "began",
        "key",
        "watched",
    )

    def __init__(self, subject: Subject, base: Key, key: Key, values: Sequence[Any]) -> None:
        self.base, self.key = base, key
        self.arguments = values
        self._subject, self._code = subject, subject.code() if subject.open else b""
        self.watched = subject.open or CONTENT in key[1::2]
        if self.watched:
            self._reads = subject.reads()
            cells = base[1 : 1 + 2 * len(values)]
            # What stands for itself may change.
            looked_at = [None] * subject.own + list(values[subject.own :])
            seen = CONTENT in cells[2 * subject.own :: 2]
            self._witness = _witness(looked_at, subject, cells) if seen else None
            self._generators = read_generators(values)
            self._streams = read_streams() if subject.draws or self._witness is not None else {}
            self._loaded = loaded_streams()
            self._modes = modes_now()
            self._others = _clocks()
        self.began = time.perf_counter()

    @property
    def cells(self) -> tuple[Any, ...]:
        """What the key has of what the code reads."""
        return self.base[1 + 2 * len(self.arguments) :]

    def has_read_more(self) -> bool:
        """Tell whether the call has brought in code that was not known before it."""
        # Nobody knows where a stream stood before its library was loaded.
        return self._subject.open and (self._subject.code() != self._code or self._loaded != loaded_streams())

    def changed_argument(self) -> str | None:
        """Name an argument that is not what it was, or the part of it."""
        return None if self._witness is None else self._witness.changed()

    def changed_reads(self, *, logs: bool) -> Changed:
        """Name what the code reads that is not what it was; containers of plain values only if `logs`."""
        if not self.watched:
            return NOTHING
        skip = len(self.arguments)
        names, cells = self.base.function.parameters[skip:], self.base[2 + 2 * skip :: 2]
        reads = zip(names, self._reads, cells, strict=True)
        found = Changed([], [])
        for name, value, cell in reads:
            plain = is_log(value)
            if (logs or not plain) and not self._still(value, cell):
                (found.logs if plain else found.others).append(name)
        return found

    def changed_modes(self) -> list[str]:
        """Name the modes of torch that are not what they were."""
        return modes_changed(self._modes) if self.watched else []

    def _still(self, value: object, cell: object) -> bool:
        try:
            return identify(value, self._subject.writings[1]) == cell
        except Unidentified:
            return False

    def drawn(self) -> dict[str, State]:
        """Give the streams that have moved, or may have been looked at, as they were before."""
        if self._subject.peeks and self.watched:
            return self._streams
        after = read_streams() if self.watched and self._streams else {}
        return {name: state for name, state in self._streams.items() if after.get(name) != state} if after else {}

    def moved_generators(self) -> dict[int, Any]:
        """Give the generators among the arguments that have moved, by their place, as they are now."""
        if not self.watched or not self._generators:
            return {}
        return {
            at: state
            for at, state in read_generators(self.arguments).items()
            if repr(state) != repr(self._generators[at])
        }

    def was_alone(self) -> bool:
        """Tell whether no other thread has done anything since: none of them can have drawn, then."""
        return _clocks() == self._others


def _witness(values: Sequence[Any], subject: Subject, cells: Sequence[Any]) -> Witness:
    from memograd._copies._witness import witness  # not needed by those whose arguments are plain

    return witness(values, subject.parameters, cells[1::2], subject.writings[0])


# Wake now and then to draw progress bars, or to write to stores, and draw no numbers.
_IDLE = ("tqdm_monitor", "memograd")


def _clocks() -> dict[int, float]:
    """Give how long each other thread has worked, in seconds of processor time."""
    if threading.active_count() == 1:
        return {}
    others = [
        t.ident
        for t in threading.enumerate()
        if t.ident not in {None, threading.get_ident()} and not t.name.startswith(_IDLE)
    ]
    if not hasattr(time, "pthread_getcpuclockid"):
        return {threading.get_ident(): time.perf_counter()}  # never the same: it cannot be told
    return {ident: time.clock_gettime(time.pthread_getcpuclockid(ident)) for ident in others if ident is not None}
