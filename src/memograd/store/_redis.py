"""Redis, or Valkey: a store for many machines, that may go away at any time and is then not missed.

Everything is in the server: entries, the index that says which to evict, and leases. Keys of a namespace are spread
over 16 shards by the first hexadecimal digit of the key's digest; each has a hash tag of its own, `{memograd:ns:7}`, so
that a cluster keeps a shard in one place and every script touches one shard. Sixteen, since what concerns the whole
(how many bytes are there, what goes first) asks each shard, in one trip.

| key | type | what |
|---|---|---|
| `{memograd:ns:7}:e:<hex>` | string | an entry, see `_redis_entry` |
| `{memograd:ns:7}:l:<hex>` | string | who computes it, see `_holder` |
| `{memograd:ns:7}:new:<hex>` | string | an entry on its way |
| `{memograd:ns:7}:facts`, `:order`, `:expiring` | hash, sorted sets | the index, see `_redis_lua` |
"""

from __future__ import annotations

import math
import time
from contextlib import contextmanager, suppress
from itertools import islice
from secrets import token_hex
from typing import TYPE_CHECKING, Any, cast

import redis
from redis import exceptions as errors
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry

from memograd._events import Evict, Refuse, listeners, tell
from memograd.store._base import Entry, Info, Store
from memograd.store._evict import priority
from memograd.store._holder import is_dead, new_holder
from memograd.store._lock import new_lock
from memograd.store._open import hidden
from memograd.store._redis_entry import (
    HEAD,
    PINNED,
    Damaged,
    about_ends,
    expired,
    length,
    open_about,
    seal,
    unseal,
)
from memograd.store._redis_link import Link
from memograd.store._redis_lua import INDEX_SHA, SOURCES, TURNS_SHA
from memograd.store._redis_turns import Alone, RemoteTurns
from memograd.store._units import parse_bytes, parse_seconds

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from memograd.store._base import About, Buffer, Lease
    from memograd.store._redis_turns import Turn

