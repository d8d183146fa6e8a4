"""Record a call while it runs, and find recordings again for as long as somebody uses what they gave."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict, deque
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from memograd._ambient._streams import read_streams, set_streams
from memograd._ambient._torch import under
from memograd._replay._recording import Recording, recorded
from memograd._replay._rejoin import rejoined
from memograd._replay._run import Run, Unrecordable, inside
from memograd._replay._traces import BACKWARD
from memograd._replay._trees import Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence


class Recorded(NamedTuple):
    """What came of a call.

    Attributes:
        output: as the plain call gives it.
        recording: what gives it again; None if nothing requires grad, and if the graph could not be held. That of a
            trial has no graph: it tells what could have been held.
        reason: why it could not be held: what the function does ("changes a tensor among its arguments"), else "".
            It is `Twice` where the call was run a second time, plainly, or would have been, had it changed nothing.
    """

    output: Any
    recording: Recording | None
    reason: str


class Twice(str):
    """Why a call could not be recorded, and had to be run a second time."""

    __slots__ = ()


def record(
    f: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    captured: Sequence[Any] = (),
    *,
    trial: bool = False,
    note: Callable[[Twice], object] = str,
) -> Recorded:
    """Call `f` under grad mode and record it.

    What cannot be recorded is seen in what has run. Where arguments had stand-ins it is called once more, then, and
    plainly, from the random states it began with, and what it has changed is put back before, where that can be; else
    what it gave is what the plain call gives.

    Inside a recorded call it is called, and nothing more.

    Args:
        captured: the values that `f` reads beside its arguments, in an order that does not change.
        trial: give no stand-ins: where arguments would need them, run it plainly, and tell what came of it.
        note: is told why it is run a second time, before it is, or would have been.
    """
    if inside() is not None:
        return Recorded(f(*args, **kwargs), None, "")
    streams = read_streams()
    run = Run(Seen((tuple(args), dict(kwargs), tuple(captured))), captured)
    found = _attempt(run, f, args, kwargs, trial=trial)
    if isinstance(found, Recorded):
        if isinstance(found.reason, Twice):
            note(found.reason)
        return found
    set_streams(streams)
    if run.ran:
        found = Twice(found)
        note(found)
    return Recorded(f(*args, **kwargs), None, found)


def _attempt(
    run: Run, f: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], *, trial: bool
) -> Recorded | str:
    """Call and record. Give the reason alone where what ran is not what the plain call gives."""
    try:
        run.prepare(args, kwargs, trial=trial)
    except Exception as error:  # noqa: BLE001 - what we cannot set apart costs the recording, never the call
        return _reason(error)
    try:
        run.call(f)
    except Unrecordable as error:
        run.put_back()
        return str(error)
    backward = run.pass_on()
    try:
        with under(run.modes) if run.modes_changed else nullcontext():
            kept = _kept(run)
        return kept._replace(recording=None, reason=BACKWARD) if backward else kept
    except Exception as error:  # noqa: BLE001 - as above
        if not run.stand_ins:
            return Recorded(run.output, None, _reason(error))
        return _connected(run, _reason(error)) if backward or not run.put_back() else _reason(error)


def _connected(run: Run, reason: str) -> Recorded:
    try:
        output = rejoined(run)
    except Exception:  # noqa: BLE001 - as above; a gradient that comes to a stand-in raises
        output = run.output
    return Recorded(output, None, Twice(reason))


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, Unrecordable) else f"cannot be recorded: {error!r}"


def _kept(run: Run) -> Recorded:
    left = run.left()
    if left and not run.stand_ins:
        return Recorded(run.output, None, left)
    run.check()
    recording = recorded(run)
    output = run.output if recording is None or run.trial else recording.give(run.seen)
    # Its effects are there already: it is not called a second time.
    return Recorded(output, None if left else recording, left)


_LOOKS = 8


class Lives:
    """Recordings by key, held weakly: each lives as long as an output of it is in use.

    Args:
        max_bytes: how many bytes of graphs to hold beyond that, the least recently used going first.
    """

    def __init__(self, max_bytes: int = 0) -> None:
        self.max_bytes = max_bytes
        self._known: weakref.WeakValueDictionary[Hashable, Recording] = weakref.WeakValueDictionary()
        self._held: OrderedDict[Hashable, tuple[Recording, int]] = OrderedDict()
        self._bytes = 0
        self._turns: deque[tuple[Hashable, weakref.ref[Recording]]] = deque()
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._known)

    @property
    def nbytes(self) -> int:
        """Count the bytes that graphs in use hold."""
        return sum(recording.nbytes for recording in list(self._known.values()))

    def get(self, key: Hashable) -> Recording | None:
        """Find a recording that can still be run back."""
        recording = self._known.get(key)
        if recording is None or not recording.fresh:
            return None
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
        return recording

    def put(self, key: Hashable, recording: Recording) -> None:
        """Hold a recording."""
        with self._lock:
            self._known[key] = recording
            self._turns.append((key, weakref.ref(recording)))
            self._let_go(key)
            if not self.max_bytes or recording.graph is None:
                return
            # What holds the graph together takes memory, too.
            size = recording.nbytes + 1024
            if size <= self.max_bytes:
                self._held[key] = recording, size
                self._bytes += size
            while self._bytes > self.max_bytes:
                self._let_go(next(iter(self._held)))

    def sweep(self) -> None:
        """Free the graphs of recordings of which something saved was changed in place: backward would raise.

        To be called before a call is recorded: a training loop holds one graph at a time, then, as the plain one does.
        A few are looked at each time, in turns, so that it costs the same however many results are kept.
        """
        with self._lock:
            looked_at = [self._turns.popleft() for _ in range(min(_LOOKS, len(self._turns)))]
            for key, reference in looked_at:
                recording = reference()
                if recording is None:
                    continue
                if not recording.broken:
                    self._turns.append((key, reference))
                    continue
                recording.release()
                if self._known.get(key) is recording:
                    self.drop(key)

    def _let_go(self, key: Hashable) -> None:
        _, size = self._held.pop(key, (None, 0))
        self._bytes -= size

    def drop(self, key: Hashable) -> None:
        """Forget one."""
        with self._lock:
            self._known.pop(key, None)
            self._let_go(key)
