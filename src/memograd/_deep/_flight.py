"""The flight of a thread: its outermost memoized call in progress, and how a call far down comes back to a landing.

The rules are NOTE [deep] in `memograd._deep`.
"""

from __future__ import annotations

import threading
from sys import _getframe as frame_at  # pyright: ignore[reportPrivateUsage]
from sys import getrecursionlimit
from typing import TYPE_CHECKING, Any

from memograd._deep._landing import Call, Landing, Leave
from memograd._key import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from memograd._deep._landing import Outcome
    from memograd._key import Key

# See NOTE [deep] 1.
LANDING = 250
STACK = 400
# Looking at the frames costs as much as a call. It is done at the first few levels, then at every so many of them, and
# under a landing, where it is known how many frames a level takes, about every so many frames.
STRIDE = 4
LOOK_EVERY = 40


class Flight:
    """An outermost memoized call in progress in one thread. `Recall.answer` leads every call inside it through here.

    known: what was computed since it began. level: how many memoized calls are in progress. floor, stride: at how many
    frames a call lands or leaves, and at every how many levels that is looked at. leaving: set while the stack is being
    unwound. handed: what the landing computed, by key.
    """

    __slots__ = ("floor", "handed", "known", "landing", "leaving", "level", "reads", "stride", "subject")

    def __init__(self) -> None:
        self.known: dict[Key, Any] = {}
        self.reads: dict[object, Any] = {}
        self.subject: object = None
        self.level = 0
        self.floor = min(getrecursionlimit() // 4, LANDING)
        self.stride = STRIDE
        self.landing: Landing | None = None
        self.leaving: Leave | None = None
        self.handed: dict[Key, list[Outcome]] = {}

    def detour(self, call: Call) -> Any:
        """Do what comes before a body is run: mostly nothing, and MISSING says so. Else give or raise its outcome."""
        if self.leaving is not None:
            raise self.leaving
        if self.landing is not None and self.handed:
            value = self.landing.replay(call.key)
            if value is not MISSING:
                return value
        looked_at = self.level % self.stride == 0 or self.level < STRIDE
        if looked_at and _reaches(self.floor):
            return self.land(call) if self.landing is None else self.leave(call)
        return MISSING

    def go_on(self, level: int) -> None:
        """Note that the body of a level has returned; it has not where it was to be unwound, whatever it gave."""
        if self.leaving is not None:
            raise self.leaving
        self.level = level - 1

    def judge(self, error: Exception, call: Call) -> None:
        """Leave where a body has failed for want of frames; it has not if that came from the landing itself."""
        if self.leaving is not None:
            raise self.leaving from None
        if isinstance(error, RecursionError) and self.landing is not None and not self.landing.has_raised(error):
            self.leave(call)

    def leave(self, call: Call) -> None:
        """Unwind the stack to the landing, which computes `call`."""
        self.leaving = Leave(call)
        raise self.leaving from None

    def land(self, call: Call) -> Any:
        """Compute a call, and first, from this same place, every call that leaves on the way to it."""
        # Half of what is left: the other half is for what the deepest body calls that is not memoized.
        before, depth = self.floor, _depth()
        self.floor = depth + min((getrecursionlimit() - depth) // 2, STACK)
        self.stride = max(1, LOOK_EVERY * self.level // depth)
        self.landing = Landing(call, self.handed)
        try:
            return self.landing.compute(self.attempt)
        finally:
            self.floor, self.stride, self.landing, self.leaving = before, STRIDE, None, None
            self.handed.clear()

    def attempt(self, call: Call) -> Any:
        """Run a body at the landing. Raises what it raises, and `Leave` whatever it makes of that."""
        level = self.level
        try:
            return call.run()
        except KeyboardInterrupt:
            self.leaving = None
            raise
        finally:
            # Whatever came of the body (a value, too, or another exception): if it was left, that is what happened.
            self.level = level
            leaving, self.leaving = self.leaving, None
            if leaving is not None:
                raise leaving.with_traceback(None) from None


class _Here(threading.local):
    flight: Flight | None = None


here = _Here()


def outermost(flight: Flight, f: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call `f`, the first memoized function in progress in this thread."""
    here.flight = flight
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