SHARDS = "0123456789abcdef"
# Redis's own limit of a string, from which a longer one is refused by the server.
MAX_ENTRY = 512 << 20
# So much of an entry is asked for before it is known how long it is; so much is sent, or asked for, at a time.
FIRST, CHUNK = 1 << 20, 4 << 20
_BATCH = 32
# Seconds that an entry may be on its way.
_ON_ITS_WAY = 60


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
        _check_url(url)
        self.readonly = readonly
        self.max_bytes = None if max_bytes is None else parse_bytes(max_bytes, who="Redis")
        self._url, self._namespace, self._ttl, self._timeout = url, namespace, ttl, timeout
        self._cluster = False
        self._link = Link(self._connect, self._explain, (errors.RedisError, OSError))
        self._turns = RemoteTurns(lease_ttl, self._renew, self._free)
        self._room = _Room()

    def __repr__(self) -> str:
        return f"<Redis: {hidden(self._url)}, namespace {self._namespace!r}>"

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
            found += self._link.ask(lambda batch=batch: self._read(batch), nothing)
        return found

    def contains(self, key: bytes) -> bool:
        """Tell whether there is an entry, without counting that as a use."""
        return self._link.ask(lambda: self._batch([("EXISTS", self._entry(key))])[0] == 1, otherwise=False)

    def infos(self) -> Iterator[Info]:
        """Go through all entries, in any order; what the server has evicted by itself is taken out of the index."""
        for shard in SHARDS:
            cursor = 0
            while True:
                page = self._link.ask(lambda shard=shard, cursor=cursor: self._page(shard, cursor), (0, {}))
                cursor, facts = page
                yield from self._link.ask(lambda shard=shard, facts=facts: self._infos(shard, facts), [])
                if cursor == 0:
                    break

    @property
    def nbytes(self) -> int:
        """Count the bytes that the entries take; what has expired is taken out first."""
        return self._link.ask(lambda: self._totals()[0], 0)

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
            taken += self._link.ask(lambda batch=batch: self._write(batch), 0)
        return taken

    def delete(self, key: bytes) -> bool:
        """Take an entry out; tell whether there was one."""
        return self.delete_many([key]) == 1

    def delete_many(self, keys: Iterable[bytes]) -> int:
        """Take many entries out; count those that were there."""
        if self.readonly:
            return 0
        commands = [self._index("delete", key) for key in keys]
        return self._link.ask(lambda: sum(found == 1 for found in self._batch(commands)), 0)

    def clear(self) -> int:
        """Take every entry out, also those that the index has lost; count them."""
        return 0 if self.readonly else self._link.ask(self._clear, 0)

    def pin(self, key: bytes, *, pinned: bool = True) -> bool:
        """Keep an entry from being evicted, or no longer; tell whether there is one. Its ttl ends it all the same."""
        if self.readonly:
            return False
        command = self._index("pin", key, int(pinned), PINNED)
        return self._link.ask(lambda: self._batch([command])[0] == 1, otherwise=False)

    def lease(self, key: bytes) -> Lease | None:
        """Take the right to compute a key; None while another thread, process or host has it.

        Without a server, or readonly, everybody has it: then everybody computes.
        """
        return Alone() if self.readonly else self._link.ask(lambda: self._take(key), Alone())

    def close(self) -> None:
        """Let go of the connections. What is asked of it later opens them again."""
        self._link.close()

    # How it is asked.

    def _connect(self) -> Any:
        kind: Any = RedisCluster if self._cluster else redis.Redis
        more = {} if self._cluster else {"retry": Retry(NoBackoff(), 0)}
        return kind.from_url(
            self._url, socket_timeout=self._timeout, socket_connect_timeout=self._timeout, protocol=2, **more
        )

    def _batch(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send commands in one trip; an answer may be an error. Raises what ends the connection."""
        answers = self._send(commands)
        unknown = [at for at, answer in enumerate(answers) if isinstance(answer, errors.NoScriptError)]
        if unknown:
            # After a restart the server has forgotten the scripts; their text teaches it.
            again = self._send([("EVAL", SOURCES[commands[at][1]], *commands[at][2:]) for at in unknown])
            for at, answer in zip(unknown, again, strict=True):
                answers[at] = answer
        for answer in answers:
            if isinstance(answer, Exception):
                self._judge(answer)
        return answers

    def _send(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        if not commands:
            return []
        answers = self._send_once(commands)
        if not self._cluster and any(isinstance(answer, errors.MovedError) for answer in answers):
            self._cluster = True
            self._link.close()
            answers = self._send_once(commands)
        return answers

    def _send_once(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        with _translated():
            pipe = self._link.client.pipeline(transaction=False)
            for command in commands:
                pipe.execute_command(*command)
            return pipe.execute(raise_on_error=False)

    def _judge(self, error: Exception) -> None:
        """Raise what ends the connection; of the rest say what matters."""
        if isinstance(error, (errors.ConnectionError, errors.TimeoutError, OSError)):
            raise error
        text = str(error)
        for topic, message in _COMPLAINTS.items():
            if topic in f"{type(error).__name__} {text}":
                self._link.note(topic, f"{self!r} {message} ({text})")

    def _explain(self, error: Exception) -> str:
        hint = "results are computed and not shared until it answers again"
        if isinstance(error, (errors.AuthenticationError, errors.NoPermissionError)):
            hint = "write user and password into the URL: redis://user:password@host:6379/0"
        return f"{self!r} is away: {type(error).__name__}: {error}; {hint}"

    # Names.

    def _tag(self, shard: str) -> str:
        return f"{{memograd:{self._namespace}:{shard}}}"

    def _entry(self, key: bytes) -> str:
        name = key.hex()
        return f"{self._tag(name[:1])}:e:{name}"

    def _turn(self, key: bytes) -> str:
        name = key.hex()
        return f"{self._tag(name[:1])}:l:{name}"

    def _index(self, op: str, key: bytes, *args: object, new: str = "") -> tuple[Any, ...]:
        """Write a command to the index of a key's shard."""
        return self._shard(op, key.hex()[:1], key.hex(), *args, keys=[self._entry(key), *([new] if new else [])])

    def _shard(self, op: str, shard: str, *args: object, keys: Sequence[str] = ()) -> tuple[Any, ...]:
        tag = self._tag(shard)
        names = [f"{tag}:facts", f"{tag}:order", f"{tag}:expiring", *keys]
        return "EVALSHA", INDEX_SHA, len(names), *names, op, *args

    # How entries are read.

    def _read(self, keys: Sequence[bytes]) -> list[Entry | None]:
        reads = [("GETRANGE", self._entry(key), 0, FIRST - 1) for key in keys]
        answers = self._batch(reads if self.readonly else [*reads, *(self._index("touch", key) for key in keys)])
        found = [self._open(key, data) for key, data in zip(keys, answers, strict=False)]
        if not self.readonly:
            unknown = [
                self._index("adopt", key, entry.about.seconds, int(entry.about.pinned))
                for key, entry, touched in zip(keys, found, answers[len(keys) :], strict=True)
                if entry is not None and touched == 2
            ]
            self._batch(unknown)
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
        if not self.readonly and (head or isinstance(data, errors.ResponseError)):
            # Only while it still begins like this: another may have put a good one meanwhile.
            self._batch([self._index("discard", key, head)])
        return None

    def _rest(self, key: bytes, data: bytes) -> Buffer:
        total = length(data)
        if total <= len(data) or len(data) < FIRST:
            return data
        name = self._entry(key)
        there = self._batch([("STRLEN", name)])[0]
        if total > MAX_ENTRY or there != total:
            raise Damaged("of another length than it says")
        whole = bytearray(total)
        whole[: len(data)] = data
        for at in range(len(data), total, CHUNK):
            piece = self._batch([("GETRANGE", name, at, min(at + CHUNK, total) - 1)])[0]
            if not isinstance(piece, bytes) or len(piece) != min(CHUNK, total - at):
                raise Damaged("it was replaced while it was read")
            whole[at : at + len(piece)] = piece
        return whole

    def _page(self, shard: str, cursor: int) -> tuple[int, dict[bytes, bytes]]:
        (answer,) = self._batch([("HSCAN", f"{self._tag(shard)}:facts", cursor, "COUNT", 500)])
        return (0, {}) if isinstance(answer, Exception) else (int(answer[0]), answer[1])

    def _infos(self, shard: str, facts: dict[bytes, bytes]) -> list[Info]:
        names = {key: text for name, text in facts.items() if (key := _key(name, shard)) is not None}
        heads = self._batch([("GETRANGE", self._entry(key), 0, 4095) for key in names])
        infos = [self._info(key, text, head) for (key, text), head in zip(names.items(), heads, strict=True)]
        gone = [key for key, head in zip(names, heads, strict=True) if head == b""]
        if gone and not self.readonly:
            self._batch([self._index("touch", key) for key in gone])
        return [info for info in infos if info is not None]

    def _info(self, key: bytes, text: bytes, head: object) -> Info | None:
        try:
            if not isinstance(head, bytes) or not head:
                return None
            if about_ends(head) > len(head):
                head = cast("bytes", self._batch([("GETRANGE", self._entry(key), 0, about_ends(head) - 1)])[0])
            about = open_about(head)
            _, hits, used, _, _ = (float(number) for number in text.split(b" "))
            return None if expired(about) else Info(key, about, length(head), int(hits), used)
        except (Damaged, ValueError, OverflowError, TypeError):
            return None

    # How entries are written.

    def _write(self, entries: Sequence[tuple[bytes, Entry]]) -> int:
        """Send small entries in one trip, larger ones piece by piece."""
        taken = 0
        commands: list[tuple[Any, ...]] = []
        small = 0
        for key, given in entries:
            entry, px = self._timed(given)
            if px == 0:
                self._batch([self._index("delete", key)])
                continue
            pieces = seal(key, entry)
            nbytes = sum(memoryview(piece).nbytes for piece in pieces)
            if not self._fits(key, nbytes, entry.about):
                continue
            new = f"{self._tag(key.hex()[:1])}:new:{token_hex(8)}"
            about = entry.about
            put = self._index("put", key, _finite(about.seconds), int(about.pinned), px or 0, self._room.clock, new=new)
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
        return sum(answer == 1 for answer in self._batch(commands)[1::2])

    def _upload(self, new: str, pieces: Sequence[Buffer], put: tuple[Any, ...]) -> bool:
        """Send an entry piece by piece, and put it when all of it is there."""
        # All of the string at once: one that grows is copied again and again.
        whole = sum(memoryview(piece).nbytes for piece in pieces)
        answers = self._batch([("SET", new, b"", "EX", _ON_ITS_WAY), ("SETRANGE", new, whole - 1, b"\0")])
        at = 0
        for chunk in _chunks(pieces):
            if any(isinstance(answer, Exception) for answer in answers):
                self._batch([("UNLINK", new)])
                return False
            answers = self._batch([("SETRANGE", new, at, chunk)])
            at += chunk.nbytes
        return self._batch([put])[0] == 1

    def _timed(self, entry: Entry) -> tuple[Entry, int | None]:
        """Give an entry with when it expires, and in how many milliseconds: 0 for over, None for never."""
        from dataclasses import replace

        now = time.time()
        ends = [end for end in (entry.about.expires, None if self._ttl is None else now + self._ttl) if end is not None]
        if not ends or min(ends) == math.inf:
            return entry, None
        end = min(ends)
        about = entry.about if entry.about.expires == end else replace(entry.about, expires=end)
        # Nothing that was remembered today is wanted in a thousand years, and Redis counts no further.
        return Entry(about, entry.body), max(0, math.ceil(min(end - now, 3e10) * 1000))

    def _fits(self, key: bytes, nbytes: int, about: About) -> bool:
        """Make room for an entry, unless it is worth less than all that would have to go."""
        most = MAX_ENTRY if self.max_bytes is None else min(MAX_ENTRY, self.max_bytes)
        if nbytes > most:
            tell(Refuse(key, f"the result takes {nbytes:,} bytes, the store takes entries up to {most:,}"))
            return False
        if self.max_bytes is None:
            return True
        with self._room.lock:
            if not self._room.has(nbytes, self.max_bytes):
                total, clock, old = self._totals(key)
                self._room.learn(total, clock)
                self._room.total -= old
                rank = math.inf if about.pinned else priority(self._room.clock, 1, _finite(about.seconds), nbytes)
                if not self._evict(nbytes, rank, self.max_bytes):
                    return False
            self._room.total += nbytes
            return True

    def _evict(self, nbytes: int, rank: float, most: int) -> bool:
        room = self._room
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
                freed = self._batch([self._index("evict", key, room.clock)])[0]
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
        for shard, answer in zip(SHARDS, self._batch([self._shard("least", s, "", few) for s in SHARDS]), strict=True):
            if not isinstance(answer, list):
                continue
            flat = cast("list[bytes]", answer)
            pairs = [(_number(rank), _key(name, shard)) for name, rank in zip(flat[::2], flat[1::2], strict=False)]
            found += [(rank, key) for rank, key in pairs if key is not None]
            if len(pairs) == few:
                known_to = min(known_to, pairs[-1][0])
        return sorted(pair for pair in found if pair[0] <= known_to)

    def _advance(self) -> None:
        clock = self._room.clock
        self._batch([("HSET", f"{self._tag(shard)}:facts", "clock", clock) for shard in SHARDS])

    def _totals(self, key: bytes | None = None) -> tuple[int, float, int]:
        """Ask how many bytes there are, how far the clock is, and how many bytes a key has."""
        if self.readonly:
            answers = self._batch([("HGET", f"{self._tag(shard)}:facts", "nbytes") for shard in SHARDS])
            return sum(int(_number(answer)) for answer in answers), 0.0, 0
        name = "" if key is None else key.hex()
        answers = self._batch([self._shard("total", s, name if name[:1] == s else "") for s in SHARDS])
        rows = [[_number(part) for part in cast("list[object]", row)] for row in answers if isinstance(row, list)]
        return (
            int(sum(row[0] for row in rows)),
            max((row[1] for row in rows), default=0.0),
            int(sum(r[2] for r in rows)),
        )

    def _clear(self) -> int:
        plain = "".join(f"\\{char}" if char in "*?[]\\" else char for char in self._namespace)
        with _translated():
            names: list[bytes] = list(self._link.client.scan_iter(match=f"{{memograd:{plain}:?}}:*", count=1000))
        cleared = 0
        for at in range(0, len(names), 1000):
            page = names[at : at + 1000]
            mine = [name for name in page if b"}:l:" not in name]
            answers = self._batch([("UNLINK", name) for name in mine])
            cleared += sum(answer == 1 and b"}:e:" in name for name, answer in zip(mine, answers, strict=True))
        self._room.known = 0.0
        return cleared

    # Leases.

    def _take(self, key: bytes) -> Lease | None:
        holder, asked = new_holder(), time.monotonic()
        px = math.ceil(self._turns.ttl * 1000)
        (answer,) = self._batch([self._ask_turn("take", key, holder, px, "")])
        if isinstance(answer, bytes) and is_dead(answer.decode("ascii", "replace")):
            # In the place of the dead one only: of many who see it one is first.
            (answer,) = self._batch([self._ask_turn("take", key, holder, px, answer)])
        if answer == 1:
            return self._turns.add(key, holder, asked)
        return Alone() if isinstance(answer, Exception) else None

    def _ask_turn(self, op: str, key: bytes, holder: str, *args: object) -> tuple[Any, ...]:
        return "EVALSHA", TURNS_SHA, 1, self._turn(key), op, holder, *args

    def _renew(self, turns: Sequence[Turn]) -> Sequence[bool | None]:
        px = math.ceil(self._turns.ttl * 1000)
        commands = [self._ask_turn("renew", turn.key, turn.holder, px) for turn in turns]
        answers: list[Any] = self._link.ask(lambda: self._batch(commands), [None] * len(turns), aloud=False)
        return [bool(answer) if isinstance(answer, int) else None for answer in answers]

    def _free(self, turn: Turn) -> None:
        command = self._ask_turn("release", turn.key, turn.holder)
        self._link.ask(lambda: self._batch([command]), [])


class _Room:
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


_COMPLAINTS = {
    "OutOfMemory": "is full and takes no more: give the server `maxmemory-policy allkeys-lru`, or the store max_bytes=",
    "ReadOnly": "takes no entries, it is a replica: write the URL of the primary, or readonly=True",
    "NoPermission": "may not be used by this user: write `ACL SETUSER name ~{memograd:* +@all -@dangerous`",
    "MISCONF": "takes no entries since it cannot write its snapshots to disk: see the server's log",
}


@contextmanager
def _translated() -> Generator[None]:
    """Of whatever a client raises at what is no answer, make an error of its library."""
    try:
        yield
    except (errors.RedisError, OSError):
        raise
    except Exception as error:
        raise errors.ConnectionError(f"not the answer of a Redis ({type(error).__name__}: {error})") from error


def _chunks(pieces: Iterable[Buffer]) -> Iterator[memoryview]:
    for piece in pieces:
        view = memoryview(piece)
        for at in range(0, view.nbytes, CHUNK):
            yield view[at : at + CHUNK]


def _check_url(url: object) -> None:
    """Say now that a URL is none, and not its password."""
    shown = repr(hidden(url) if isinstance(url, str) else url)
    expected = 'expected "redis://host:6379/0", "rediss://…" or "unix:///path"'
    said = f'Redis() got url={shown}, {expected}; write Redis("redis://localhost:6379/0")'
    if not isinstance(url, str):
        raise TypeError(said)
    try:
        redis.ConnectionPool.from_url(url)
    except ValueError as error:
        raise ValueError(said) from (error if hidden(url) == url else None)


def _key(name: bytes, shard: str) -> bytes | None:
    """Read a key's name in the index of a shard; None for others' names."""
    try:
        key = bytes.fromhex(name.decode("ascii"))
    except ValueError:
        return None
    return key if key.hex().encode() == name and name[:1] == shard.encode() else None


def _number(text: object) -> float:
    try:
        number = float(text) if isinstance(text, (bytes, str, int, float)) else 0.0
    except ValueError:
        return 0.0
    return number if math.isfinite(number) else 0.0


def _finite(seconds: float) -> float:
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0
