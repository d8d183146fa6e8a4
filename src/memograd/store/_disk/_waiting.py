"""What waits to be committed, and its commits.

NOTE [batches] A commit costs as much as ten rows. So the small entries that come within `DELAY` of a commit wait in
memory until it is over and are committed together; this process finds them at once, and another that waits for a key
gets the key's lease when it is committed. Uses are counted the same way, and committed with what comes a second later,
or at the end. What is killed loses what it has not committed: computations, no more.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar

from memograd._events import Evict, listeners, tell
from memograd.store._disk._commit import Batch, Commit
from memograd.store._disk._faults import FAULTS
from memograd.store._disk._rows import Row, place_of
from memograd.store._lock import guard, new_lock

if TYPE_CHECKING:
    from collections.abc import Callable

    from memograd.store._disk._faults import Faults
    from memograd.store._disk._files import Files
    from memograd.store._disk._host import Held

Result = TypeVar("Result")

# See NOTE [batches].
DELAY = 0.05
MOST_ROWS = 256
MOST_BYTES = 8 << 20
MOST_USES = 16384
USES_DELAY = 1.0
_UNUSED = 0, 0.0


class Waiting:
    """The entries and uses of one process that wait to be committed. See NOTE [batches].

    Args:
        files: the files of the rows.
        faults: what goes wrong with the index.
        most: the most bytes that the store holds.
        clock: gives the time.
    """

    def __init__(self, files: Files, faults: Faults, most: int, clock: Callable[[], float]) -> None:
        self._index = faults.index
        self._files = files
        self._faults = faults
        self._most = most
        self._clock = clock
        self._lock = new_lock()
        self.begin_anew()
        guard(self._lock, self)

    def begin_anew(self) -> None:
        """Forget what waits: after a fork it is the parent's."""
        self.rows: dict[int, Row] = {}
        self.committing: dict[int, Row] = {}
        self.uses: dict[int, tuple[int, float]] = {}  # by place, how often, and when last
        # What the store held after the last commit.
        self.nbytes = 0
        self._rows_bytes = 0
        self._committed = 0.0
        self._used_since = 0.0
        self._leases: list[Held] = []
        self._thread: threading.Thread | None = None

    def find(self, place: int) -> Row | None:
        """Give the row that waits for a place, None if none does."""
        return self.rows.get(place) or self.committing.get(place)

    def use(self, place: int, now: float) -> None:
        """Count a use of the entry at a place."""
        # Without a lock: of two threads that count one entry at once, the count of one may be lost.
        uses = self.uses
        if not uses:
            self._used_since = now
        uses[place] = uses.get(place, _UNUSED)[0] + 1, now
        if len(uses) >= MOST_USES or not 0.0 <= now - self._used_since < USES_DELAY:
            self.flush()

    def put(self, row: Row) -> bool:
        """Let a row wait, or commit it with those that do; tell whether it was taken."""
        with self._lock:
            self.rows[row.place] = row
            self._rows_bytes += row.nbytes
            full = len(self.rows) >= MOST_ROWS or self._rows_bytes > MOST_BYTES
            full = full or time.monotonic() - self._committed > DELAY
            if not full and self.nbytes + self._rows_bytes <= self._most and self._started():
                return True
        return row.place not in self.commit()

    def keep(self, lease: Held) -> bool:
        """Keep a lease that is given back until the entry of its key is committed."""
        with self._lock:
            waits = self.find(place_of(lease.key)) is not None
            if waits:
                self._leases.append(lease)
            return waits

    def flush(self) -> None:
        """Commit what waits, if that can be done."""
        if self.rows or self.uses:
            self._faults.safely(self.commit, set[int]())

    def commit(self, last: Batch | None = None) -> set[int]:
        """Commit what waits, then `last`; give the places of what was not taken."""
        with self._index.write_lock:
            with self._lock:
                uses, self.uses = self.uses, {}
                batch = Batch(self.rows, uses.copy())  # a thread that counts may still have it
                self.committing = self.rows
                self.rows, self._rows_bytes = {}, 0
                leases, self._leases = self._leases, []
            try:
                lost: set[int] = set()
                for each in (batch, last or Batch({})):
                    if each.rows or each.uses:
                        lost |= self._commit_again(lambda commit: commit.apply(each))  # noqa: B023 - called at once
                return lost
            finally:
                self.committing = {}
                self._committed = time.monotonic()
                for lease in leases:
                    lease.let_go()

    def write(self, act: Callable[[Commit], Result]) -> Result:
        """Commit what waits, then what `act` does."""
        with self._index.write_lock:
            if self.rows or self.uses:
                self.commit()
            return self._commit_again(act)

    def _commit_again(self, act: Callable[[Commit], Result]) -> Result:
        try:
            return self._commit(act)
        except FAULTS as error:
            if not self._faults.recover(error):
                raise
            return self._commit(act)

    def _commit(self, act: Callable[[Commit], Result]) -> Result:
        evicted: list[tuple[bytes, str]] = []
        with self._index.writing() as connection:
            commit = Commit(connection, self._files, self._most, self._clock(), evicted)
            result = act(commit)
            self.nbytes = commit.close()
        for key, reason in evicted if listeners else ():
            tell(Evict(key, reason))
        return result

    def _started(self) -> bool:
        """Have a thread commit soon; tell whether there is one. With the lock held."""
        if self._thread is None:
            thread = threading.Thread(target=self._commit_soon, name="memograd-disk")
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending
                return False
            self._thread = thread
        return True

    def _commit_soon(self) -> None:
        # No daemon: a process that ends waits for its last rows.
        while True:
            time.sleep(DELAY)
            self.flush()
            with self._lock:
                if not self.rows:
                    self._thread = None
                    return
