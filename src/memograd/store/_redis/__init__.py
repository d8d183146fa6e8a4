"""Redis, or Valkey: a store for many machines, that may go away at any time and is then not missed.

Everything is in the server: entries, the index that says which to evict, and leases. Keys of a namespace are spread
over 16 shards by the first hexadecimal digit of the key's digest; each has a hash tag of its own, `{memograd:ns:7}`, so
that a cluster keeps a shard in one place and every script touches one shard. Sixteen, since what concerns the whole
(how many bytes are there, what goes first) asks each shard, in one trip.

| key | type | what |
|---|---|---|
| `{memograd:ns:7}:e:<hex>` | string | an entry, see `_entry` |
| `{memograd:ns:7}:l:<hex>` | string | who computes it, see `_holder` |
| `{memograd:ns:7}:new:<hex>` | string | an entry on its way |
| `{memograd:ns:7}:facts`, `:order`, `:expiring` | hash, sorted sets | the index, see `_lua` |
"""

from __future__ import annotations

import math
import time
from itertools import islice
from typing import TYPE_CHECKING, Any

from memograd.store._base import Entry, Info, Store
from memograd.store._holder import is_dead, new_holder
from memograd.store._redis._entry import PINNED
from memograd.store._redis._lua import TURNS_SHA
from memograd.store._redis._reading import Reading
from memograd.store._redis._room import Room
from memograd.store._redis._server import SHARDS, Server
from memograd.store._redis._turns import Alone, RemoteTurns
from memograd.store._redis._writing import Writing
from memograd.store._units import parse_bytes, parse_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from memograd.store._base import Lease
    from memograd.store._redis._turns import Turn

_BATCH = 32  # entries that are asked for in one trip


