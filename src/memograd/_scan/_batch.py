"""A plain module's input, as positions and rows; its outputs, as the plain module lays them out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from memograd._scan._torch import is_readable, weight_names
from memograd._share._arrays import off
from memograd._share._bits import trie_of
from memograd._share._checks import checked_integers
from memograd._share._sums import spread
from memograd._share._trie import Rows, Trie, build

if TYPE_CHECKING:
    from memograd._scan._stack import Stack
    from memograd._scan._states import States
    from memograd._share._trie import Ints


@dataclass(frozen=True)
class Batch:
    """A batch that the engines can take.

    Attributes:
        input: as it was given.
        x: (places, E) its vectors.
        place: (steps,) where in ``x`` each position's vector stands.
        rows: the positions.
        batch_first: of a padded input, and of the ``Shared`` that is made of it.
    """

    input: Tensor | PackedSequence
    x: Tensor
    place: Ints
    rows: Rows
    batch_first: bool

    @staticmethod
    def of(module: nn.RNNBase, input: Any) -> Batch | None:
        """Take an input apart; None where the plain module is to judge it, or has nothing to share."""
        packed = isinstance(input, PackedSequence)
        data = input.data if packed else input
        if not is_readable(data) or data.dim() != (2 if packed else 3) or data.numel() == 0:
            return None
        if data.shape[-1] != module.input_size or not _dtype_fits(module, data):
            return None
        if packed:
            rows = _packed_rows(input)
            return None if rows is None else Batch(input, data, np.arange(rows.steps), rows, False)
        size, horizon = data.shape[:2] if module.batch_first else (data.shape[1], data.shape[0])
        rows = Rows.of(np.full(size, horizon))
        place = rows.rows * horizon + rows.times if module.batch_first else np.arange(rows.steps)
        return Batch(input, data.reshape(-1, data.shape[-1]), place, rows, module.batch_first)

    @property
    def ragged(self) -> bool:
        """Whether rows differ in length, for which CPUs have no fused kernel."""
        return self.rows.steps < self.rows.horizon * len(self.rows)

    def positions(self) -> Tensor:
        """(steps, E) the vectors, position by position."""
        if isinstance(self.input, PackedSequence) or not self.batch_first:
            return self.x
        return self.input.transpose(0, 1).reshape(self.x.shape)

    def trie(self, names: Ints | None, root: Ints | None) -> Trie:
        """Merge the common prefixes of the rows."""
        if names is not None:
            return build(names, self.rows, root)
        return trie_of(self.x, self.place, self.rows, root)

    def names(self, keys: Any) -> Ints:
        """Give the keys of the positions.

        Raises:
            TypeError: keys are not integers.
            ValueError: their shape is not the input's.
        """
        data = keys.data if isinstance(keys, PackedSequence) else keys
        data = checked_integers(data, "memo.scan: got keys", "an integer tensor, such as token ids. Write ids.long()")
        expected = self.input.data.shape[:-1]
        if data.shape != expected:
            raise ValueError(
                f"memo.scan: got keys of shape {tuple(data.shape)}; expected {tuple(expected)}, one for each vector of "
                f"the input{' in its packed order' if isinstance(self.input, PackedSequence) else ''}."
            )
        return off(data.reshape(-1)).astype(np.int64)[self.place]

    def laid_out(self, y: Tensor, node: Tensor) -> Tensor | PackedSequence:
        """Give outputs as the plain module does, strides and all.

        Args:
            y: (n, R) a row for each node.
            node: (steps,) the node of each position.
        """
        if isinstance(self.input, PackedSequence):
            widths, order, back = self.input.batch_sizes, self.input.sorted_indices, self.input.unsorted_indices
            return PackedSequence(spread(y, node), widths, order, back)
        size = self.rows.horizon, len(self.rows)
        return spread(y, node, size) if self.batch_first else torch.unflatten(spread(y, node), 0, size)

    def result_dtypes(self, stack: Stack, first: States) -> list[torch.dtype]:
        """Give the types of the plain module's results: of the outputs, then of the last states."""
        if not torch.is_autocast_enabled(self.x.device.type):
            return [self.x.dtype] * 3
        steps = [2, 1] if self.ragged else [2]
        return _autocast_dtypes(stack, self.x, first, steps if isinstance(self.input, PackedSequence) else None)


def _dtype_fits(module: nn.RNNBase, x: Tensor) -> bool:
    autocast = torch.is_autocast_enabled(x.device.type)
    weights = [getattr(module, name) for name in weight_names(module)]
    return all(is_readable(w) and w.device == x.device and (w.dtype == x.dtype or autocast) for w in weights)


def _packed_rows(packed: PackedSequence) -> Rows | None:
    widths, order = packed.batch_sizes, packed.sorted_indices
    if widths.dtype != torch.int64 or widths.device.type != "cpu" or widths.dim() != 1 or not len(widths):
        return None
    if (widths[1:] > widths[:-1]).any() or widths[-1] < 0 or int(widths.sum()) != len(packed.data):
        return None
    size = int(widths[0])
    rows = np.arange(size) if order is None else off(order)
    back = np.arange(size) if packed.unsorted_indices is None else off(packed.unsorted_indices)
    if not _inverse(rows, back, size):
        return None
    lengths = np.empty(size, np.int64)
    lengths[rows] = np.searchsorted(-off(widths), -np.arange(size), side="left")  # the k-th longest row: widths > k
    return Rows.of(lengths, rows)


def _inverse(order: Ints, back: Ints, size: int) -> bool:
    """Say whether two arrays are permutations of the rows, each the other's inverse."""
    if order.shape != (size,) or back.shape != (size,) or order.dtype != np.int64 or back.dtype != np.int64:
        return False
    every = np.arange(size)
    return bool((np.sort(order) == every).all() and (order[back.clip(0, size - 1)] == every).all())


def _autocast_dtypes(stack: Stack, x: Tensor, first: States, widths: list[int] | None) -> list[torch.dtype]:
    """Ask the plain kernel what it would give, on a batch of two rows (packed where ``widths`` are given)."""
    given = [s.new_zeros(s.shape[0], 2, s.shape[2]) for s in first.tensors]
    asked = replace(stack, dropout=0.0, training=False)
    with torch.no_grad():
        if widths is None:
            found = asked.by_kernel(x.new_zeros(1, 2, x.shape[1]), None, given)
        else:
            found = asked.by_kernel(x.new_zeros(sum(widths), x.shape[1]), torch.tensor(widths), given)
    return [t.dtype for t in found]
