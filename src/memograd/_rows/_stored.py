"""Rows in a store that outlives the process, behind those in memory: an entry for each row, asked for many at once.

An entry is the result of a batch of one row. The name of each begins with that of the class of sizes that it was
computed in (`_classes`).
"""

from __future__ import annotations

import time
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from memograd._rows._seam import Found
from memograd._rows._structure import Parsed, Unfit, parse
from memograd._worth import Worth

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from memograd._rows._subject import Wrapped
    from memograd._rows._table import Table
    from memograd.store import Entry, Store


class Stored:
    """The rows of one context in a store.

    Args:
        table: those in memory.
        store: where they are.
        context: the digest of what all their keys have in common.
        wrapped: the function.
        dim: where results have their rows.
        always: ask the store where computing is quicker, too.

    Attributes:
        frame: how results are put together; None before the first.
        anchor: of the class of sizes that rows were computed in; None where there are none.
    """

    def __init__(
        self,
        table: Table,
        store: Store,
        context: bytes,
        wrapped: Wrapped,
        dim: int,
        *,
        always: bool,
    ) -> None:
        self._table, self._store, self._context, self._dim = table, store, context, dim
        self._hash, self._name, self._voice = wrapped.hash, wrapped.full_name, wrapped.voice
        self._always = always
        self.lasting = store.lasting
        self.worth = Worth()
        self.frame: Parsed | None = None
        self.anchor: int | None = None

    def __len__(self) -> int:
        return len(self._table)

    @property
    def nbytes(self) -> int:
        """Bytes that the rows in memory take."""
        return self._table.nbytes

    def settle(self, anchor: int) -> None:
        """Say in which class rows are computed."""
        self._table.settle(anchor)
        self.anchor = anchor

    def find(self, names: Sequence[bytes]) -> Found:
        """Look rows up in memory, then in the store; those are in memory from then on."""
        found = self._table.find(names)
        if self.anchor is None or found.here.all() or not (self._always or self.worth.looks()):
            return found
        missing = list(dict.fromkeys(name for name, here in zip(names, found.here, strict=True) if not here))
        brought, leaves = self._brought(missing)
        if not brought:
            return found
        if self._table.put(brought, leaves) == len(brought):
            return self._table.find(names)
        return _with(found, names, brought, leaves)

    def put(self, names: Sequence[bytes], leaves: Sequence[Tensor], seconds: float = 0.0) -> int:
        """Keep rows in memory and in the store; count those that memory took."""
        taken = self._table.put(names, leaves)
        self.worth.note_computed(seconds)
        if self._always or self.worth.takes(seconds):
            rows = [self._entry(self._row(leaves, k), seconds, f"row {name.hex()}") for k, name in enumerate(names)]
            pairs = zip(map(self._key, names), rows, strict=True)
            self._tried("put into", lambda: self._store.put_many([(key, row) for key, row in pairs if row]))
        return taken

    def drop(self, name: bytes) -> bool:
        """Forget a row; tell whether it was there."""
        here = self._table.drop(name)
        return bool(self._tried("take out of", lambda: self._store.delete(self._key(name)))) or here

    def clear(self) -> None:
        """Forget the rows in memory, and those of this function in the store, in all its states."""
        self._table.clear()
        self._tried("clear", self._cleared)
        self.anchor = None

    def _cleared(self) -> int:
        return self._store.delete_many([info.key for info in self._store.infos() if info.about.function == self._name])

    def _key(self, name: bytes) -> bytes:
        return self._hash(b"row %d " % (self.anchor or 0) + self._context + name)

    def _brought(self, names: Sequence[bytes]) -> tuple[list[bytes], list[Tensor]]:
        """Read rows from the store."""
        began = perf_counter()
        keys = [self._key(name) for name in names]
        entries: list[Entry | None] = self._tried("look into", lambda: self._store.get_many(keys)) or []
        rows: list[Parsed] = []
        brought: list[bytes] = []
        for name, entry in zip(names, entries, strict=False):
            row = None if entry is None else self._as_row(self._read(entry))
            if row is not None:
                rows.append(row)
                brought.append(name)
        self.worth.note_read((perf_counter() - began) / max(len(names), 1))
        columns = zip(*(row.columns for row in rows), strict=True)
        return brought, [torch.cat([_tensor(column.data) for column in leaves]) for leaves in columns]

    def _as_row(self, value: Any) -> Parsed | None:
        """Take a batch of one row apart; None for what is none like the others."""
        try:
            row = parse(value, self._dim)
            if row.size != 1 or not all(isinstance(column.data, Tensor) for column in row.columns):
                return None
        except Unfit:
            return None
        if self.frame is None:
            self.frame = row.frame
        kinds = [[column.spec for column in one.columns] for one in (row, self.frame)]
        return row if kinds[0] == kinds[1] and row.outline == self.frame.outline else None

    def _row(self, leaves: Sequence[Tensor], k: int) -> Any:
        frame = self.frame
        assert frame is not None
        pairs = zip(frame.columns, leaves, strict=True)
        return frame.value([column._replace(data=leaf[k : k + 1].clone()) for column, leaf in pairs])

    def _entry(self, value: Any, seconds: float, text: str) -> Any:
        from memograd.codec import Unencodable, encode
        from memograd.store._base import About, Entry

        try:
            return Entry(About(self._name, f"{self._name}: {text}", {}, seconds, time.time()), encode(value))
        except Unencodable as error:
            self._voice.refuse(self._voice.face, f"{self._name}() is remembered in memory alone: {error}", once="far")
            return None

    def _read(self, entry: Entry) -> Any:
        from memograd.codec import Unreadable, decode

        try:
            (body,) = entry.body
            return decode(body, own=True)
        except (Unreadable, ValueError, TypeError) as error:
            self._voice.tell(self._voice.face, f"{self._name}(): an entry cannot be read: {error}")
            return None

    def _tried(self, doing: str, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except Exception as error:  # noqa: BLE001 - whatever a store raises costs a computation
            reason = f"{self._name}(): could not {doing} {self._store!r}: {error!r}"
            self._voice.refuse(self._voice.face, reason, once=f"far {doing}")
            return None


def _tensor(data: Any) -> Tensor:
    assert isinstance(data, Tensor)
    return data


def _with(found: Found, names: Sequence[bytes], brought: Sequence[bytes], leaves: Sequence[Tensor]) -> Found:
    """Add rows for which memory has no room to those that were found."""
    place = {name: k for k, name in enumerate(brought)}
    at = np.fromiter((place.get(name, -1) for name in names), np.int64, len(names))
    here = found.here | (at >= 0)

    def gather() -> list[Tensor]:
        held = torch.from_numpy(np.flatnonzero(found.here[here]))
        others = torch.from_numpy(np.flatnonzero(~found.here[here]))
        new = torch.from_numpy(at[here][~found.here[here]])
        made = [leaf.new_empty((int(here.sum()), *leaf.shape[1:])) for leaf in leaves]
        old = found.gather() if found.here.any() else [leaf[:0] for leaf in leaves]
        for whole, one, leaf in zip(made, old, leaves, strict=True):
            whole[held.to(leaf.device)] = one
            whole[others.to(leaf.device)] = leaf[new.to(leaf.device)]
        return made

    return Found(here, gather)
