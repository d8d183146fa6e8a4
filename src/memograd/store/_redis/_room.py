"""Which entries a server has room for: what saves the least seconds per byte goes first, across all shards."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, cast

from memograd._events import Evict, Refuse, listeners, tell
from memograd.store._evict import priority
from memograd.store._lock import new_lock
from memograd.store._redis._entry import MAX_ENTRY
from memograd.store._redis._server import SHARDS, key_in, number, translated

if TYPE_CHECKING:
    from memograd.store._base import About
    from memograd.store._redis._server import Server


class Room:
    """Makes room.

    Args:
        server: where.
        most: bytes that entries may take; None leaves that to the server.
        readonly: change nothing.
    """

    def __init__(self, server: Server, most: int | None, *, readonly: bool) -> None:
        self._server, self._most, self._readonly = server, most, readonly
        self._known = _Known()

    @property
    def clock(self) -> float:
        """How far eviction has come: what is put now is as fresh as that."""
        return self._known.clock

    def fits(self, key: bytes, nbytes: int, about: About) -> bool:
        """Make room for an entry, unless it is worth less than all that would have to go."""
        most = MAX_ENTRY if self._most is None else min(MAX_ENTRY, self._most)
        if nbytes > most:
            tell(Refuse(key, f"the result takes {nbytes:,} bytes, the store takes entries up to {most:,}"))
            return False
        if self._most is None:
            return True
        with self._known.lock:
            if not self._known.has(nbytes, self._most):
                total, clock, old = self.totals(key)
                self._known.learn(total, clock)
                self._known.total -= old
                rank = math.inf if about.pinned else priority(self._known.clock, 1, finite(about.seconds), nbytes)
                if not self._evict(nbytes, rank, self._most):
                    return False
            self._known.total += nbytes
            return True

    def _evict(self, nbytes: int, rank: float, most: int) -> bool:
        room = self._known
        while room.total + nbytes > most:
            victims = self._least()
            before = room.total
            for victim, key in victims:
                if room.total + nbytes <= most:
                    break
                room.clock = max(room.clock, min(victim, rank))
                if victim > rank:
                    self._advance()
                    return False
                freed = self._server.batch([self._server.index("evict", key, room.clock)])[0]
                room.total -= freed if isinstance(freed, int) else 0
                if listeners:
                    tell(Evict(key, "max_bytes"))
            if room.total == before:
                return False
        return True

    def _least(self) -> list[tuple[float, bytes]]:
        """List what goes first, in order, as far as that is known from a few of each shard."""
        few = 8
        found: list[tuple[float, bytes]] = []
        known_to = math.inf
        for shard, answer in zip(
            SHARDS, self._server.batch([self._server.shard("least", s, "", few) for s in SHARDS]), strict=True
        ):
            if not isinstance(answer, list):
                continue
            flat = cast("list[bytes]", answer)
            pairs = [(number(rank), key_in(name, shard)) for name, rank in zip(flat[::2], flat[1::2], strict=False)]
            found += [(rank, key) for rank, key in pairs if key is not None]
            if len(pairs) == few:
                known_to = min(known_to, pairs[-1][0])
        return sorted(pair for pair in found if pair[0] <= known_to)

    def _advance(self) -> None:
        clock = self._known.clock
        self._server.batch([("HSET", f"{self._server.tag(shard)}:facts", "clock", clock) for shard in SHARDS])

    def totals(self, key: bytes | None = None) -> tuple[int, float, int]:
        """Ask how many bytes there are, how far the clock is, and how many bytes a key has."""
        if self._readonly:
            answers = self._server.batch([("HGET", f"{self._server.tag(shard)}:facts", "nbytes") for shard in SHARDS])
            return sum(int(number(answer)) for answer in answers), 0.0, 0
        name = "" if key is None else key.hex()
        answers = self._server.batch([self._server.shard("total", s, name if name[:1] == s else "") for s in SHARDS])
        rows = [[number(part) for part in cast("list[object]", row)] for row in answers if isinstance(row, list)]
        return (
            int(sum(row[0] for row in rows)),
            max((row[1] for row in rows), default=0.0),
            int(sum(r[2] for r in rows)),
        )

    def clear(self) -> int:
        """Take every entry out; count them."""
        plain = "".join(f"\\{char}" if char in "*?[]\\" else char for char in self._server.namespace)
        with translated():
            names: list[bytes] = list(self._server.link.client.scan_iter(match=f"{{memograd:{plain}:?}}:*", count=1000))
        cleared = 0
        for at in range(0, len(names), 1000):
            page = names[at : at + 1000]
            mine = [name for name in page if b"}:l:" not in name]
            answers = self._server.batch([("UNLINK", name) for name in mine])
            cleared += sum(answer == 1 and b"}:e:" in name for name, answer in zip(mine, answers, strict=True))
        self._known.known = 0.0
        return cleared


class _Known:
    """What is known of the bytes in the server, so that not every put has to ask: others put as well."""

    def __init__(self) -> None:
        self.lock = new_lock()
        self.total = 0
        self.clock = 0.0
        self.known = 0.0
        self._at_most = 0

    def has(self, nbytes: int, most: int) -> bool:
        """Tell whether there is room for so much, without asking."""
        recent = time.monotonic() - self.known < 1.0
        return recent and self.total + nbytes <= min(most, self._at_most + most // 64)

    def learn(self, total: int, clock: float) -> None:
        """Note what the server says."""
        self.total = self._at_most = total
        self.clock = max(self.clock, clock)
        self.known = time.monotonic()


def finite(seconds: float) -> float:
    """Give seconds, 0 for what is no number of them."""
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0
