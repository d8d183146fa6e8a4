"""States of a function whose rows are held: those that were asked for last, within so many bytes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING

from memograd._rows._table import Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from memograd._key import Key
    from memograd._rows._probe import Verdict
    from memograd._rows._seam import Places
    from memograd._rows._structure import Parsed
    from memograd._rows._subject import Wrapped
    from memograd._rows._verdicts import Verdicts

_MOST = 8


@dataclass
class Context:
    """One state of the function and one kind of row.

    Attributes:
        key: what the keys of all its rows have in common.
        table: those in memory.
        places: where results are, the table or what it is in front of.
        verdict: what was found out of the function in this state; None before something had to be computed.
    """

    key: Key
    table: Table
    places: Places
    verdict: Verdict | None = None

    def judged(self, verdicts: Verdicts, batch: Parsed) -> Verdict:
        """Find out of the function what is not known yet. Raises `Unfit`."""
        self.verdict = verdicts.of(batch, self.places.anchor, self.key)
        return self.verdict


class Contexts:
    """The contexts of one function."""

    def __init__(
        self, wrapped: Wrapped, max_bytes: int, behind: Callable[[Wrapped, Key, Table], Places] | None
    ) -> None:
        self._wrapped, self._max_bytes, self._behind = wrapped, max_bytes, behind
        self._lock = RLock()
        self._held: OrderedDict[Key, Context] = OrderedDict()

    def of(self, key: Key) -> Context:
        """Give the context of a key; a new one takes the place of those that were not asked for for the longest."""
        with self._lock:
            found = self._held.get(key)
            if found is None:
                found = self._held[key] = self._made(key)
            self._held.move_to_end(key)
            self._make_room(found)
            return found

    def _made(self, key: Key) -> Context:
        table = Table(self._max_bytes)
        return Context(key, table, table if self._behind is None else self._behind(self._wrapped, key, table))

    def _make_room(self, asked: Context) -> None:
        """Leave half of the bytes at least to the context that is asked for."""
        others = self.nbytes - asked.table.nbytes
        while len(self._held) > 1 and (len(self._held) > _MOST or others > self._max_bytes // 2):
            _, gone = self._held.popitem(last=False)
            others -= gone.table.nbytes
        asked.table.max_bytes = self._max_bytes - others

    @property
    def held(self) -> int:
        """Rows in memory."""
        with self._lock:
            return sum(len(context.table) for context in self._held.values())

    @property
    def nbytes(self) -> int:
        """Bytes that they take."""
        with self._lock:
            return sum(context.table.nbytes for context in self._held.values())

    def clear(self) -> None:
        """Forget all rows, of states that are not held, too, as far as places can."""
        with self._lock:
            for context in self._held.values():
                context.places.clear()
            self._held.clear()
