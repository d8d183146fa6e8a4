"""A recurrent layer over a trie, level by level: every node once forward, once backward.

The product with the hidden state is taken once per *parent* where a level branches widely; that with the input once
per *distinct input row* where there are fewer of those than nodes (tokens of a vocabulary). Backward sums what
comes back onto the distinct before it multiplies, and forms the weights' gradients in a few large products.

The derivative of a level is kept as factors (see ``_cells``), so the backward pass is one multiplication and one
matrix product a level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memograd._scan._cells import Cell

_CHUNK = 4096  # nodes that share one product with the input and one with the weights' gradients
FAN = 1.15  # nodes per parent above which the hidden state's product is taken per parent


@dataclass(frozen=True)
class Levels:
    """A range of a trie's levels, on a device.

    Attributes:
        starts: the first node of each level, counted within the range, and their number.
        straight: whether a level's parents are the first nodes of the level before.
        parent: (n,) where a node's parent stands in the level before it (the roots, for the first level).
        above: (n,) the same counted within the range, for all but the first level.
        source: (n,) the row of the input that a node reads, None where row k is node k's.
        ends: (k,) ascending, the nodes whose c is given out.
        ends_starts: the first of ``ends`` in each level, and their number.
        roots: first states that the first level begins from.
    """

    starts: tuple[int, ...]
    straight: tuple[bool, ...]
    parent: Tensor
    above: Tensor
    source: Tensor | None
    ends: Tensor
    ends_starts: tuple[int, ...]
    roots: int

    def __len__(self) -> int:
        return len(self.straight)

    @property
    def nodes(self) -> int:
        return self.starts[-1]

    def chunks(self) -> Iterator[range]:
        """Cut the levels into ranges of about ``_CHUNK`` nodes, a wider level being one of its own."""
        begin = 0
        for level in range(1, len(self) + 1):
            if level == len(self) or self.starts[level + 1] - self.starts[begin] > _CHUNK:
                yield range(begin, level)
                begin = level

    def parents(self, level: int) -> Tensor | None:
        """Where the parents of a level's nodes stand in the level before, None for its first nodes in order."""
        return None if self.straight[level] else self.parent[self.starts[level] : self.starts[level + 1]]

    @property
    def widest_chunk(self) -> int:
        """Nodes of the largest chunk."""
        return max((self.starts[c.stop] - self.starts[c.start] for c in self.chunks()), default=0)


class Weights(NamedTuple):
    """The weights of one layer and direction, in PyTorch's names and shapes."""

    ih: Tensor
    hh: Tensor
    b_ih: Tensor | None
    b_hh: Tensor | None
    hr: Tensor | None


class Arranged:
    """Weights as the products want them: rows in the order of ``Cell.x_columns``, biases that only add up as one.

    Attributes:
        size: H.
        ih, hh, hr: weights of the input, of the hidden state, and of the projection where there is one.
        b_x, b_h: biases of the products with the input and with the hidden state; where the cell merges the two
            products, ``b_x`` is the sum of both.
        x_columns, h_columns: see ``Cell``.
    """

    def __init__(self, cell: type[Cell], w: Weights) -> None:
        self.cell, self.size = cell, w.hh.shape[0] // cell.gates
        self.ih, self.hh, self.hr = cell.arrange(w.ih), w.hh, w.hr
        self.b_x, self.b_h = None if w.b_ih is None else cell.arrange(w.b_ih), w.b_hh
        if cell.merged and self.b_x is not None and self.b_h is not None:
            self.b_x, self.b_h = self.b_x + self.b_h, None
        self.x_columns, self.h_columns = cell.x_columns(self.size), cell.h_columns(self.size)

    def input_product(self, x: Tensor, out: Tensor) -> Tensor:
        return _affine(self.b_x, x, self.ih, out)

    def hidden_product(self, h: Tensor, out: Tensor) -> Tensor:
        return _affine(self.b_h, h, self.hh, out)


def _affine(bias: Tensor | None, x: Tensor, w: Tensor, out: Tensor) -> Tensor:
    if bias is None:
        return torch.mm(x, w.t(), out=out)
    return torch.addmm(bias, x, w.t(), out=out)


def inputs(x: Tensor, levels: Levels, first: int, last: int) -> Tensor:
    """Give the inputs of nodes ``first`` to ``last``."""
    return x[first:last] if levels.source is None else x.index_select(0, levels.source[first:last])
