"""The flight of a thread: its outermost memoized call in progress, and how a call far down comes back to a landing.

The rules are NOTE [deep] in `memograd._deep`.
"""

from __future__ import annotations

import sys
import threading
from sys import _getframe as frame_at  # pyright: ignore[reportPrivateUsage]
from typing import TYPE_CHECKING, Any

from memograd._deep._streams import read_streams, set_streams
from memograd._key import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from memograd._deep._streams import State
    from memograd._key import Key

LANDING = 250
STACK = 400
# Looking at the frames costs as much as a call: landed, it is done about every so many frames.
LOOK_EVERY = 40
# Swallowed as often as this by one stack: whoever asks is answered where he stands.
MOST_RAISES = 16
# Begun again as often as this without asking for what it had asked for before: its arguments differ at every run.
MOST_STRAYS = 100
MOST_WAITING = 20_000
_NEVER = 2**31 - 1


class Call:
    """A call that is to be computed, and the name of its result."""

    __slots__ = ("args", "f", "key", "kwargs")

    def __init__(self, key: Key, f: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self.key = key
        self.f = f
        self.args = args
        self.kwargs = kwargs


class Leave(BaseException):
    """Unwinds the stack to the landing. Not for you: catch `Exception`, or raise it again."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call = call
        self.streams = read_streams()

    def __str__(self) -> str:
        return f"{self.call.key!r} is missing, and memograd is about to compute it from an emptier stack"


class _Waiting:
    """A call that the landing computes, or will begin again when what it asked for is there."""

    __slots__ = ("call", "strays", "streams")

    def __init__(self, call: Call, streams: dict[str, State]) -> None:
        self.call = call
        self.streams = streams
        self.strays = 0


class _Outcome:
    """What a call came to at the landing: a value or an exception, and the streams it left behind."""

    __slots__ = ("error", "streams", "traceback", "value")

    def __init__(self, value: Any, error: Exception | None, traceback: TracebackType | None) -> None:
        self.value = value
        self.error = error
        self.traceback = traceback
        self.streams: dict[str, State] = {}

    def give(self) -> Any:
        """Give the value or raise the exception, as the call itself would have done."""
        if self.error is not None:
            raise self.error.with_traceback(self.traceback)
        return self.value


class Flight:
    """An outermost memoized call in progress in one thread."""

    __slots__ = (
        "asked", "awaited", "errors", "floor", "given", "known", "landed", "leaving", "level", "raises", "stride"
    )  # fmt: skip

    def __init__(self) -> None:
        self.known: dict[Key, Any] = {}
        self.floor = min(sys.getrecursionlimit() // 4, LANDING)
        self.landed = False
        # How many memoized calls are in progress, and at every how many of them the frames are looked at.
        self.level = 0
        self.stride = 1
        self.leaving: Leave | None = None
        self.raises = 0
        self.given: dict[Key, _Outcome] = {}
        self.errors: dict[Key, list[_Outcome]] = {}
        self.asked: dict[Key, int] = {}
        self.awaited: Key | None = None

    def detour(self, call: Call) -> Any:
        """Do what comes before a body is run: mostly nothing, and MISSING says so. Else give or raise its outcome."""
        if self.leaving is not None:
            return self.again(call)
        if self.given or self.errors:
            value = self.replay(call.key)
            if value is not MISSING:
                return value
        return self.deepen(call) if self.level % self.stride == 0 and _reaches(self.floor) else MISSING

    def again(self, call: Call) -> Any:
        """Answer a call that is made while the stack is being unwound: leave again, in the end give way (rule 3)."""
        leaving, floor = self.leaving, self.floor
        assert leaving is not None
        if self.raises < MOST_RAISES:
            self.raises += 1
            raise leaving
        self.leaving, self.floor = None, _NEVER
        try:
            value = call.f(*call.args, **call.kwargs)
            if self.leaving:
                raise self.leaving
            return value
        finally:
            self.leaving, self.floor = leaving, floor

    def replay(self, key: Key) -> Any:
        """Give what the landing computed for this call, if it did: its value, once, or its n-th exception."""
        if key == self.awaited:
            self.awaited = None
        outcome = self.given.pop(key, None)
        if outcome is None:
            turn = self.asked[key] = self.asked.get(key, 0) + 1
            errors = self.errors.get(key, ())
            if turn > len(errors):
                return MISSING
            outcome = errors[turn - 1]
        set_streams(outcome.streams)
        return outcome.give()

    def judge(self, error: Exception, call: Call) -> None:
        """Leave where a body has failed for want of frames; it has not if that came from the landing itself."""
        if self.leaving is not None:
            raise self.leaving from None
        if isinstance(error, RecursionError) and self.landed and not self.raised_here(error):
            self.leave(call)

    def raised_here(self, error: BaseException) -> bool:
        """Tell whether an exception came from a call that the landing has computed already."""
        return any(outcome.error is error for outcomes in self.errors.values() for outcome in outcomes)

    def leave(self, call: Call) -> None:
        """Unwind the stack to the landing, which computes `call`."""
        self.leaving = Leave(call)
        raise self.leaving from None

    def deepen(self, call: Call) -> Any:
        """Answer a call that has come to the floor: land here or leave."""
        if self.landed:
            self.leave(call)
        floor, depth = self.floor, _depth()
        self.landed = True
        self.floor = depth + min((sys.getrecursionlimit() - depth) // 2, STACK)
        self.stride = max(1, LOOK_EVERY * self.level // depth)
        try:
            return self.land(call)
        finally:
            self.landed, self.floor, self.stride, self.leaving = False, floor, 1, None
            self.given.clear()
            self.errors.clear()

    def land(self, call: Call) -> Any:
        """Compute a call, and first, from this same place, every call that leaves on the way to it."""
        waiting = [_Waiting(call, read_streams())]
        keys = {call.key}
        level = self.level
        while True:
            top = waiting[-1]
            self.level = level
            outcome = self.attempt(top.call)
            if isinstance(outcome, Leave):
                outcome = self.wait_for(outcome, waiting, keys)
            if outcome is not None:
                waiting.pop()
                keys.remove(top.call.key)
                if not waiting:
                    return outcome.give()
                self.hand(top.call.key, outcome)
                set_streams(waiting[-1].streams)

    def attempt(self, call: Call) -> _Outcome | Leave:
        """Run a body at the landing."""
        self.asked.clear()
        self.raises = 0
        value, error = None, None
        try:
            value = call.f(*call.args, **call.kwargs)
        except Exception as raised:  # noqa: BLE001 - whatever it is, it is raised again where the call was asked for
            error = raised
        except BaseException as raised:
            if self.leaving is None or isinstance(raised, KeyboardInterrupt):
                raise
        leaving, self.leaving = self.leaving, None
        if leaving is not None:
            return leaving.with_traceback(None)
        return _Outcome(value, error, None if error is None else error.__traceback__)

    def wait_for(self, leaving: Leave, waiting: list[_Waiting], keys: set[Key]) -> _Outcome | None:
        """Put the call that is missing on top of those that wait; give an exception if that leads nowhere."""
        top = waiting[-1]
        strayed, self.awaited = self.awaited is not None, None
        top.strays = top.strays + 1 if strayed else 0
        key = leaving.call.key
        if len(waiting) > MOST_WAITING:
            raise RecursionError(f"{waiting[0].call.key!r} leads to calls without end, among them {key!r}")
        if key in keys:
            return _failed(f"{key!r} needs its own result: with these arguments the recursion has no end")
        if top.strays > MOST_STRAYS:
            return _failed(
                f"{top.call.key!r} calls with other arguments each time that it runs, so it cannot be computed in "
                "parts; let its arguments depend on its own arguments alone, or raise sys.setrecursionlimit"
            )
        streams = top.streams if leaving.streams == top.streams else leaving.streams
        waiting.append(_Waiting(leaving.call, streams))
        keys.add(key)
        set_streams(streams)
        return None

    def hand(self, key: Key, outcome: _Outcome) -> None:
        """Keep what a call came to for whoever asked for it."""
        outcome.streams = read_streams()
        self.awaited = key
        if outcome.error is None:
            self.given[key] = outcome
            return
        for earlier in (earlier for outcomes in self.errors.values() for earlier in outcomes):
            if earlier.error is outcome.error:
                # The way up adds the same frames again and again: keep those where it was raised.
                outcome.traceback = earlier.traceback
        self.errors.setdefault(key, []).append(outcome)


def _failed(message: str) -> _Outcome:
    return _Outcome(None, RecursionError(message), None)


class _Here(threading.local):
    flight: Flight | None = None


here = _Here()


def outermost(f: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call `f`, the first memoized function in progress in this thread."""
    here.flight = Flight()
    try:
        return f(*args, **kwargs)
    finally:
        here.flight = None


def _reaches(depth: int) -> bool:
    try:
        frame_at(depth)
    except ValueError:
        return False
    return True


def _depth() -> int:
    frame, depth = frame_at(), 0
    while frame.f_back is not None:
        frame, depth = frame.f_back, depth + 1
    return depth
