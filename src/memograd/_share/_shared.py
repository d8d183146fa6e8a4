"""Rows of a ragged batch of which equal prefixes are held once.

A plain program carries a value for each position (row, t) of a batch. A ``Shared`` carries one for each *node* of
the trie of prefixes, and knows how often each stands in the batch. Since a node's value is one row, autograd is exact
by construction: what comes back from all positions is summed onto the node before it is taken further.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from memograd._share._arrays import off, on
from memograd._share._checks import checked_integers, described
from memograd._share._sums import spread
from memograd._share._trie import Rows, Trie, build, chains

if TYPE_CHECKING:
    from collections.abc import Callable

    from memograd._share._trie import Ints


class Shared:
    """Values of the positions of a batch, held once per distinct prefix.

    Make one from token ids with ``Shared.prefixes``, or take the result of ``memo.scan(rnn)(x, shared=True)``.

    >>> import torch
    >>> ids = torch.tensor([[1, 2, 3], [1, 2, 4], [1, 5, 0]])
    >>> s = Shared.prefixes(ids, lengths=torch.tensor([3, 3, 2]))
    >>> len(s), s.steps
    (5, 8)
    >>> s.multiplicity.tolist()
    [3, 2, 1, 1, 1]
    >>> s.map(lambda v: 10 * v).dense()
    tensor([[10, 20, 30],
            [10, 20, 40],
            [10, 50,  0]])

    Attributes:
        distinct: (k, ...) the distinct values.
        source: (nodes,) the distinct value of each node; None where node k has value k.
        trie: the prefixes.
        batch_first: whether the plain layout is (B, T, ...) or (T, B, ...).
    """

    def __init__(self, distinct: Tensor, trie: Trie, source: Tensor | None = None, batch_first: bool = True) -> None:
        self.distinct, self.trie, self.source, self.batch_first = distinct, trie, source, batch_first

    @staticmethod
    def prefixes(ids: Tensor, lengths: Tensor | None = None, batch_first: bool = True) -> Shared:
        """Share the common prefixes of rows of token ids.

        Args:
            ids: (B, T) integers, or (T, B) where not ``batch_first``; what stands after a row's end is not read.
            lengths: (B,) steps of each row, T by default.
            batch_first: the order of the first two dimensions, here and in ``dense()``.

        Returns:
            The ids, one per distinct id: ``.map(embedding)`` looks every token up once.

        Raises:
            TypeError: ids or lengths are not integers.
            ValueError: their shapes do not fit, or a length exceeds T.
        """
        table = _checked_ids(ids, batch_first)
        rows = Rows.of(_checked_lengths(lengths, table))
        keys = table[rows.rows, rows.times]
        distinct, numbers = _distinct(keys)
        trie = build(numbers, rows)
        source = on(ids.device, numbers[trie.first])
        return Shared(on(ids.device, distinct).to(ids.dtype), trie, source, batch_first)

    def __len__(self) -> int:
        return len(self.trie)

    def __repr__(self) -> str:
        shape = tuple(self.distinct.shape[1:])
        return f"Shared({len(self)} nodes for {self.steps} steps of {len(self.trie.rows)} rows, values {shape})"

    @property
    def steps(self) -> int:
        """Positions in the plain layout."""
        return self.trie.rows.steps

    @property
    def ratio(self) -> float:
        """Positions per node: the ideal speed-up of the sharing."""
        return self.trie.ratio

    @property
    def values(self) -> Tensor:
        """(nodes, ...) the value of every node."""
        return self.distinct if self.source is None else self.distinct.index_select(0, self.source)

    @property
    def multiplicity(self) -> Tensor:
        """(nodes,) positions that each node stands for."""
        return self._index(self.trie.multiplicity)

    @property
    def lengths(self) -> Tensor:
        """(B,) steps of each row."""
        return self._index(self.trie.rows.lengths)

    def to(self, device: torch.device | str) -> Shared:
        """Move the values to a device; build the trie where the data is loaded, then move it."""
        source = None if self.source is None else self.source.to(device)
        return Shared(self.distinct.to(device), self.trie, source, self.batch_first)

    def map(self, f: Callable[[Tensor], Tensor]) -> Shared:
        """Apply a function of rows once per distinct row.

        Args:
            f: maps (k, ...) to (k, ...), each row by itself: an embedding, a linear head, a norm of the last
                dimension. A function that draws (dropout) draws once for all positions of a node.

        Raises:
            ValueError: f does not give a row for each row.
        """
        out = _checked_rows(f(self.distinct), len(self.distinct))
        return Shared(out, self.trie, self.source, self.batch_first)

    def apart(self) -> Shared:
        """Give the same rows with nothing shared: a value for every position, for what draws for each by itself."""
        return Shared(self._positions(), chains(self.trie.rows), None, self.batch_first)

    def dense(self, padding_value: float = 0.0, total_length: int | None = None) -> Tensor:
        """Give the plain layout: (B, T, ...), or (T, B, ...) where not ``batch_first``.

        Args:
            padding_value: stands after the end of a row.
            total_length: T, the longest row by default.

        Raises:
            ValueError: a row is longer than ``total_length``.
        """
        rows = self.trie.rows
        horizon = rows.horizon if total_length is None else total_length
        if horizon < rows.horizon:
            raise ValueError(
                f"Shared.dense: got total_length={horizon}; expected at least {rows.horizon}, the longest row."
            )
        data = self._positions()
        shape = (horizon, len(rows), *data.shape[1:])
        if rows.steps == shape[0] * shape[1]:
            table = data.index_select(0, self._index(_time_first(rows))) if not _in_order(rows) else data
        else:
            place = self._index(rows.times * len(rows) + rows.rows)
            table = data.new_full((shape[0] * shape[1], *shape[2:]), padding_value).index_copy(0, place, data)
        table = table.view(shape)
        return table.transpose(0, 1) if self.batch_first else table

    def packed(self) -> PackedSequence:
        """Give the plain ``PackedSequence``, as ``pack_padded_sequence(..., enforce_sorted=False)`` makes it."""
        rows = self.trie.rows
        if len(rows) and not rows.lengths.min():
            raise ValueError(
                "Shared.packed: got a row of length 0; a PackedSequence holds none. Use .dense(), or drop the row."
            )
        order = self._index(rows.order)
        return PackedSequence(self._positions(), torch.from_numpy(rows.widths), order, self._index(rows.rank))

    def cross_entropy(self, targets: Tensor, ignore_index: int = -100, reduction: str = "mean") -> Tensor:
        """Give the cross-entropy of logits, once per node and with every position's own target.

        Equals ``F.cross_entropy`` of the dense logits: the log-softmax is taken once per node.

        Args:
            targets: class indices in the plain layout, (B, T) or (T, B) where not ``batch_first``.
            ignore_index: positions with this target do not count; nor do those after the end of a row.
            reduction: ``"mean"`` over the positions that count, or ``"sum"``.

        Raises:
            ValueError: the logits, the targets or the reduction do not fit.
        """
        _check_targets(self, targets, reduction)
        rows = self.trie.rows
        row, time = (rows.rows, rows.times) if self.batch_first else (rows.times, rows.rows)
        wanted = targets.reshape(-1).index_select(0, self._index(row * targets.shape[1] + time)).long()
        counts = wanted != ignore_index
        log_p = functional.log_softmax(self.values, dim=1, dtype=self._loss_dtype())
        _check_classes(wanted, counts, log_p.shape[1])
        at = self._index(self.trie.node) * log_p.shape[1] + wanted.masked_fill(~counts, 0)
        picked = log_p.reshape(-1).gather(0, at).masked_fill(~counts, 0)  # not a product: log_p may be -inf
        total = -picked.sum(dtype=torch.promote_types(log_p.dtype, torch.float32))  # of halves, it may overflow
        return (total if reduction == "sum" else total / counts.sum()).to(log_p.dtype)

    def _loss_dtype(self) -> torch.dtype:
        """Give the type in which PyTorch takes the loss: autocast asks for float32 at least."""
        dtype = self.distinct.dtype
        autocast = torch.is_autocast_enabled(self.distinct.device.type)
        return torch.promote_types(dtype, torch.float32) if autocast else dtype

    def _positions(self) -> Tensor:
        node = self._index(self.trie.node)
        return spread(self.distinct, node if self.source is None else self.source.index_select(0, node))

    def _index(self, array: Ints) -> Tensor:
        return on(self.distinct.device, array)


def _in_order(rows: Rows) -> bool:
    return bool((rows.order == np.arange(len(rows))).all())


def _check_classes(wanted: Tensor, counts: Tensor, classes: int) -> None:
    fits = (~counts | ((wanted >= 0) & (wanted < classes))).all()
    if fits.is_cuda:
        # As the plain loss, which does not wait for the device either; torch has no public name for it.
        torch._assert_async(fits)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
    elif not fits:
        raise IndexError(
            f"Shared.cross_entropy: got a target outside of the {classes} classes of the logits; expected 0 to "
            f"{classes - 1}, or ignore_index."
        )


def _time_first(rows: Rows) -> Ints:
    """(T B,) the position of (t, row) in a batch without padding."""
    return rows.at(np.tile(np.arange(len(rows)), rows.horizon), np.repeat(np.arange(rows.horizon), len(rows)))


def _distinct(keys: Ints) -> tuple[Ints, Ints]:
    """Give the distinct keys, and for each key its number."""
    if len(keys) and keys.min() >= 0 and keys.max() < 4 * len(keys):  # token ids: count rather than sort
        distinct = np.flatnonzero(np.bincount(keys))
        number = np.zeros(int(keys.max()) + 1, np.int64)
        number[distinct] = np.arange(len(distinct))
        return distinct, number[keys]
    distinct, numbers = np.unique(keys, return_inverse=True)
    return distinct, numbers.astype(np.int64)


def _checked_rows(out: object, count: int) -> Tensor:
    if not isinstance(out, Tensor) or out.dim() < 1 or len(out) != count:
        raise ValueError(
            f"Shared.map: got {described(out)} from the function for {count} distinct rows; expected a tensor with one "
            "row for each. Write a function of rows; for anything else use .dense() first."
        )
    return out


def _checked_ids(ids: object, batch_first: bool) -> Ints:
    """Give ids as a (B, T) array."""
    ids = checked_integers(ids, "Shared.prefixes: got ids", "an integer tensor (B, T). Write ids.long()")
    if ids.dim() != 2:
        raise ValueError(f"Shared.prefixes: got ids of shape {tuple(ids.shape)}; expected (B, T).")
    table: Ints = off(ids).astype(np.int64, copy=False)
    return table if batch_first else np.transpose(table)


def _checked_lengths(lengths: Tensor | None, table: Ints) -> Ints:
    """Give lengths as a (B,) array that fits a (B, T) table."""
    size, horizon = table.shape
    if lengths is None:
        return np.full((size,), horizon, np.int64)
    lengths = torch.as_tensor(lengths, device=getattr(lengths, "device", "cpu"))
    checked_integers(lengths, "Shared.prefixes: got lengths", "integers. Write lengths.long()")
    if lengths.shape != (size,):
        raise ValueError(
            f"Shared.prefixes: got lengths of shape {tuple(lengths.shape)}; expected ({size},), one a row."
        )
    steps = off(lengths).astype(np.int64)
    if size and (steps.max() > horizon or steps.min() < 0):
        row = int(np.argmax((steps > horizon) | (steps < 0)))
        raise ValueError(
            f"Shared.prefixes: got length {steps[row]} for row {row} of ids with {horizon} steps; "
            f"expected 0 to {horizon}."
        )
    return steps


def _check_targets(logits: Shared, targets: Tensor, reduction: str) -> None:
    rows = logits.trie.rows
    if logits.distinct.dim() != 2:
        raise ValueError(
            f"Shared.cross_entropy: got values of shape {tuple(logits.values.shape)}; expected logits (nodes, classes)."
        )
    if reduction not in ("mean", "sum"):
        raise ValueError(f"Shared.cross_entropy: got reduction={reduction!r}; expected 'mean' or 'sum'.")
    checked_integers(targets, "Shared.cross_entropy: got targets", "class indices. Write .long()")
    size = (len(rows), rows.horizon) if logits.batch_first else (rows.horizon, len(rows))
    row, time = (0, 1) if logits.batch_first else (1, 0)
    if targets.dim() != 2 or targets.shape[row] != size[row] or targets.shape[time] < size[time]:
        raise ValueError(f"Shared.cross_entropy: got targets of shape {tuple(targets.shape)}; expected {size}.")
