"""Who computes which row: among threads a table, among processes a lock on one byte of a file.

The locks belong to the open file, not to the process (Linux's open file description locks): they hold against another
array over the same folder in this process, too, and end when the process does, however it ends.
"""

from __future__ import annotations

import os
import struct
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from memograd.store._base import Lease
from memograd.store._turns import Turn, Turns

if TYPE_CHECKING:
    from pathlib import Path

if sys.platform == "linux":
    import fcntl

    def lock(file: int, row: int, *, exclusive: bool) -> bool:
        """Lock or unlock the byte of a row; tell whether that was possible."""
        kind = fcntl.F_WRLCK if exclusive else fcntl.F_UNLCK
        try:
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi0q", kind, os.SEEK_SET, row, 1, 0))
        except (BlockingIOError, PermissionError):
            return False
        return True

else:

    def lock(file: int, row: int, *, exclusive: bool) -> bool:
        """Lock nothing: elsewhere such locks are the process's own, and leases are among its threads alone."""
        del file, row, exclusive
        return True


class RowLocks:
    """Gives out the rows of an array."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._turns = Turns()
        self._file: int | None = None
        self._pid = os.getpid()

    def take(self, key: bytes, row: int) -> Lease | None:
        """Take the right to compute a row, None while another has it."""
        turn = self._turns.take(key)
        if turn is None or self._path is None or row < 0:
            return turn
        mine = False
        try:
            mine = lock(self._opened(), row, exclusive=True)
        finally:
            if not mine:
                turn.release()
        return RowLease(self, turn, row) if mine else None

    def unlock(self, row: int) -> None:
        """Let others have a row."""
        if self._file is not None and self._pid == os.getpid():
            with suppress(OSError):
                lock(self._file, row, exclusive=False)

    def close(self) -> None:
        """Close the file, and with it give back every row."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _opened(self) -> int:
        if self._pid != os.getpid():
            # What was opened before a fork is the parent's as well, and so would be every lock.
            self.close()
            self._pid = os.getpid()
        if self._file is None:
            assert self._path is not None
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        return self._file


class RowLease(Lease):
    """The lease of one row."""

    def __init__(self, locks: RowLocks, turn: Turn, row: int) -> None:
        self._locks, self._turn, self._row = locks, turn, row

    @property
    def held(self) -> bool:
        """Tell whether it is still ours."""
        return self._turn.held

    def release(self) -> None:
        """Give it back; a second time it does nothing."""
        if self._turn.held:
            self._locks.unlock(self._row)
            self._turn.release()
