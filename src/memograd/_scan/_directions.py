"""What one direction of a recurrent layer runs over, as tensors on its device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from memograd._scan._levels import Levels, Spread
from memograd._share._arrays import on
from memograd._share._trie import build, chains

if TYPE_CHECKING:
    from memograd._share._trie import Ints, Rows, Trie


@dataclass(frozen=True)
class Direction:
    """A trie of prefixes, or of suffixes: then its positions are those of the rows read from their ends.

    Attributes:
        trie: the distinct prefixes or suffixes.
        flip: (steps,) the position that stands at each position of ``trie``, None where read from the start.
        device: where the tensors are.
    """

    trie: Trie
    flip: Ints | None
    device: torch.device

    @staticmethod
    def of(trie: Trie, device: torch.device | str = "cpu") -> Direction:
        """Read rows from their start."""
        return Direction(trie, None, torch.device(device))

    def levels(self, source: Ints | None, begin: int = 0, stop: int | None = None) -> Levels:
        """Give a range of the trie's levels; the last one and every row's last node give out their memories."""
        trie = self.trie
        stop = trie.levels if stop is None else stop
        a, b = int(trie.starts[begin]), int(trie.starts[stop])
        starts: Ints = trie.starts[begin : stop + 1] - a
        parent = trie.parent[a:b]
        above = parent + np.repeat(np.concatenate([[0], starts[:-2]]), np.diff(starts)) if b > a else parent
        row_ends = self.ends[(self.ends >= a) & (self.ends < b)] - a
        ends = row_ends
        if stop < trie.levels:
            ends = np.union1d(row_ends, np.arange(starts[-2], starts[-1], dtype=np.int64))
        return Levels(
            starts=tuple(starts.tolist()),
            straight=tuple(trie.straight[begin:stop].tolist()),
            parent=self.tensor(parent),
            above=self.tensor(above),
            source=None if source is None else self.tensor(source[a:b]),
            ends=self.tensor(ends),
            ends_starts=tuple(np.searchsorted(ends, starts).tolist()),
            row_ends=np.searchsorted(ends, row_ends),
            roots=len(trie.root_row) if begin == 0 else int(trie.starts[begin] - trie.starts[begin - 1]),
        )

    @cached_property
    def ends(self) -> Ints:
        """(k,) ascending, the nodes at which a row ends."""
        return np.unique(self.trie.last[self.trie.last >= 0])

    def spread(self) -> Spread:
        """Give all rows, each with gradients of its own."""
        rows = self.trie.rows
        every = Direction(chains(rows, np.arange(len(rows))), None, self.device)
        levels = every.levels(None)
        nodes = self.trie.node[every.ends]
        return Spread(
            levels,
            node=self.tensor(self.trie.node),
            end=self.tensor(np.searchsorted(self.ends, nodes)),
            root=self.tensor(self.trie.root_row),
        )

    def tensor(self, array: Ints) -> Tensor:
        return on(self.device, array)


def whole_rows(trie: Trie) -> Trie:
    """Merge equal rows and nothing else: all that can be shared above a layer that has seen both ends of a row."""
    return build(trie.last[trie.rows.rows], trie.rows, trie.root)


def suffixes(keys: Ints, rows: Rows, root: Ints) -> tuple[Trie, Ints]:
    """Give the trie of rows read from their ends, and the position at each of its positions."""
    flip = rows.reversed()
    return build(keys[flip], rows, root), flip
