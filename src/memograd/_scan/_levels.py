"""A range of a trie's levels, on a device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from memograd._share._sums import bags, summed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from memograd._share._trie import Ints

_CHUNK = 256  # nodes that share one product with the input and one with the weights' gradients
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
        row_ends: where those of ``ends`` stand at which a row ends; on the host, since not every cell has a c.
        roots: first states that the first level begins from.
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
        return self.roots if level < 0 else self.starts[level + 1] - self.starts[level]

    def parents(self, level: int) -> Tensor | None:
        """Where the parents of a level's nodes stand in the level before, None for its first nodes in order."""
        return None if self.straight[level] else self.parent[self.at[level]]

    def onto_parents(self, level: int, values: Tensor) -> Tensor:
        """Sum a level's rows onto their parents: (n, k) of ``values`` onto (m, k).

        float16 and bfloat16 never come here: a layer computes in float32 or float64.
        """
        if values.is_cuda:
            return values.new_zeros(self.width(level - 1), values.shape[1]).index_add_(
                0, self.parent[self.at[level]], values
            )
        return summed(values, *self._bags[level])

    @cached_property
    def _bags(self) -> dict[int, tuple[Tensor, Tensor]]:
        bent = [level for level, straight in enumerate(self.straight) if not straight]
        return {level: bags(self.parent[self.at[level]], self.width(level - 1)) for level in bent}

    def chunks(self) -> Iterator[range]:
        """Cut the levels into ranges of about ``_CHUNK`` nodes, a wider level being one of its own."""
        begin = 0
        for level in range(1, len(self) + 1):
            if level == len(self) or self.starts[level + 1] - self.starts[begin] > _CHUNK:
                yield range(begin, level)
                begin = level

    def span(self, chunk: range) -> tuple[int, int]:
        """Give the first node of a range of levels, and the first behind it."""
        return self.starts[chunk.start], self.starts[chunk.stop]

    def widest(self, chunk: range) -> int:
        """Nodes of the widest level of a range."""
        return max(map(self.width, chunk), default=0)

    @property
    def widest_chunk(self) -> int:
        """Nodes of the largest chunk."""
        return max((b - a for a, b in map(self.span, self.chunks())), default=0)


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
