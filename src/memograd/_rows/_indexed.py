"""`features(x, index=idx)`: calls whose samples have an index in a dataset."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from memograd._rows._index import ByIndex, Home, Moment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from memograd._rows._frozen import FrozenPart, FrozenRows
    from memograd._rows._receipt import Receipt, RowsStats
    from memograd._rows._rows import Rows
    from memograd._rows._seam import Places
    from memograd._rows._subject import Wrapped
    from memograd.store import Store

    # Puts places in front of others: of a function, with the digest of what all rows have in common.
    Front = Callable[[Wrapped, bytes | None, Places], Places]

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


class Dataset(NamedTuple):
    """The samples that rows belong to.

    Attributes:
        name: of the dataset, which is a path below the store's.
        size: how many samples there are.
    """

    name: str
    size: int


def dataset_of(name: Any, count: Any) -> Dataset | None:
    """Read what was asked for. Raises `TypeError` and `ValueError`, saying what to write."""
    if name is None:
        if count is not None:
            raise TypeError(f'memo.rows() got count={count!r} without a dataset; write dataset="mnist/train"')
        return None
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"memo.rows() got dataset={name!r}, expected a name of letters, digits, '.', '_', '-' and '/'; write "
            'dataset="mnist/train", count=len(train)'
        )
    if type(count) is not int or count < 1:
        raise ValueError(
            f"memo.rows() got dataset={name!r} with count={count!r}, expected how many samples it has; write "
            "count=len(train)"
        )
    return Dataset(name, count)


def folder_of(store: Store | None) -> Path | None:
    """Give the folder of a store below which arrays may be; None where it has none."""
    for each in (store, *getattr(store, "stores", ())):
        path = getattr(each, "path", None)
        if path is not None:
            return path / "arrays"
    return None


class IndexedRows:
    """Rows of calls that may say the indices of their samples. Made by `memo.rows(f, dataset=..., count=...)`.

    Args:
        make: makes the rows, given what puts places by index in front of others.
        dataset: the samples.
        folder: where arrays are; None for memory.
        dim: where results have their rows.
        max_bytes: the most that arrays in memory may have.
    """

    def __init__(
        self,
        make: Callable[[Front], Rows | FrozenRows],
        dataset: Dataset,
        folder: Path | None,
        dim: int,
        max_bytes: int,
    ) -> None:
        self.dataset, self._dim, self._max_bytes = dataset, dim, max_bytes
        self._folder = None if folder is None else folder / dataset.name
        self._moment = Moment()
        self.rows = make(self._places)

    def _places(self, wrapped: Wrapped, context: bytes | None, inner: Places) -> Places:
        """Put places by index in front of others; where a key is one of this process alone, in memory."""
        folder = None if context is None or self._folder is None else self._folder / context.hex()
        size = len(wrapped.hash(b""))
        home = Home(folder, self.dataset.size, context or bytes(size), self._dim, self._max_bytes)
        return ByIndex(inner, home, self._moment, wrapped.voice)

    def answer(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Answer a call: give what the function gives."""
        at, rest = self._split(kwargs)
        with self._moment.of(at):
            return self.rows.answer(args, rest)

    def remember(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Receipt | None:
        """Compute and keep the rows of a batch that are not there."""
        at, rest = self._split(kwargs)
        with self._moment.of(at):
            return self.rows.remember(args, rest)

    def forget(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
        """Forget the rows of a batch, for the function as it is now; count those that were there."""
        at, rest = self._split(kwargs)
        with self._moment.of(at):
            return self.rows.forget(args, rest)

    def _split(self, kwargs: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        rest = dict(kwargs)
        given = rest.pop("index", None)
        return None if given is None else self.indices(given), rest

    def indices(self, given: Any) -> Any:
        """Read the indices of a batch. Raises `TypeError` and `IndexError`, saying what was expected."""
        at = np.asarray(given.cpu() if hasattr(given, "cpu") else given)
        if at.ndim != 1 or (at.size and at.dtype.kind not in "iu"):
            raise TypeError(f"index got {at.dtype} of shape {at.shape}, expected an integer for each row of the batch")
        at = at.astype(np.int64)
        wrong = at[(at < 0) | (at >= self.dataset.size)]
        if wrong.size:
            raise IndexError(
                f"index got {wrong[0]}, expected 0 to {self.dataset.size - 1} as of dataset {self.dataset.name!r}; "
                "write count=len(dataset)"
            )
        return at

    @property
    def receipt(self) -> Receipt | None:
        """What the last call did."""
        receipt, changed = self.rows.receipt, self._moment.changed
        if receipt is None or not changed:
            return receipt
        return replace(receipt, reason=f"{receipt.reason}; {changed} samples are others than were known by their index")

    @property
    def frozen_part(self) -> FrozenPart | None:
        """What of a partly frozen model the last call remembered."""
        return getattr(self.rows, "frozen_part", None)

    def stats(self) -> RowsStats:
        """Count what all calls did."""
        return self.rows.stats()

    def cache_clear(self) -> None:
        """Forget every row and begin to count anew."""
        self.rows.cache_clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
