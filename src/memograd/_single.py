"""Who computes, among threads: one has the turn to compute a key, the others wait for it (*single flight*).

The rules are NOTE [turns]. Among the tasks of an event loop it is `memograd._async` that sees to it.

NOTE [turns]

1. There is no lock around the table: beginning a turn is one `setdefault`. Who finds somebody else's turn there hangs a
   bell on it, a lock, and asks for it; the owner releases it when leaving, and who hears it hands it on.
2. A turn is left whatever happens: with a value for those who wait, or without one (the call raised, or was unwound),
   and then one of them has the next turn; or they are told to compute beside each other, as nothing can be shared.
3. A thread that asks for what it computes itself computes it: that is recursion, and how it ends is the user's. So
   does a thread that would close a circle of threads that wait for each other: the last to wait sees all of it.
4. A bell may stay silent: an interrupt can come between any two lines of `leave`. So who waits looks up now and then.
5. A thread that waits may hold what the one at work needs: a lock of the user's, a module half imported. Nothing tells,
   except that the one at work stands still. After `PATIENCE` its turn is over, and somebody else has the next.
6. In a forked child nobody is at work.

Where two of these meet, the worst that comes of it is that a result is computed twice.
"""

from __future__ import annotations

import os
import sys
import threading
from _thread import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from memograd._events import Wait, listeners, tell
from memograd._key import MISSING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from memograd._held import Held

# Seconds. See NOTE [turns] 4 and 5.
LOOK_UP = 1.0
PATIENCE = 60.0


# In place of a value for those who wait: the result serves nobody else, each computes its own, without queueing.
ALONE: Any = object()


class Turn:
    """A thread's turn at a key. Made before the key is asked for, so that there is always something to leave.

    owner: the thread that computes, 0 when it no longer does. value: what those who wait are given, or `ALONE`; not
    set, the next of them has a turn. lease: the same right among processes, where there is one.
    """

    # Nothing is set here: making one is to cost as little as making any object does.
    __slots__ = ("lease", "owner", "value")
    owner: int
    value: Any
    lease: Any


class Turns:
    """The keys that are being computed, and by whom.

    crowded: set once a second thread has asked for something. Until then nobody can have computed a result between
    looking for it and having the turn; from then on the owner of a turn must look again.

    Example:
        >>> turns, turn, key = Turns(), Turn(), "key"
        >>> try:
        ...     if (value := turns.join(turn, key)) is MISSING:
        ...         value = 6 * 7
        ...         turn.value = value     # it may be given to others
        ... finally:
        ...     turn.owner = 0             # an interrupt may come in any call, as in that of `leave`; this is none
        ...     turns.leave(turn, key)
        >>> value
        42
    """

    __slots__ = ("__weakref__", "crowded", "home", "turns")

    def __init__(self) -> None:
        self.begin_anew()
        _all.add(self)

    def begin_anew(self) -> None:
        """Forget all turns. See NOTE [turns] 6."""
        self.turns: dict[Hashable, Turn] = {}
        self.home = get_ident()
        self.crowded = False

    def join(self, turn: Turn, key: Hashable) -> Any:
        """Begin a turn, or wait for who has it.

        Returns:
            MISSING: compute the result. Anything else: what the other one has left for those who wait.
        """
        turn.owner = thread = get_ident()
        if thread != self.home:
            self.crowded = True
        other = self.turns.setdefault(key, turn)
        return MISSING if other is turn else self.wait(other, turn, key)

    def wait(self, other: Turn, turn: Turn, key: Hashable) -> Any:
        """Wait for a turn of somebody else, and for the next one's, until there is a value or the turn is ours."""
        while other is not turn:
            if other.owner and not self.outlast(other, turn.owner, key):
                return MISSING
            self.drop(other, key)
            value = getattr(other, "value", MISSING)
            if value is not MISSING:
                return MISSING if value is ALONE else value
            other = self.turns.setdefault(key, turn)
        return MISSING

    def outlast(self, other: Turn, thread: int, key: Hashable) -> bool:
        """Wait until a turn is over. False, at once: it will not be while this thread waits for it."""
        _waiting[thread] = other
        try:
            # In this order: of threads that close a circle together, the last to enter itself sees it whole.
            if _leads_to(other, thread):
                return False
            if listeners:
                tell(Wait(key))
            self.listen(other, key)
            return True
        finally:
            _waiting.pop(thread, None)

    def listen(self, other: Turn, key: Hashable) -> None:
        """Sleep until the bell of a turn is heard, looking up now and then."""
        watch = Watch()
        try:
            bell = _bells.setdefault(other, _new_bell())
            # An owner that left before the bell was there does not release it.
            while other.owner and self.turns.get(key) is other and not watch.has_seen_enough:
                if bell.acquire(timeout=LOOK_UP):
                    bell.release()
                    return
                watch.look_at(other)
        finally:
            if not other.owner:
                _bells.pop(other, None)

    def leave(self, turn: Turn, key: Hashable) -> None:
        """End a turn, whatever has become of it."""
        turn.owner = 0
        self.drop(turn, key)
        if _bells:
            bell = _bells.pop(turn, None)
            if bell is not None:
                bell.release()

    def drop(self, turn: Turn, key: Hashable) -> None:
        """Take a turn from the table, if it is there."""
        if self.turns.get(key) is turn:
            self.turns.pop(key, None)


# For which turn a thread waits: at any time at most for one.
_waiting: dict[int, Turn] = {}
_bells: dict[Turn, threading.Lock] = {}
_all: WeakSet[Turns] = WeakSet()


def _new_bell() -> threading.Lock:
    bell = threading.Lock()
    bell.acquire()
    return bell


class Watch:
    """Sees whether the owner of a turn is gone, or stands still for as long as patience lasts."""

    def __init__(self) -> None:
        self.has_seen_enough = False
        self._seen: object = None
        self._since = monotonic()

    def look_at(self, turn: Turn | Held) -> None:
        """Look whether the owner has done anything since the last time."""
        now = _standing(turn.owner)
        if now != self._seen:
            self._seen, self._since = now, monotonic()
        if now is None:
            turn.owner = 0
        self.has_seen_enough = monotonic() - self._since > PATIENCE


def _leads_to(turn: Turn, thread: int) -> bool:
    """Tell whether `thread` is the one at work, or the one for whom, through others, the one at work waits."""
    passed: set[int] = set()
    following: Turn | None = turn
    while following is not None and following.owner not in passed:
        passed.add(following.owner)
        if following.owner == thread:
            return True
        following = _waiting.get(following.owner)
    return False


def _standing(thread: int) -> object:
    """Tell where a thread stands. None: it is gone. Equal to what was told before: it has done nothing since."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return None if frame is None else (id(frame), frame.f_lasti, _worked(thread))


def _worked(thread: int) -> object:
    """Tell how long a thread has worked, where the system says so."""
    from pathlib import Path

    for each in threading.enumerate():
        if each.ident == thread:
            try:
                stat = Path(f"/proc/self/task/{each.native_id}/stat").read_bytes()
            except OSError:
                return None
            # Behind the name, which may hold anything: 11 fields, then the ticks in user mode and in the kernel.
            return stat.rpartition(b")")[2].split()[11:13]
    return None


def _in_the_child() -> None:
    _waiting.clear()
    _bells.clear()
    for turns in list(_all):
        turns.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_the_child)
