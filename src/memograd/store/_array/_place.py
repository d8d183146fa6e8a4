"""Where the rows and the marks of an array are: mapped memory, of files or of none.

Files are read through the mapping and written by calls: on a full disk a call raises, where a write to mapped memory
would end the process.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from memograd.store._array._layout import check

if TYPE_CHECKING:
    from memograd.store._array._layout import Layout

MARK = 8


class Place:
    """Rows and marks in memory that forked children share.

    Attributes:
        data: all rows, one after the other.
        marks: a number for each row.
        verified: the mark under which this process has seen that a row is as it was put.
        lock_file: what processes lock; None where there are no others.
    """

    lock_file: Path | None = None
    owner = b""

    def __init__(self, layout: Layout) -> None:
        self.nbytes = layout.nbytes
        self.data = memoryview(mmap.mmap(-1, layout.count * layout.nbytes))
        self.marks = memoryview(mmap.mmap(-1, layout.count * MARK)).cast("Q")
        self.verified = memoryview(mmap.mmap(-1, layout.count * MARK)).cast("Q")

    def set_rows(self, first: int, rows: bytes | memoryview) -> None:
        """Write rows that follow one another."""
        start = first * self.nbytes
        self.data[start : start + len(rows)] = rows

    def set_mark(self, at: int, mark: int) -> None:
        """Write the mark of a row."""
        self.marks[at] = mark

    def set_marks(self, first: int, marks: bytes) -> None:
        """Write marks that follow one another, in the machine's order of bytes."""
        self.marks[first : first + len(marks) // MARK] = memoryview(marks).cast("Q")

    def flush(self) -> None:
        """Do nothing: memory does not last."""

    def claim(self, owner: bytes) -> bool:
        """Say whose rows these are, unless that was said; tell whether they are."""
        self.owner = self.owner or owner
        return self.owner == owner

    def disown(self) -> None:
        """Forget whose rows these were."""
        self.owner = b""


class Folder(Place):
    """Rows and marks in two files of a folder."""

    def __init__(self, folder: Path, layout: Layout, *, readonly: bool) -> None:
        self.nbytes = layout.nbytes
        self.lock_file = None if readonly else folder / "lock"
        if not readonly:
            begin(folder, layout)
        self._owner_file = folder / "owner"
        check((folder / "array.json").read_bytes(), layout, str(folder))
        self._data_file, data = opened(folder / "rows.raw", layout.count * layout.nbytes, readonly=readonly)
        self._marks_file, marks = opened(folder / "marks.raw", layout.count * MARK, readonly=readonly)
        self.data, self.marks = memoryview(data), memoryview(marks).cast("Q")
        self.verified = memoryview(mmap.mmap(-1, layout.count * MARK)).cast("Q")

    def set_rows(self, first: int, rows: bytes | memoryview) -> None:
        """Write rows that follow one another."""
        write(self._data_file, rows, first * self.nbytes)

    def set_mark(self, at: int, mark: int) -> None:
        """Write the mark of a row."""
        write(self._marks_file, mark.to_bytes(MARK, sys.byteorder), at * MARK)

    def set_marks(self, first: int, marks: bytes) -> None:
        """Write marks that follow one another."""
        write(self._marks_file, marks, first * MARK)

    def flush(self) -> None:
        """Wait until rows, and then marks, are on the disk."""
        os.fsync(self._data_file)
        os.fsync(self._marks_file)

    def claim(self, owner: bytes) -> bool:
        """Say whose rows these are, unless that was said; tell whether they are."""
        # Another process may have disowned them: there is no file, then.
        if not self.owner or not self._owner_file.exists():
            self.owner = self._claimed(owner)
        return self.owner == owner

    def disown(self) -> None:
        """Forget whose rows these were."""
        self.owner = b""
        self._owner_file.unlink(missing_ok=True)

    def _claimed(self, owner: bytes) -> bytes:
        # Linked whole or not at all: of two processes the first is the owner.
        new = self._owner_file.with_name(f"owner.{os.getpid()}")
        if not self._owner_file.exists():
            new.write_bytes(owner)
            with suppress(FileExistsError):
                os.link(new, self._owner_file)
            new.unlink()
        return self._owner_file.read_bytes()

    def __del__(self) -> None:
        for name in ("_data_file", "_marks_file"):
            if name in vars(self):
                os.close(vars(self).pop(name))


def place_at(path: str | Path | None, layout: Layout, *, readonly: bool) -> Place:
    """Find the place of an array, and make it where it is missing."""
    return Place(layout) if path is None else Folder(Path(path).expanduser(), layout, readonly=readonly)


def begin(folder: Path, layout: Layout) -> None:
    """Write the header, unless there is one: whole, or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    header = folder / "array.json"
    if not header.exists():
        new = folder / f"array.json.{os.getpid()}"
        new.write_text(json.dumps(layout.header) + "\n", encoding="utf-8")
        new.replace(header)


def opened(path: Path, nbytes: int, *, readonly: bool) -> tuple[int, mmap.mmap]:
    """Open and map a file of so many bytes. What a file that was cut off lacks is zeros, which no mark belongs to."""
    file = os.open(path, os.O_RDONLY if readonly else os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if os.fstat(file).st_size < nbytes:
            # In a readonly one this raises OSError: what is cut off cannot be mapped.
            os.ftruncate(file, nbytes)
        return file, mmap.mmap(file, nbytes, access=mmap.ACCESS_READ)
    except BaseException:
        os.close(file)
        raise


def write(file: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of it."""
    view = memoryview(data).cast("B")
    while view:
        done = write_at(file, view, offset)
        view, offset = view[done:], offset + done


def write_at(file: int, data: memoryview, offset: int) -> int:
    """Write some of it at a place, in one call where the system has one; count the bytes."""
    if hasattr(os, "pwrite"):
        return os.pwrite(file, data, offset)
    os.lseek(file, offset, os.SEEK_SET)
    return os.write(file, data)
