"""The index: one SQLite file that says what entries there are, for many processes at once.

NOTE [index]

1. A process has one connection that reads and one that writes, each under a lock. Threads could have their own, but
   a fork in the middle of a statement would leave the child with locks inside SQLite that nobody ever opens: before a
   fork both locks are taken, so no thread is inside.
2. A forked child neither uses nor closes what its parent has opened: closing might write. It opens its own.
3. Nobody opens the file but SQLite: closing any other descriptor of it would drop the locks that SQLite has on it.
4. What is damaged is set aside and begun anew, once for all processes: under the lock of `Leases.alone`, and only if
   the file is still the one that was found damaged. Its log goes first: it would be played into a new file.
5. A file that was removed or exchanged under us is noticed by its inode, before each commit and now and then.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from memograd.store._disk._connection import PATIENCE, NotOursError, connect, damaged, lenient, open_as
from memograd.store._disk._rows import FIND
from memograd.store._lock import new_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager
    from pathlib import Path

LOOK_EVERY = 0.5
_READONLY = 8


class Index:
    """The index of one directory.

    Args:
        path: the file.
        alone: keeps other processes from opening or exchanging it meanwhile.
        begun: called when an index is begun anew, with what was there in its place, "" for nothing.
        wal: write-ahead log; without shared memory (network file systems) a rollback journal.
        readonly: nothing is written.
        settle: called before a fork, to commit what waits.
        forked: called in the child.
    """

    def __init__(
        self,
        path: Path,
        *,
        alone: Callable[[], AbstractContextManager[None]] = nullcontext,
        begun: Callable[[str], object] = lambda _: None,
        wal: bool = True,
        readonly: bool = False,
        settle: Callable[[], None] = lambda: None,
        forked: Callable[[], None] = lambda: None,
    ) -> None:
        self.path = path
        self.readonly = readonly
        self.read_lock = new_lock()
        self.write_lock = new_lock()
        self._alone = alone
        self._begun = begun
        self._settle = settle
        self._forked = forked
        self._wal = wal
        self._reader: sqlite3.Connection | None = None
        self._finder: sqlite3.Cursor | None = None
        self._writer: sqlite3.Connection | None = None
        self._identity = (0, 0)
        self._looked = 0.0
        self._both: list[Any] = []
        _indexes.add(self)

    def find(self, place: int, now: float) -> Any:
        """Give the row of FIND at a place, None if there is none; `now` is of any clock. Raises as `one`."""
        if not 0.0 <= now - self._looked < LOOK_EVERY:
            self._looked = now
            if self._reader is not None and self.moved():
                self.reopen()
        # One cursor for all: to make one takes a tenth of the time.
        with self.read_lock:
            if self._finder is not None:
                return self._finder.execute(FIND, (place,)).fetchone()
        return self.one(FIND, (place,))

    def one(self, sql: str, values: tuple[Any, ...] = ()) -> Any:
        """Give the first row of a question, None if there is none. Raises `sqlite3.Error`, `OSError`."""
        while True:
            if self._reader is None:
                self.open()
            with self.read_lock:
                if self._reader is not None:
                    return self._reader.execute(sql, values).fetchone()

    def rows(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """Give all rows of a question; text that is none is replaced. Raises as `one`."""
        while True:
            if self._reader is None:
                self.open()
            with self.read_lock:
                if self._reader is not None:
                    self._reader.text_factory = lenient
                    try:
                        return self._reader.execute(sql, values).fetchall()
                    finally:
                        self._reader.text_factory = str

    @contextmanager
    def writing(self) -> Generator[sqlite3.Connection]:
        """Write, all of it or nothing. Raises as `one`."""
        with self.write_lock:
            if self._writer is None or self.moved():
                self.reopen()
            connection = self._writer
            assert connection is not None
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def moved(self) -> bool:
        """Tell whether the file that is open is not the one at its path any more. See NOTE [index] 5."""
        try:
            return identity(self.path) != self._identity
        except OSError:
            return True

    def open(self) -> sqlite3.Connection:
        """Open the file, made if there is none, and give the connection that reads.

        Raises:
            NewerError: it is of a later version.
            sqlite3.Error, OSError: it cannot be opened.
        """
        with self.write_lock, self.read_lock:
            if self._reader is None:
                if self.readonly:
                    self._reader = self._open_readonly()
                else:
                    with self._alone():
                        self._open()
                self._identity = identity(self.path)
            assert self._reader is not None
            self._finder = self._reader.cursor()
            return self._reader

    def reopen(self) -> None:
        """Close what is open and open what is there. Raises as `open`."""
        with self.write_lock, self.read_lock:
            self.close()
            self.open()

    def close(self) -> None:
        """Close the connections; what is asked later opens new ones."""
        with self.write_lock, self.read_lock:
            reader, writer = self._reader, self._writer
            self._reader = self._finder = self._writer = None
            for connection in (reader, writer):
                if connection is not None:
                    connection.close()

    def shrink(self) -> None:
        """Give the room of what was deleted back to the file system."""
        with self.write_lock:
            if self._writer is not None:
                self._writer.executescript("PRAGMA incremental_vacuum")  # which runs it to its end
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def hopeless(self, error: BaseException) -> bool:
        """Tell whether an error says that the file is damaged, or that it may not be written to when it may."""
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == _READONLY or "readonly" in str(error):
            return not self.moved() and os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK)
        return damaged(error)

    def set_aside(self) -> bool:
        """Give a damaged index another name and begin anew, unless another process has. See NOTE [index] 4.

        Returns:
            Whether it was this process that did it.

        Raises:
            sqlite3.Error, OSError: it could not be done.
        """
        with self.write_lock, self.read_lock:
            found = self._identity
            self.close()
            with self._alone():
                mine = not self.readonly and self.path.exists() and found in {identity(self.path), (0, 0)}
                if mine:
                    self._rename()
            self.open()
            return mine

    def _open(self) -> None:
        if not self.path.exists():
            self._create()
        self._identity = identity(self.path)
        try:
            self._reader = self._open_as("mode=rw")
        except NotOursError:
            self._rename()
            self._create("an index of another version, or of something else,")
            self._reader = self._open_as("mode=rw")
        self._writer = connect(self.path, "mode=rw")
        self._writer.text_factory = lenient

    def _create(self, instead_of: str = "") -> None:
        self._begun(instead_of)
        for end in ("-shm", "-wal", "-journal"):
            self.path.with_name(self.path.name + end).unlink(missing_ok=True)
        # By hand, for SQLite would let others read it. What SQLite makes beside it has the same mode.
        os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))

    def _open_readonly(self) -> sqlite3.Connection:
        self.path.stat()
        try:
            return self._open_as("mode=ro")
        except sqlite3.OperationalError:  # where not even the log can be opened, nobody writes one
            return self._open_as("mode=ro&immutable=1")

    def _open_as(self, options: str) -> sqlite3.Connection:
        return open_as(self.path, options, wal=self._wal, readonly=self.readonly)

    def _rename(self) -> None:
        for old in self.path.parent.glob(self.path.name + "*.damaged"):
            old.unlink(missing_ok=True)
        for end in ("-shm", "-wal", "-journal", ""):
            path = self.path.with_name(self.path.name + end)
            if path.exists():
                path.replace(path.with_name(path.name + ".damaged"))

    # Around a fork. See NOTE [index] 1 and 2.

    def before_fork(self) -> None:
        """Take both locks, for a while: a process that cannot fork is worse than what may happen."""
        self._settle()
        self._both = [lock for lock in (self.write_lock, self.read_lock) if lock.acquire(timeout=PATIENCE)]

    def after_fork(self, *, child: bool) -> None:
        """Give them back."""
        for lock in reversed(self._both):
            lock.release()
        self._both = []
        if child:
            for connection in (self._reader, self._writer):
                if connection is not None:
                    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
            self._reader = self._finder = self._writer = None
            self._forked()


def identity(path: Path) -> tuple[int, int]:
    """Tell files apart. Raises `OSError`."""
    status = path.stat()
    return status.st_dev, status.st_ino


_indexes: WeakSet[Index] = WeakSet()
_forking: list[Index] = []


def _before() -> None:
    _forking[:] = list(_indexes)
    for index in _forking:
        index.before_fork()


def _after(*, child: bool) -> None:
    for index in reversed(_forking):
        index.after_fork(child=child)
    _forking.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=lambda: _after(child=False), after_in_child=lambda: _after(child=True)
    )
