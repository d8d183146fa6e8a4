"""A range of a trie's levels, on a device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from memograd._share._sums import bags, summed

if TYPE_CHECKING:
    from torch import Tensor

    from memograd._share._trie import Ints

CHUNK = 256  # nodes that share one product with the input and one with the weights' gradients
_FAN = 1.15  # nodes per parent above which the hidden state's product is taken per parent


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
        row_ends: where those of ``ends`` stand at which a row ends; on the host, since not every cell has a c.
        roots: first states that the first level begins from.
        chunk: nodes that share one product with the input and one with the weights' gradients.
    """

    starts: tuple[int, ...]
    straight: tuple[bool, ...]
    parent: Tensor
    above: Tensor
    source: Tensor | None
    ends: Tensor
    ends_starts: tuple[int, ...]
    row_ends: Ints
    roots: int
    chunk: int = CHUNK

    def __len__(self) -> int:
        return len(self.straight)

    @property
    def nodes(self) -> int:
        return self.starts[-1]

    @cached_property
    def at(self) -> tuple[slice, ...]:
        """The nodes of each level."""
        return tuple(map(slice, self.starts[:-1], self.starts[1:]))

    def width(self, level: int) -> int:
        """Count the nodes of a level; level -1 is the first states."""
        return self.roots if level < 0 else self.widths[level]

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """The nodes of each level, counted."""
        return tuple(b - a for a, b in pairwise(self.starts))

    @cached_property
    def widths_before(self) -> tuple[int, ...]:
        """The nodes of the level before each, or the first states, counted."""
        return (self.roots, *self.widths[:-1])

    def cut(self, values: Tensor, levels: range) -> tuple[Tensor, ...]:
        """Cut (..., nodes of ``levels``, k) into a view for each level: one call, where slices would take one each."""
        return torch.split_with_sizes(values, self.widths[levels.start : levels.stop], -2)

    def of_parents(self, level: int, values: Tensor) -> Tensor:
        """Give each node of a level its parent's row, from a row for each node of the level before."""
        if not self.straight[level]:
            return values.index_select(0, self.parent[self.at[level]])
        n = self.widths[level]
        return values if n == self.widths_before[level] else values[:n]

    def fans(self, level: int) -> bool:
        """Say whether a level branches so widely that its products are taken per parent."""
        return not self.straight[level] and self.widths[level] > _FAN * self.widths_before[level]

    def onto_parents(self, level: int, values: Tensor) -> Tensor:
        """Sum a level's rows onto their parents: (n, k) of ``values`` onto (m, k).

        float16 and bfloat16 never come here: a layer computes in float32 or float64.
        """
        if values.is_cuda:
            total = values.new_zeros(self.widths_before[level], values.shape[1])
            return total.index_add_(0, self.parent[self.at[level]], values)
        return summed(values, *self._bags[level])

    @cached_property
    def _bags(self) -> dict[int, tuple[Tensor, Tensor]]:
        bent = [level for level, straight in enumerate(self.straight) if not straight]
        return {level: bags(self.parent[self.at[level]], self.widths_before[level]) for level in bent}

    @cached_property
    def chunks(self) -> tuple[range, ...]:
        """The levels in ranges of about ``chunk`` nodes, a wider level being one of its own."""
        starts, cuts = self.starts, [0]
        for level in range(1, len(self)):
            if starts[level + 1] - starts[cuts[-1]] > self.chunk:
                cuts.append(level)
        return tuple(map(range, cuts, [*cuts[1:], len(self)])) if len(self) else ()

    def span(self, chunk: range) -> tuple[int, int]:
        """Give the first node of a range of levels, and the first behind it."""
        return self.starts[chunk.start], self.starts[chunk.stop]

    def widest(self, chunk: range) -> int:
        """Nodes of the widest level of a range."""
        return max(self.widths[chunk.start : chunk.stop], default=0)

    @property
    def widest_chunk(self) -> int:
        """Nodes of the largest chunk."""
        return max((b - a for a, b in map(self.span, self.chunks)), default=0)


@dataclass(frozen=True)
class Spread:
    """All rows of a batch, each with gradients of its own, over the nodes of a trie.

    Attributes:
        levels: the rows as chains that share nothing; its nodes are the positions of the batch.
        node: (positions,) the node of each position.
        end: for each of ``levels.ends`` which of the trie's ends it is.
        root: (rows,) the row of ``levels`` that each root of the trie stands for.
    """

    levels: Levels
    node: Tensor
    end: Tensor
    root: Tensor


def inputs(x: Tensor, levels: Levels, first: int, last: int) -> Tensor:
    """Give the inputs of nodes ``first`` to ``last``."""
    return x[first:last] if levels.source is None else x.index_select(0, levels.source[first:last])
