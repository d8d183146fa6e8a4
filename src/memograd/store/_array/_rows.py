"""The rows of an array as bytes: whoever reads one, in any process and after any crash, gets it as it was put, or none.

Beside each row stands a *mark*: 0 for a row that is not there, else a checksum of the row and its place. A row's mark
is taken away before the row is written and set after, and looked at before and after the row is read.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import xxhash

from memograd.store._array._place import place_at

if TYPE_CHECKING:
    from pathlib import Path

    from memograd.store._array._layout import Layout

# A row that others write all the time is, after so many looks, one that is not there.
LOOKS = 5


class Rows:
    """Rows by their place, as bytes.

    Attributes:
        layout: what they look like.
        place: where they are.
        lock: held by the thread that writes.
    """

    def __init__(self, layout: Layout, path: str | Path | None, *, readonly: bool) -> None:
        self.layout = layout
        self.place = place_at(path, layout, readonly=readonly)
        self.lock = threading.Lock()
        self._readonly = readonly

    def within(self, at: int) -> bool:
        """Tell whether there is a place for a row."""
        return 0 <= at < self.layout.count

    def read(self, at: int) -> bytes | None:
        """Give the bytes of a row, None if it is not there."""
        if not self.within(at):
            return None
        place, nbytes = self.place, self.layout.nbytes
        for _ in range(LOOKS):
            mark = place.marks[at]
            if mark == 0:
                return None
            row = bytes(place.data[at * nbytes : (at + 1) * nbytes])
            if place.marks[at] == mark and (place.verified[at] == mark or mark_of(at, row) == mark):
                place.verified[at] = mark
                return row
        return None

    def write(self, at: int, row: bytes) -> None:
        """Put a row into its place."""
        with self.lock:
            self.place.set_mark(at, 0)
            self.place.set_rows(at, row)
            self.place.set_mark(at, mark_of(at, row))

    def remove(self, at: int) -> bool:
        """Take a row out; tell whether it was there."""
        if self._readonly or not self.within(at):
            return False
        there = self.read(at) is not None
        with self.lock:
            self.place.set_mark(at, 0)
        return there


def mark_of(at: int, row: bytes | memoryview) -> int:
    """Give the mark of a row: its checksum, which is another at another place, and never 0."""
    mark: int = xxhash.xxh3_64_intdigest(row, at)
    return mark or 1
