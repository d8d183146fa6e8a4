"""The server as commands see it: names of a namespace's keys, and many commands in one trip."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import redis
from redis import exceptions as errors
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry

from memograd.store._open import hidden
from memograd.store._redis._link import Link
from memograd.store._redis._lua import INDEX_SHA, SOURCES

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

SHARDS = "0123456789abcdef"
# So much is sent, or asked for, at a time.
CHUNK = 4 << 20

_COMPLAINTS = {
    "OutOfMemory": "is full and takes no more: give the server `maxmemory-policy allkeys-lru`, or the store max_bytes=",
    "ReadOnly": "takes no entries, it is a replica: write the URL of the primary, or readonly=True",
    "NoPermission": "may not be used by this user: write `ACL SETUSER name ~{memograd:* +@all -@dangerous`",
    "MISCONF": "takes no entries since it cannot write its snapshots to disk: see the server's log",
}


class Server:
    """One server, or a cluster of them, and the keys of one namespace in it.

    Args:
        url: where it is.
        namespace: whose keys.
        timeout: seconds to wait for an answer.

    Attributes:
        url, namespace: as given.
        link: the connection.
        shown: the store, as messages have it.

    Raises:
        TypeError, ValueError: the URL is none.
    """

    def __init__(self, url: str, namespace: str, timeout: float) -> None:
        _check_url(url)
        self.url, self.namespace, self._timeout = url, namespace, timeout
        self._cluster = False
        self.shown = f"<Redis: {hidden(url)}, namespace {namespace!r}>"
        self.link = Link(self._connect, self._explain, (errors.RedisError, OSError))

    def _connect(self) -> Any:
        kind: Any = RedisCluster if self._cluster else redis.Redis
        more = {} if self._cluster else {"retry": Retry(NoBackoff(), 0)}
        return kind.from_url(
            self.url, socket_timeout=self._timeout, socket_connect_timeout=self._timeout, protocol=2, **more
        )

    def batch(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
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
            self.link.close()
            answers = self._send_once(commands)
        return answers

    def _send_once(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        with translated():
            pipe = self.link.client.pipeline(transaction=False)
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
                self.link.note(topic, f"{self.shown} {message} ({text})")

    def _explain(self, error: Exception) -> str:
        hint = "results are computed and not shared until it answers again"
        if isinstance(error, (errors.AuthenticationError, errors.NoPermissionError)):
            hint = "write user and password into the URL: redis://user:password@host:6379/0"
        return f"{self.shown} is away: {type(error).__name__}: {error}; {hint}"

    def tag(self, shard: str) -> str:
        """Give what the names of a shard's keys begin with."""
        return f"{{memograd:{self.namespace}:{shard}}}"

    def entry(self, key: bytes) -> str:
        """Name the string of an entry."""
        name = key.hex()
        return f"{self.tag(name[:1])}:e:{name}"

    def turn(self, key: bytes) -> str:
        """Name what says who computes a key."""
        name = key.hex()
        return f"{self.tag(name[:1])}:l:{name}"

    def index(self, op: str, key: bytes, *args: object, new: str = "") -> tuple[Any, ...]:
        """Write a command to the index of a key's shard."""
        return self.shard(op, key.hex()[:1], key.hex(), *args, keys=[self.entry(key), *([new] if new else [])])

    def shard(self, op: str, shard: str, *args: object, keys: Sequence[str] = ()) -> tuple[Any, ...]:
        """Write a command to the index of a shard."""
        tag = self.tag(shard)
        names = [f"{tag}:facts", f"{tag}:order", f"{tag}:expiring", *keys]
        return "EVALSHA", INDEX_SHA, len(names), *names, op, *args


@contextmanager
def translated() -> Generator[None]:
    """Of whatever a client raises at what is no answer, make an error of its library."""
    try:
        yield
    except (errors.RedisError, OSError):
        raise
    except Exception as error:
        raise errors.ConnectionError(f"not the answer of a Redis ({type(error).__name__}: {error})") from error


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


def key_in(name: bytes, shard: str) -> bytes | None:
    """Read a key's name in the index of a shard; None for others' names."""
    try:
        key = bytes.fromhex(name.decode("ascii"))
    except ValueError:
        return None
    return key if key.hex().encode() == name and name[:1] == shard.encode() else None


def number(text: object) -> float:
    """Read a number; 0 for what is none."""
    try:
        found = float(text) if isinstance(text, (bytes, str, int, float)) else 0.0
    except ValueError:
        return 0.0
    return found if math.isfinite(found) else 0.0
