"""`features(x, index=idx)`: calls whose samples have an index in a dataset."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from memograd._rows._index import ByIndex, Dataset, Home, Moment
from memograd.store._datasets import remove

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from memograd._rows._frozen import FrozenPart, FrozenRows
    from memograd._rows._receipt import Receipt, RowsStats
    from memograd._rows._rows import Rows
    from memograd._rows._seam import Places
    from memograd._rows._subject import Wrapped

    # Puts places in front of others: of a function, with the digest of what all rows have in common.
    Front = Callable[[Wrapped, bytes | None, Places], Places]

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


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


class IndexedRows:
    """Rows of calls that may say the indices of their samples. Made by `memo.rows(f, dataset=..., count=...)`.

    Args:
        make: makes the rows, given what puts places by index in front of others.
        dataset: the samples.
        root: the directory below which arrays are, and how many bytes they may take; None for memory.
        dim: where results have their rows.
        max_bytes: the most that arrays in memory may have.
    """

    def __init__(
        self,
        make: Callable[[Front], Rows | FrozenRows],
        dataset: Dataset,
        root: tuple[Path, int] | None,
        dim: int,
        max_bytes: int,
    ) -> None:
        self.dataset, self._dim, self._max_bytes = dataset, dim, max_bytes
        self._root = root
        self._moment = Moment()
        self.rows = make(self._places)

    def _places(self, wrapped: Wrapped, context: bytes | None, inner: Places) -> Places:
        """Put places by index in front of others; where a key is one of this process alone, in memory."""
        size = len(wrapped.hash(b""))
        root, most = (None, self._max_bytes) if context is None or self._root is None else self._root
        home = Home(root, self.dataset, context or bytes(size), self._dim, most)
        return ByIndex(inner, home, self._moment, wrapped.voice)

    def answer(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Answer a call: give what the function gives."""
        at, rest = self._split(args, kwargs)
        with self._moment.of(at):
            return self.rows.answer(args, rest)

    def remember(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Receipt | None:
        """Compute and keep the rows of a batch that are not there."""
        at, rest = self._split(args, kwargs)
        with self._moment.of(at):
            return self.rows.remember(args, rest)

    def forget(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
        """Forget the rows of a batch, for the function as it is now; count those that were there."""
        at, rest = self._split(args, kwargs)
        with self._moment.of(at):
            return self.rows.forget(args, rest)

    def _split(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        rest = dict(kwargs)
        given = rest.pop("index", None)
        if given is None:
            return None, rest
        at, lengths = self.indices(given), set(_lengths([*args, *rest.values()], self._dim))
        if lengths and len(at) not in lengths:
            rows = ", ".join(map(str, sorted(lengths)))
            raise ValueError(f"index got {len(at)} indices for {rows} rows, expected one for each row")
        return at, rest

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
        if self._root is not None:
            remove(self._root[0] / self.dataset.name)


def _lengths(values: Sequence[Any], dim: int) -> Iterator[int]:
    """Go through how many rows tensors, arrays and lists have."""
    for value in values:
        shape: Any = getattr(value, "shape", None)
        if isinstance(value, dict):
            yield from _lengths(list(cast("dict[Any, Any]", value).values()), dim)
        elif shape is not None and len(shape):
            yield int(shape[dim if dim < len(shape) else 0])
        elif isinstance(value, (list, tuple)):
            inner = cast("list[Any]", value)
            yield from _lengths(inner, dim) if any(hasattr(each, "shape") for each in inner) else (len(inner),)
