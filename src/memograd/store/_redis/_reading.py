"""How entries are read: the first piece of many in one trip, of a large one the rest piece by piece."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, cast

from redis import exceptions as errors

from memograd.store._base import Info
from memograd.store._redis._entry import HEAD, MAX_ENTRY, Damaged, about_ends, expired, length, open_about, unseal
from memograd.store._redis._server import CHUNK, key_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memograd.store._base import Buffer, Entry
    from memograd.store._redis._server import Server

FIRST = 1 << 20  # so much of an entry is asked for before it is known how long it is


class Reading:
    """Reads entries.

    Args:
        server: where they are.
        readonly: leave no trace.
    """

    def __init__(self, server: Server, *, readonly: bool) -> None:
        self._server, self._readonly = server, readonly

    def read(self, keys: Sequence[bytes]) -> list[Entry | None]:
        """Read entries, and count that as a use of each."""
        reads = [("GETRANGE", self._server.entry(key), 0, FIRST - 1) for key in keys]
        answers = self._server.batch(
            reads if self._readonly else [*reads, *(self._server.index("touch", key) for key in keys)]
        )
        found = [self._open(key, data) for key, data in zip(keys, answers, strict=False)]
        if not self._readonly:
            unknown = [
                self._server.index("adopt", key, entry.about.seconds, int(entry.about.pinned))
                for key, entry, touched in zip(keys, found, answers[len(keys) :], strict=True)
                if entry is not None and touched == 2
            ]
            self._server.batch(unknown)
        return found

    def _open(self, key: bytes, data: object) -> Entry | None:
        """Make an entry of the first bytes, and read the rest; what is none is taken out."""
        if not data:
            return None
        head = b""
        with suppress(Damaged):
            if isinstance(data, bytes):
                head = data[:HEAD]
                entry = unseal(key, self._rest(key, data))
                return None if expired(entry.about) else entry
        if not self._readonly and (head or isinstance(data, errors.ResponseError)):
            # Only while it still begins like this: another may have put a good one meanwhile.
            self._server.batch([self._server.index("discard", key, head)])
        return None

    def _rest(self, key: bytes, data: bytes) -> Buffer:
        total = length(data)
        if total <= len(data) or len(data) < FIRST:
            return data
        name = self._server.entry(key)
        there = self._server.batch([("STRLEN", name)])[0]
        if total > MAX_ENTRY or there != total:
            raise Damaged("of another length than it says")
        whole = bytearray(total)
        whole[: len(data)] = data
        for at in range(len(data), total, CHUNK):
            piece = self._server.batch([("GETRANGE", name, at, min(at + CHUNK, total) - 1)])[0]
            if not isinstance(piece, bytes) or len(piece) != min(CHUNK, total - at):
                raise Damaged("it was replaced while it was read")
            whole[at : at + len(piece)] = piece
        return whole

    def page(self, shard: str, cursor: int) -> tuple[int, dict[bytes, bytes]]:
        """Read some of a shard's facts, and where to read on: 0 at the end."""
        (answer,) = self._server.batch([("HSCAN", f"{self._server.tag(shard)}:facts", cursor, "COUNT", 500)])
        return (0, {}) if isinstance(answer, Exception) else (int(answer[0]), answer[1])

    def infos(self, shard: str, facts: dict[bytes, bytes]) -> list[Info]:
        """Tell what is known of entries; what is gone is taken out of the index."""
        names = {key: text for name, text in facts.items() if (key := key_in(name, shard)) is not None}
        heads = self._server.batch([("GETRANGE", self._server.entry(key), 0, 4095) for key in names])
        infos = [self._info(key, text, head) for (key, text), head in zip(names.items(), heads, strict=True)]
        gone = [key for key, head in zip(names, heads, strict=True) if head == b""]
        if gone and not self._readonly:
            self._server.batch([self._server.index("touch", key) for key in gone])
        return [info for info in infos if info is not None]

    def _info(self, key: bytes, text: bytes, head: object) -> Info | None:
        try:
            if not isinstance(head, bytes) or not head:
                return None
            if about_ends(head) > len(head):
                head = cast(
                    "bytes", self._server.batch([("GETRANGE", self._server.entry(key), 0, about_ends(head) - 1)])[0]
                )
            about = open_about(head)
            _, hits, used, _, _ = (float(number) for number in text.split(b" "))
            return None if expired(about) else Info(key, about, length(head), int(hits), used)
        except (Damaged, ValueError, OverflowError, TypeError):
            return None
