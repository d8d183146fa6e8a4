"""What one commit does to the index: rows come, uses are counted, the least go, and the totals stay true.

Files come and go inside the commit, so that no file is removed for the sake of one row while another row is given it.
If the process is killed in between, a row without a file is a miss, and a file without a row is found by `check`.
"""

from __future__ import annotations

import math
import sqlite3
from typing import TYPE_CHECKING, Any

from memograd._events import Refuse, listeners, tell
from memograd.store._disk._rows import INSERT, USED, Row
from memograd.store._evict import priority

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from memograd.store._disk._files import Files, New

_SOME = 256
_DROPPED = "id, key, nbytes, size, digest, seconds, parent, priority, place"
_LEAST = f"SELECT {_DROPPED}, hits, age FROM {USED} WHERE pinned = 0 ORDER BY priority LIMIT 64"  # noqa: S608 - no input in it
_ENDED = f"SELECT {_DROPPED} FROM entries WHERE expires <= ? LIMIT 1000"  # noqa: S608 - as above
_BY_FILE = f"SELECT {_DROPPED} FROM entries WHERE digest = ?"  # noqa: S608 - as above
_USE = """
INSERT INTO uses SELECT ?1, ?2, ?3, ?4 FROM entries WHERE place = ?1
ON CONFLICT (at) DO UPDATE SET hits = hits + ?2, last = max(last, ?3), age = ?4"""
_ORPHAN = """
UPDATE entries SET seconds = seconds + ?1, parent = ?2, priority = priority_of(
    ?3, 1 + coalesce((SELECT hits FROM uses WHERE at = place), 0), seconds + ?1, nbytes)
WHERE parent = ?4 AND id != ?5"""


class GoneError(Exception):
    """A file that was there when its entry was put is gone before it was committed."""


class Batch:
    """What is to be committed together: rows and uses by place, and the new file of the rows."""

    def __init__(
        self, rows: Mapping[int, Row], uses: Mapping[int, tuple[int, float]] | None = None, new: New | None = None
    ) -> None:
        self.rows = rows
        self.uses = uses or {}
        self.new = new


