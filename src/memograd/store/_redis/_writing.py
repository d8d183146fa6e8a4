"""How entries are written: small ones many in a trip, a large one piece by piece, and then put all at once."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from memograd.store._base import Entry
from memograd.store._redis._entry import seal
from memograd.store._redis._room import finite
from memograd.store._redis._server import CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from memograd.store._base import Buffer
    from memograd.store._redis._room import Room
    from memograd.store._redis._server import Server

_ON_ITS_WAY = 60  # seconds that an entry may be on its way


class Writing:
    """Writes entries.

    Args:
        server: where to.
        room: makes room for each.
        ttl: seconds after which one is gone; None for never.
    """

    def __init__(self, server: Server, room: Room, ttl: float | None) -> None:
        self._server, self._room, self._ttl = server, room, ttl

    def write(self, entries: Sequence[tuple[bytes, Entry]]) -> int:
        """Send small entries in one trip, larger ones piece by piece; count those that were taken."""
        taken = 0
        commands: list[tuple[Any, ...]] = []
        small = 0
        for key, given in entries:
            entry, px = self._timed(given)
            if px == 0:
                self._server.batch([self._server.index("delete", key)])
                continue
            pieces = seal(key, entry)
            nbytes = sum(memoryview(piece).nbytes for piece in pieces)
            if not self._room.fits(key, nbytes, entry.about):
                continue
            new = f"{self._server.tag(key.hex()[:1])}:new:{token_hex(8)}"
            about = entry.about
            put = self._server.index(
                "put", key, finite(about.seconds), int(about.pinned), px or 0, self._room.clock, new=new
            )
            if nbytes > CHUNK:
                taken += self._upload(new, pieces, put)
                continue
            commands += [("SET", new, b"".join(pieces), "EX", _ON_ITS_WAY), put]
            small += nbytes
            if small > CHUNK:
                taken += self._count(commands)
                commands, small = [], 0
        return taken + self._count(commands)

    def _count(self, commands: Sequence[tuple[Any, ...]]) -> int:
        return sum(answer == 1 for answer in self._server.batch(commands)[1::2])

    def _upload(self, new: str, pieces: Sequence[Buffer], put: tuple[Any, ...]) -> bool:
        """Send an entry piece by piece, and put it when all of it is there."""
        # All of the string at once: one that grows is copied again and again.
        whole = sum(memoryview(piece).nbytes for piece in pieces)
        answers = self._server.batch([("SET", new, b"", "EX", _ON_ITS_WAY), ("SETRANGE", new, whole - 1, b"\0")])
        at = 0
        for chunk in _chunks(pieces):
            if any(isinstance(answer, Exception) for answer in answers):
                self._server.batch([("UNLINK", new)])
                return False
            answers = self._server.batch([("SETRANGE", new, at, chunk)])
            at += chunk.nbytes
        return self._server.batch([put])[0] == 1

    def _timed(self, entry: Entry) -> tuple[Entry, int | None]:
        """Give an entry with when it expires, and in how many milliseconds: 0 for over, None for never."""
        now = time.time()
        ends = [end for end in (entry.about.expires, None if self._ttl is None else now + self._ttl) if end is not None]
        if not ends or min(ends) == math.inf:
            return entry, None
        end = min(ends)
        about = entry.about if entry.about.expires == end else replace(entry.about, expires=end)
        # Nothing that was remembered today is wanted in a thousand years, and Redis counts no further.
        return Entry(about, entry.body), max(0, math.ceil(min(end - now, 3e10) * 1000))


def _chunks(pieces: Iterable[Buffer]) -> Iterator[memoryview]:
    for piece in pieces:
        view = memoryview(piece)
        for at in range(0, view.nbytes, CHUNK):
            yield view[at : at + CHUNK]