class Redis(Store):
    """Entries in a Redis or Valkey server, or a cluster of them.

    A server that is away, slow, full or hostile costs computations, and one warning.

    Args:
        url: where it is, with user and password: "redis://host:6379/0", "rediss://user:password@host:6380/0" for TLS,
            "unix:///path/to/socket"; what `redis.from_url` takes, its options included. It is not shown, but whoever
            pickles the store sends the password along.
        namespace: whoever uses the same shares entries.
        max_bytes: evict beyond this, as an int or "2GiB"; None leaves that to the server's `maxmemory`.
        ttl: seconds after which an entry is gone, or "7d"; None for never.
        readonly: take nothing, and leave no trace of reading.
        lease_ttl: seconds after which the key of a host that is gone may be computed by another.
        timeout: seconds to wait for an answer of the server; of a large entry, for each 4 MiB.

    Raises:
        TypeError, ValueError: the URL is none, or another argument is out of its range. That nobody is there raises
            nothing.
    """

    lasting = True
    shared = True

    def __init__(
        self,
        url: str = "redis://localhost:6379/0",
        *,
        namespace: str = "memograd",
        max_bytes: int | str | None = None,
        ttl: float | str | None = None,
        readonly: bool = False,
        lease_ttl: float | str = 10.0,
        timeout: float | str = 1.0,
    ) -> None:
        ttl = None if ttl is None else parse_seconds(ttl, "ttl", who="Redis")
        lease_ttl, timeout = (
            parse_seconds(seconds, name, who="Redis")
            for name, seconds in (("lease_ttl", lease_ttl), ("timeout", timeout))
        )
        if not namespace or set(namespace) & set("{}"):
            raise ValueError(
                f'Redis() got namespace={namespace!r}, expected text without braces; write namespace="lab"'
            )
        self._server = Server(url, namespace, timeout)
        self.readonly = readonly
        self.max_bytes = None if max_bytes is None else parse_bytes(max_bytes, who="Redis")
        self._room = Room(self._server, self.max_bytes, readonly=readonly)
        self._reading = Reading(self._server, readonly=readonly)
        self._writing = Writing(self._server, self._room, ttl)
        self._turns = RemoteTurns(lease_ttl, self._renew, self._free)

    def __repr__(self) -> str:
        return self._server.shown

    # Reading.

    def get(self, key: bytes) -> Entry | None:
        """Give the entry of a key, None if there is none, and count that as a use."""
        return self.get_many([key])[0]

    def get_many(self, keys: Sequence[bytes]) -> list[Entry | None]:
        """Give the entries of many keys, a few dozen in one trip."""
        found: list[Entry | None] = []
        for at in range(0, len(keys), _BATCH):
            batch = keys[at : at + _BATCH]
            nothing: list[Entry | None] = [None] * len(batch)
            found += self._server.link.ask(lambda batch=batch: self._reading.read(batch), nothing)
        return found

    def contains(self, key: bytes) -> bool:
        """Tell whether there is an entry, without counting that as a use."""
        return self._server.link.ask(
            lambda: self._server.batch([("EXISTS", self._server.entry(key))])[0] == 1, otherwise=False
        )

    def infos(self) -> Iterator[Info]:
        """Go through all entries, in any order; what the server has evicted by itself is taken out of the index."""
        for shard in SHARDS:
            cursor = 0
            while True:
                page = self._server.link.ask(
                    lambda shard=shard, cursor=cursor: self._reading.page(shard, cursor), (0, {})
                )
                cursor, facts = page
                yield from self._server.link.ask(lambda shard=shard, facts=facts: self._reading.infos(shard, facts), [])
                if cursor == 0:
                    break

    @property
    def nbytes(self) -> int:
        """Count the bytes that the entries take; what has expired is taken out first."""
        return self._server.link.ask(lambda: self._room.totals()[0], 0)

    # Writing.

    def put(self, key: bytes, entry: Entry) -> bool:
        """Put an entry in the place of any other of its key, and make room; tell whether it was taken."""
        return self.put_many([(key, entry)]) == 1

    def put_many(self, entries: Iterable[tuple[bytes, Entry]]) -> int:
        """Put many entries, a few dozen small ones in one trip; count those that were taken."""
        if self.readonly:
            return 0
        each = iter(entries)
        taken = 0
        while batch := list(islice(each, _BATCH)):
            taken += self._server.link.ask(lambda batch=batch: self._writing.write(batch), 0)
        return taken

    def delete(self, key: bytes) -> bool:
        """Take an entry out; tell whether there was one."""
        return self.delete_many([key]) == 1

    def delete_many(self, keys: Iterable[bytes]) -> int:
        """Take many entries out; count those that were there."""
        if self.readonly:
            return 0
        commands = [self._server.index("delete", key) for key in keys]
        return self._server.link.ask(lambda: sum(found == 1 for found in self._server.batch(commands)), 0)

    def clear(self) -> int:
        """Take every entry out, also those that the index has lost; count them."""
        return 0 if self.readonly else self._server.link.ask(self._room.clear, 0)

    def pin(self, key: bytes, *, pinned: bool = True) -> bool:
        """Keep an entry from being evicted, or no longer; tell whether there is one. Its ttl ends it all the same."""
        if self.readonly:
            return False
        command = self._server.index("pin", key, int(pinned), PINNED)
        return self._server.link.ask(lambda: self._server.batch([command])[0] == 1, otherwise=False)

    def lease(self, key: bytes) -> Lease | None:
        """Take the right to compute a key; None while another thread, process or host has it.

        Without a server, or readonly, everybody has it: then everybody computes.
        """
        return Alone() if self.readonly else self._server.link.ask(lambda: self._take(key), Alone())

    def close(self) -> None:
        """Let go of the connections. What is asked of it later opens them again."""
        self._server.link.close()

    # Leases.

    def _take(self, key: bytes) -> Lease | None:
        holder, asked = new_holder(), time.monotonic()
        px = math.ceil(self._turns.ttl * 1000)
        (answer,) = self._server.batch([self._ask_turn("take", key, holder, px, "")])
        if isinstance(answer, bytes) and is_dead(answer.decode("ascii", "replace")):
            # In the place of the dead one only: of many who see it one is first.
            (answer,) = self._server.batch([self._ask_turn("take", key, holder, px, answer)])
        if answer == 1:
            return self._turns.add(key, holder, asked)
        return Alone() if isinstance(answer, Exception) else None

    def _ask_turn(self, op: str, key: bytes, holder: str, *args: object) -> tuple[Any, ...]:
        return "EVALSHA", TURNS_SHA, 1, self._server.turn(key), op, holder, *args

    def _renew(self, turns: Sequence[Turn]) -> Sequence[bool | None]:
        px = math.ceil(self._turns.ttl * 1000)
        commands = [self._ask_turn("renew", turn.key, turn.holder, px) for turn in turns]
        answers: list[Any] = self._server.link.ask(
            lambda: self._server.batch(commands), [None] * len(turns), aloud=False
        )
        return [bool(answer) if isinstance(answer, int) else None for answer in answers]

    def _free(self, turn: Turn) -> None:
        command = self._ask_turn("release", turn.key, turn.holder)
        self._server.link.ask(lambda: self._server.batch([command]), [])
