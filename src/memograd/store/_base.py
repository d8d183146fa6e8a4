"""The seam: what every store does, and what it holds. A store knows places; of identity and of values it knows nothing.

A key is the bytes of a digest. An entry is the bytes of an encoded value with facts about it, and whoever reads it
trusts neither: a store may be full, torn, gone, slow or hostile, and each of these costs a computation at most.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

from memograd.store._fields import greatest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType

    from typing_extensions import Self

Buffer: TypeAlias = "bytes | bytearray | memoryview"


@dataclass(frozen=True, slots=True)
class About:
    """Facts about an entry, for people and for eviction; nothing of it decides what a call gives.

    Attributes:
        function: the qualified name of the function, "" for what belongs to none.
        text: how the call looks, "embed(x=<Tensor (32, 64)>)".
        parts: what each part of the key is, by name, as text: to explain a miss by the nearest entry.
        seconds: what it took to compute; of a chained key, from its parent on.
        created: seconds since the epoch.
        expires: seconds since the epoch, None for never.
        parent: the key that a chained key continues, None for others.
        tags: words of the user's.
        pinned: not to be evicted.
    """

    function: str = ""
    text: str = ""
    parts: dict[str, str] = field(default_factory=dict[str, str])
    seconds: float = 0.0
    created: float = 0.0
    expires: float | None = None
    parent: bytes | None = None
    tags: tuple[str, ...] = ()
    pinned: bool = False


class Entry:
    """An encoded value, and facts about it. It does not change.

    Args:
        about: the facts, or what gives them: it is called when somebody asks for them, once.
        body: the bytes.
    """

    __slots__ = ("_about", "_body")

    def __init__(self, about: About | Callable[[], About], body: Sequence[Buffer]) -> None:
        self._about = about
        self._body = body

    @property
    def about(self) -> About:
        """The facts."""
        if not isinstance(self._about, About):
            self._about = self._about()
        return self._about

    @property
    def body(self) -> Sequence[Buffer]:
        """The bytes, in as many pieces as they were given in.

        Read back it is one piece, which may be mapped memory that nobody else writes to.
        """
        return self._body

    @property
    def nbytes(self) -> int:
        """Count the bytes of the body."""
        body = self._body
        if body.__class__ is list and len(body) == 1 and type(body[0]) is bytes:  # the usual
            return len(body[0])
        return sum(memoryview(piece).nbytes for piece in body)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Entry):
            return NotImplemented
        return (self.about, self._body) == (other.about, other._body)

    def __repr__(self) -> str:
        return f"Entry(about={self.about!r}, body={self._body!r})"


@dataclass(frozen=True, slots=True)
class Info:
    """One entry as it stands in a store, without its body.

    Attributes:
        key: its key.
        about: the facts.
        nbytes: what it takes in the store.
        hits: how often it was read.
        used: when it was last read, or put: seconds since the epoch.
    """

    key: bytes
    about: About
    nbytes: int
    hits: int = 0
    used: float = 0.0

    @property
    def saved(self) -> float:
        """Seconds of computing that its reads have saved."""
        return self.hits * self.about.seconds


class Lease(ABC):
    """The right to compute the value of one key, while others wait. To lose it costs a computation, no more."""

    @property
    @abstractmethod
    def held(self) -> bool:
        """Tell whether it is still ours."""

    @abstractmethod
    def release(self) -> None:
        """Give it back; a second time it does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class Store(ABC):
    """A mapping from keys to entries. All methods may be called from any thread, and after a fork.

    What is damaged, expired or of a format that is not known is not there. A method may raise `OSError` and what its
    library raises; whoever remembers calls with it then computes, and says so once.

    Attributes:
        lasting: what it holds outlives the process.
        shared: others than this user may write to it: keys are digests that nobody can choose.
        readonly: it takes nothing.
        maps: large bodies are files mapped into memory, anew at each `get`, which costs no copy.
    """

    _arguments: tuple[tuple[Any, ...], dict[str, Any]]
    lasting: bool = True
    shared: bool = False
    readonly: bool = False
    maps: bool = False

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Note what it is made with: so it is pickled, and what it holds in memory does not travel."""
        made = super().__new__(cls)
        made._arguments = args, kwargs
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (type(self), *self._arguments)

    @abstractmethod
    def get(self, key: bytes) -> Entry | None:
        """Give the entry of a key, None if there is none, and count that as a use."""

    @abstractmethod
    def put(self, key: bytes, entry: Entry) -> bool:
        """Put an entry in the place of any other of its key, and make room; tell whether it was taken."""

    @abstractmethod
    def delete(self, key: bytes) -> bool:
        """Take an entry out; tell whether there was one."""

    @abstractmethod
    def contains(self, key: bytes) -> bool:
        """Tell whether there is an entry, without counting that as a use."""

    @abstractmethod
    def infos(self) -> Iterator[Info]:
        """Go through all entries, in any order. Entries that come or go meanwhile may be missed."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Count the bytes that the entries take."""

    @abstractmethod
    def lease(self, key: bytes) -> Lease | None:
        """Take the right to compute a key; None while another thread, process or host has it."""

    @abstractmethod
    def pin(self, key: bytes, *, pinned: bool = True) -> bool:
        """Keep an entry from being evicted, or no longer; tell whether there is one."""

    def get_many(self, keys: Sequence[bytes]) -> list[Entry | None]:
        """Give the entries of many keys."""
        return [self.get(key) for key in keys]

    def put_many(self, entries: Iterable[tuple[bytes, Entry]]) -> int:
        """Put many entries; count those that were taken."""
        return sum(self.put(key, entry) for key, entry in entries)

    def delete_many(self, keys: Iterable[bytes]) -> int:
        """Take many entries out; count those that were there."""
        return sum(self.delete(key) for key in keys)

    def scan(self, *, sort: str = "", limit: int | None = None) -> Iterator[Info]:
        """Go through entries.

        Args:
            sort: "saved" or "used" or "nbytes" or "hits" or "seconds" or "created": the greatest first; "" for any.
            limit: at most so many.
        """
        yield from greatest(self.infos(), sort, limit) if sort else islice(self.infos(), limit)

    def count(self) -> int:
        """Count the entries."""
        return sum(1 for _ in self.infos())

    def clear(self) -> int:
        """Take every entry out; count them."""
        return self.delete_many([info.key for info in self.infos()])

    def close(self) -> None:  # noqa: B027 - not every store holds any
        """Let go of files and connections. What is asked of it later opens them again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _made(kind: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return kind(*args, **kwargs)
