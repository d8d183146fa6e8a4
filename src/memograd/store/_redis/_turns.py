"""Leases that others see: a name in a key that vanishes by itself, and a thread that keeps it from vanishing.

To hold one is to have heard so from the server less than its time to live ago, by this host's clock that only runs on.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING
from weakref import WeakSet, ref

from memograd.store._base import Lease
from memograd.store._lock import new_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Turn(Lease):
    """The lease of one key, for as long as it is renewed."""

    def __init__(self, turns: RemoteTurns, key: bytes, holder: str, until: float) -> None:
        self.key = key
        self.holder = holder
        self.until = until
        self._turns = turns
        self._pid = os.getpid()

    @property
    def held(self) -> bool:
        """Tell whether it is still ours."""
        return time.monotonic() < self.until and self._pid == os.getpid()

    def release(self) -> None:
        """Give it back; a second time it does nothing."""
        held, self.until = self.held, 0.0
        if held:
            self._turns.give_back(self)


class Alone(Lease):
    """The lease of who cannot ask: everybody computes."""

    def __init__(self) -> None:
        self._held = True

    @property
    def held(self) -> bool:
        """Tell whether it was not given back."""
        return self._held

    def release(self) -> None:
        """Give it back."""
        self._held = False


class RemoteTurns:
    """The leases of one process, and the thread that renews them.

    Args:
        ttl: seconds after which a lease that is not renewed is another's.
        renew: asks for more time for keys of holders; tells of each whether it was given, None if that is not known.
        free: gives a key back.
    """

    def __init__(
        self,
        ttl: float,
        renew: Callable[[Sequence[Turn]], Sequence[bool | None]],
        free: Callable[[Turn], None],
    ) -> None:
        self.ttl = ttl
        self._renew = renew
        self._free = free
        self._lock = new_lock()
        self.begin_anew()
        _all.add(self)

    def begin_anew(self) -> None:
        """Hold nothing: a forked child has none of its parent's leases."""
        self._turns: set[Turn] = set()
        self._beating = False

    def add(self, key: bytes, holder: str, asked: float) -> Turn:
        """Keep a lease that was asked for at a time of `time.monotonic()`."""
        turn = Turn(self, key, holder, asked + self.ttl)
        with self._lock:
            self._turns.add(turn)
            if not self._beating:
                self._beating = True
                threading.Thread(
                    target=_beat, args=(ref(self), self.ttl / 3), name="memograd-lease", daemon=True
                ).start()
        return turn

    def give_back(self, turn: Turn) -> None:
        """Let others have a lease's key."""
        with self._lock:
            self._turns.discard(turn)
        self._free(turn)

    def beat(self) -> bool:
        """Renew what is held; tell whether anything is."""
        with self._lock:
            self._turns = {turn for turn in self._turns if turn.held}
            turns = list(self._turns)
            self._beating = bool(turns)
        asked = time.monotonic()
        for turn, ours in zip(turns, self._renew(turns) if turns else (), strict=True):
            # A lease that was given back meanwhile has no time left, and gets none.
            if ours is not None and turn.until:
                turn.until = asked + self.ttl if ours else 0.0
        return bool(turns)


def _beat(where: ref[RemoteTurns], every: float) -> None:
    while True:
        time.sleep(every)
        turns = where()
        if turns is None or not turns.beat():
            return
        del turns


_all: WeakSet[RemoteTurns] = WeakSet()


def _in_the_child() -> None:
    for turns in list(_all):
        turns.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_the_child)