class Commit:
    """Changes to the index, in one transaction."""

    def __init__(
        self, connection: sqlite3.Connection, files: Files, most: int, now: float, evicted: list[tuple[bytes, str]]
    ) -> None:
        self._do = connection.execute
        self._many = connection.executemany
        self._files = files
        self._most = most
        self._now = now
        self._evicted = evicted
        self._moved: set[int] = set()
        self.entries, self.nbytes, self._clock = self._totals()

    def _totals(self) -> tuple[int, int, float]:
        found = self._do("SELECT entries, nbytes, clock FROM totals").fetchone()
        if not found or [*map(type, found)] != [int, int, float] or min(found) < 0 or not math.isfinite(found[2]):
            raise sqlite3.DatabaseError("its totals are malformed")
        return found

    def close(self) -> int:
        """Write the totals; give the bytes that all entries take."""
        self.entries, self.nbytes = max(self.entries, 0), max(self.nbytes, 0)
        self._do("UPDATE totals SET entries = ?, nbytes = ?, clock = ?", (self.entries, self.nbytes, self._clock))
        return self.nbytes

    def apply(self, batch: Batch) -> set[int]:
        """Put rows, count uses, make room; give the places of the rows that did not stay."""
        if batch.rows:
            self._insert(batch)
        if batch.uses:
            age = self._clock
            self._many(_USE, [(place, count, last, age) for place, (count, last) in sorted(batch.uses.items())])
        lost = self._make_room(batch.rows) if self.nbytes > self._most else set[int]()
        return lost & batch.rows.keys()

    def free(self, row: Row) -> bool:
        """Make room for a large entry before it is written; tell whether it saves more than what would have to go."""
        if self.nbytes + row.nbytes <= self._most:
            return True
        gone: set[int] = set()
        self._expire(gone)
        while self.nbytes + row.nbytes > self._most:
            least = next(iter(self._least()), None)
            mine = priority(self._clock, 1, row.seconds, row.nbytes)
            if least is None or _number(least[7], float) > mine:
                # As if it had come and were the first to go.
                self._clock = max(self._clock, mine)
                return False
            self._clock = max(self._clock, _number(least[7], float))
            self._evict(least, "max_bytes", gone)
        return True

    def delete(self, wanted: Sequence[tuple[int, bytes]], now: float) -> int:
        """Take entries out; count those that there were."""
        count = 0
        for place, key in wanted:
            for row, expires in self._at(place):
                if row[1] == key:
                    self._drop(row)
                    count += expires is None or expires > now
        return count

    def discard(self, place: int, digest: str | None) -> None:
        """Take out what is damaged: a row, or all rows of a file, and the file."""
        rows = [row for row, _ in self._at(place)]
        if digest is not None and rows:
            rows = self._do(_BY_FILE, (digest,)).fetchall() or rows
        for row in rows:
            self._drop(row)

    def remove(self, ident: int, digest: str | None) -> None:
        """Take out a row by its number, and with it all rows of a file."""
        sql = f"SELECT {_DROPPED} FROM entries WHERE id = ? OR digest = ?"  # noqa: S608 - as above
        for row in self._do(sql, (ident, digest)).fetchall():
            self._drop(row)

    def pin(self, place: int, key: bytes, pinned: bool) -> bool:
        """Keep an entry from being evicted, or no longer; tell whether there is one."""
        return (
            self._do("UPDATE entries SET pinned = ? WHERE place = ? AND key = ?", (int(pinned), place, key)).rowcount
            > 0
        )

    def clear(self) -> None:
        """Take everything out."""
        self._do("DELETE FROM entries")
        self._do("DELETE FROM uses")
        self._files.clear()
        self.entries = self.nbytes = 0

    def _at(self, place: int) -> Iterable[tuple[Any, float | None]]:
        found = self._do(f"SELECT {_DROPPED}, expires FROM entries WHERE place = ?", (place,)).fetchall()  # noqa: S608
        return [(row[:-1], row[-1]) for row in found]

    def _insert(self, batch: Batch) -> None:
        last = self._do("SELECT max(id) FROM entries").fetchone()[0]
        if any(row.digest is not None for row in batch.rows.values()):
            self._drop_old(batch, last)
        for row in batch.rows.values():
            self.nbytes += row.nbytes
            if row.digest is not None:
                self._count_file(row, batch.new)
        clock = self._clock
        rows = [(*row, priority(clock, 1, row.seconds, row.nbytes)) for row in batch.rows.values()]
        # Most are new, so whether there is one of their key is asked only if some were not inserted.
        if self._many(INSERT, rows).rowcount != len(rows):
            self._drop_old(batch, last)
            self._many(INSERT, rows)
        self.entries += len(rows)

    def _drop_old(self, batch: Batch, last: int | None) -> None:
        """Delete what is there at the places of new rows, up to the id of the last that was there before them."""
        places = list(batch.rows)
        for at in range(0, len(places), _SOME):
            some = places[at : at + _SOME]
            marks = ", ".join("?" * len(some))
            sql = f"SELECT {_DROPPED} FROM entries WHERE id <= ? AND place IN ({marks})"  # noqa: S608 - marks alone
            for row in self._do(sql, (last, *some)).fetchall():
                new = batch.rows[row[8]]
                self._drop(row, replaced=row[1] == new.key, keep=new.digest)

    def _count_file(self, row: Row, new: New | None) -> None:
        assert row.digest is not None
        if self._used(row.digest):
            self.nbytes -= row.size
        if self._files.size(row.digest) != row.size:
            if new is None:
                raise GoneError
            self._files.name(new, row.digest)

    def _used(self, digest: str) -> bool:
        return self._do("SELECT 1 FROM entries WHERE digest = ? LIMIT 1", (digest,)).fetchone() is not None

    def _drop(self, row: Any, *, replaced: bool = False, keep: str | None = None) -> None:
        """Delete a row, its file if no other has it, and let what continues it continue its parent."""
        ident, key, nbytes, size, digest, seconds, parent, _, place = row
        nbytes, size, seconds = _number(nbytes, int), _number(size, int), _number(seconds, float)
        self._do("DELETE FROM entries WHERE id = ?", (ident,))
        self._do("DELETE FROM uses WHERE at = ?", (place,))
        self.entries -= 1
        self.nbytes -= nbytes
        if digest is not None:
            if self._used(digest):
                self.nbytes += size
            elif digest != keep:
                self._files.remove(digest)
        if not replaced:
            self._do(_ORPHAN, (seconds, parent, self._clock, key, ident))

    def _make_room(self, rows: Mapping[int, Row]) -> set[int]:
        """Evict what has expired, then the least, and at last what has just come; give the places of what went."""
        gone: set[int] = set()
        self._expire(gone)
        aim = self._most - (min(self._most // 64, 64 << 20) if self._most > 64 << 20 else 0)
        while self.nbytes > aim and (least := self._least()):
            for row in least:
                if self.nbytes <= aim:
                    break
                self._clock = max(self._clock, _number(row[7], float))
                self._evict(row, "max_bytes", gone)
        for place in [*rows][::-1]:
            if self.nbytes > self._most and place not in gone:
                for row, _ in self._at(place):
                    self._evict(row, "", gone)
        return gone

    def _least(self) -> list[Any]:
        """Give the next that are to go.

        Uses are counted beside the entries: one whose turn it seems to be may have been used since it was ranked.
        """
        while True:
            rows = self._do(_LEAST).fetchall()
            moved: list[tuple[float, int]] = []
            for row in rows:
                rank = _rank(row)
                if rank > _number(row[7], float) and row[0] not in self._moved:
                    moved.append((rank, row[0]))
            if not moved:
                return [row[:9] for row in rows]
            self._moved.update(ident for _, ident in moved)
            self._many("UPDATE entries SET priority = ? WHERE id = ?", moved)

    def _expire(self, gone: set[int]) -> None:
        for row in self._do(_ENDED, (self._now,)).fetchall():
            self._evict(row, "expired", gone)

    def _evict(self, row: Any, reason: str, gone: set[int]) -> None:
        self._drop(row)
        gone.add(row[8])
        if reason:
            self._evicted.append((row[1], reason))
        elif listeners:
            tell(Refuse(row[1], "all that the store holds is pinned"))


def _number(value: Any, kind: type[Any]) -> Any:
    """Read a number of a row that may be damaged."""
    return value if type(value) is kind and math.isfinite(value) and value >= 0 else kind(0)


def _rank(row: Any) -> float:
    """Give the priority that the uses of a row of _LEAST come to."""
    if row[9] is None:
        return 0.0
    return priority(_number(row[10], float), _number(row[9], int) + 1, _number(row[5], float), _number(row[2], int))
