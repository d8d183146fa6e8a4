"""Leases among the threads of one process: a table of who computes what."""

from __future__ import annotations

import os
import threading

from memograd.store._base import Lease
from memograd.store._lock import new_lock


class Turns:
    """Hands out leases; each key's to one at a time."""

    def __init__(self) -> None:
        self._lock = new_lock()
        self._pid = os.getpid()
        self._taken: dict[bytes, Turn] = {}

    def take(self, key: bytes) -> Turn | None:
        """Give the lease of a key, None while another has it."""
        with self._lock:
            self._forget_the_parents()
            if key in self._taken:
                return None
            turn = self._taken[key] = Turn(self, key)
            return turn

    def holds(self, turn: Turn) -> bool:
        """Tell whether a lease was not given back yet."""
        return self._taken.get(turn.key) is turn

    def give_back(self, turn: Turn) -> None:
        """Let others have a lease's key."""
        with self._lock:
            if self.holds(turn):
                del self._taken[turn.key]

    def _forget_the_parents(self) -> None:
        # In a forked child there is the thread that forked, and no other that could ever give a lease back.
        if self._pid != os.getpid():
            self._pid = os.getpid()
            me = threading.get_ident()
            self._taken = {key: turn for key, turn in self._taken.items() if turn.thread == me}


class Turn(Lease):
    """The lease of one key."""

    def __init__(self, turns: Turns, key: bytes) -> None:
        self.key = key
        self.thread = threading.get_ident()
        self._turns = turns

    @property
    def held(self) -> bool:
        """Tell whether it is still ours."""
        return self._turns.holds(self)

    def release(self) -> None:
        """Give it back; a second time it does nothing."""
        self._turns.give_back(self)
