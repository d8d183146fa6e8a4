"""`File(path)`: a file as a value, by what is in it."""

from __future__ import annotations

import os
import time
from io import FileIO
from stat import S_ISDIR, S_ISREG
from typing import TYPE_CHECKING, NamedTuple

from memograd.fingerprint._digest import CHUNK, together
from memograd.fingerprint._form import Form, Unidentified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from memograd.fingerprint._form import Hash

# What was written within this time after the last look may leave no trace in the time of the last change.
_FRESH = 2_000_000_000
_MOST = 4096


class File:
    """A file by its content: `train(File("corpus.txt"))` is another call when the file holds something else.

    A path alone is its name. The content is read again when size or times of the file have changed.

    Args:
        path: where the file is. `open(file)` and `os.fspath(file)` take a `File` as they take a path.
    """

    __slots__ = ("path",)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)

    def __fspath__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return f"File({self.path!r})"


class _Seen(NamedTuple):
    stat: tuple[int, ...]
    digest: bytes


_seen: dict[tuple[str, Hash], _Seen] = {}


def of_file(value: File) -> Form:
    """Write a file: its content, not its name."""
    # With pathlib, importing memograd would take a quarter longer.
    kind = os.stat(value.path).st_mode if os.path.exists(value.path) else 0  # noqa: PTH110, PTH116
    if not S_ISREG(kind):
        what = "a directory; pass its files" if S_ISDIR(kind) else "no file to read" if kind else "not there"
        raise Unidentified(f"{value!r}, and the file is {what}")
    return Form(b"file", _Read(value.path))


class _Read:
    """The data of a file."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def digested(self, hash: Hash) -> bytes:  # noqa: A002 - as in Source
        """Digest the file chunk by chunk, or remember its digest."""
        place = (os.path.realpath(self.path), hash)
        before = _stat(self.path)
        seen = _seen.get(place)
        if seen is not None and seen.stat == before:
            return seen.digest
        digest = together((hash(chunk) for chunk in self.chunks()), hash)
        if before == _stat(self.path) and time.time_ns() - max(before[2:4]) > _FRESH:
            if len(_seen) >= _MOST:
                _seen.clear()
            _seen[place] = _Seen(before, digest)
        return digest

    def chunks(self) -> Iterator[memoryview]:
        with FileIO(self.path) as file:
            room = memoryview(bytearray(min(CHUNK, os.fstat(file.fileno()).st_size + 1)))
            while filled := _fill(file.readinto, room):
                yield room[:filled]


def _fill(read: Callable[[memoryview], int | None], room: memoryview) -> int:
    """Fill a buffer as far as there is something to read: one reading may give less than was asked for."""
    filled = 0
    while filled < len(room) and (more := read(room[filled:])):
        filled += more
    return filled


def _stat(path: str) -> tuple[int, ...]:
    found = os.stat(path)  # noqa: PTH116 - as above
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
