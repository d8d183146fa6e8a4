"""Rows of a batch that share a prefix, as a trie: a node is a prefix, and every prefix stands once.

Also known as a prefix tree or radix tree (Fredkin 1960, "Trie memory"; Morrison 1968, "PATRICIA"). It is
built from sorted rows and the longest common prefixes of neighbours, as a suffix tree is built from a suffix
array (Kasai et al. 2001): array operations only, no loop over tokens. Pure numpy.

NOTE [ Order of positions ] The places (row, t) of a ragged batch are counted as in a ``PackedSequence``: time
by time, within a time longer rows first. Position ``starts[t] + k`` is step t of row ``order[k]``.

NOTE [ Order of nodes ] Nodes are counted level by level (level t holds the prefixes of t + 1 steps). A node
either continues its parent's *chain* or begins a chain of its own; within a level, chains that end later stand
first. So where nothing branches, the parents of a level are the first nodes of the level before: a slice, no gather.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Rows:
    """The places (row, t) of a ragged batch, packed. See NOTE [ Order of positions ].

    Attributes:
        lengths: (B,) steps of each row, none negative.
        order: (B,) rows, longest first; rows of one length keep their order.
    """

    lengths: Ints
    order: Ints

    @staticmethod
    def of(lengths: Ints, order: Ints | None = None) -> Rows:
        """Lay out rows of these lengths; ``order`` is given where a caller has sorted them already."""
        if order is None:
            order = np.argsort(-lengths, kind="stable")
        return Rows(lengths, order)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def steps(self) -> int:
        """Positions in the batch: the recurrent steps that a plain program takes."""
        return int(self.lengths.sum())

    @property
    def horizon(self) -> int:
        """Steps of the longest row."""
        return int(self.lengths.max(initial=0))

    @cached_property
    def rank(self) -> Ints:
        """(B,) where each row stands in ``order``."""
        rank = np.empty_like(self.order)
        rank[self.order] = np.arange(len(self))
        return rank

    @cached_property
    def widths(self) -> Ints:
        """(horizon,) rows alive at each time: a ``PackedSequence``'s batch sizes."""
        ends = np.bincount(self.lengths, minlength=self.horizon + 1)
        return len(self) - np.cumsum(ends)[: self.horizon]

    @cached_property
    def starts(self) -> Ints:
        """(horizon + 1,) the first position of each time, and their number."""
        return np.concatenate([[0], np.cumsum(self.widths)]).astype(np.int64)

    @cached_property
    def times(self) -> Ints:
        """(steps,) time of each position."""
        return np.repeat(np.arange(self.horizon), self.widths)

    @cached_property
    def rows(self) -> Ints:
        """(steps,) row of each position."""
        return self.order[np.arange(self.steps) - self.starts[self.times]]

    @cached_property
    def last(self) -> Ints:
        """(B,) the last position of each row, -1 for an empty row."""
        last = self.starts[np.maximum(self.lengths - 1, 0)] + self.rank
        return np.where(self.lengths > 0, last, -1)

    def at(self, rows: Ints, times: Ints) -> Ints:
        """Give the positions of steps ``times`` of ``rows``."""
        return self.starts[times] + self.rank[rows]

    def table(self, values: Ints, fill: int = 0) -> Ints:
        """Lay values of the positions out as a (B, horizon) table, ``fill`` where a row has ended."""
        table = np.full((len(self), self.horizon), fill, dtype=values.dtype)
        table[self.rows, self.times] = values
        return table

    def reversed(self) -> Ints:
        """(steps,) the position that stands at each position once every row is read from its end."""
        return self.at(self.rows, self.lengths[self.rows] - 1 - self.times)


@dataclass(frozen=True, eq=False)
class Trie:
    """The distinct prefixes of a batch. See NOTE [ Order of nodes ].

    Attributes:
        rows: the positions that the nodes stand for.
        starts: (levels + 1,) the first node of each level, and the number of nodes.
        parent: (n,) where a node's parent stands within the level before; for level 0 which root.
        first: (n,) a position that the node stands for.
        node: (steps,) the node of each position.
        root: (B,) which initial state a row begins from.
        root_row: (roots,) a row that begins from it.
    """

    rows: Rows
    starts: Ints
    parent: Ints
    first: Ints
    node: Ints
    root: Ints
    root_row: Ints

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def levels(self) -> int:
        """Steps of the longest prefix."""
        return len(self.starts) - 1

    @property
    def ratio(self) -> float:
        """Steps in the data per step computed: the ideal speed-up of the sharing."""
        return self.rows.steps / max(len(self), 1)

    @cached_property
    def multiplicity(self) -> Ints:
        """(n,) positions that each node stands for."""
        return np.bincount(self.node, minlength=len(self))

    @cached_property
    def last(self) -> Ints:
        """(B,) the node of each row's last step, -1 for an empty row."""
        if len(self) == 0:
            return np.full(len(self.rows), -1)
        return np.where(self.rows.last >= 0, self.node[self.rows.last], -1)

    @cached_property
    def straight(self) -> Bools:
        """(levels,) whether the parents of a level are just the first nodes of the level before."""
        place = np.arange(len(self)) - np.repeat(self.starts[:-1], np.diff(self.starts))
        bent = np.concatenate([[0], np.cumsum(self.parent != place)])
        return bent[self.starts[1:]] == bent[self.starts[:-1]]


def build(keys: Ints, rows: Rows, root: Ints | None = None, depth: int | None = None) -> Trie:
    """Merge the common prefixes of rows.

    Args:
        keys: (steps,) an integer for each position; positions with equal keys hold equal inputs.
        rows: the positions.
        root: (B,) numbers from 0: rows with different ones begin from different states and share nothing.
        depth: steps after which no two rows have a prefix in common, where the caller knows; later keys are not read.

    Returns:
        The trie in which every distinct (root, prefix of keys) is one node.
    """
    root, root_row = _number(np.zeros(len(rows), np.int64) if root is None else root)
    order, common = _sorted_rows(_compact(keys), rows, root, rows.horizon if depth is None else depth)
    return _from_chains(rows, order, common, root, root_row)


def chains(rows: Rows, root: Ints | None = None) -> Trie:
    """Give the trie of rows that share nothing: a chain for each row, a node for each position."""
    root, root_row = _number(np.zeros(len(rows), np.int64) if root is None else root)
    within = np.arange(rows.steps) - rows.starts[rows.times]
    parent = np.where(rows.times == 0, root[rows.rows], within) if rows.steps else within
    every = np.arange(rows.steps)
    return Trie(rows, rows.starts, parent, every, every, root, root_row)


def rerooted(trie: Trie, labels: Ints) -> Trie | None:
    """Let rows with different labels begin from different states.

    Args:
        trie: the prefixes.
        labels: (B,) equal numbers for equal states.

    Returns:
        The same nodes over other roots; None where rows that share a prefix have different labels.
    """
    root, root_row = _number(labels)
    rows = np.flatnonzero(trie.rows.lengths)
    top = trie.node[trie.rows.at(rows, np.zeros_like(rows))]
    parent = np.array(trie.parent)
    parent[top] = root[rows]
    if (parent[top] != root[rows]).any():
        return None
    return replace(trie, parent=parent, root=root, root_row=root_row)


def _number(labels: Ints) -> tuple[Ints, Ints]:
    """Number labels from 0; give the numbers and a place of each label."""
    _, first, numbers = np.unique(labels, return_index=True, return_inverse=True)
    return numbers.astype(np.int64), first.astype(np.int64)


def _compact(keys: Ints) -> NDArray[np.unsignedinteger]:
    """Shrink keys to the fewest bytes that tell them apart, below a value that no key has."""
    if not len(keys):
        return keys.astype(np.uint8)
    low, high = int(keys.min()), int(keys.max())
    for dtype in (np.uint8, np.uint16, np.uint32, np.uint64):
        if high - low < np.iinfo(dtype).max:
            return (keys - low).astype(dtype)  # the difference wraps where it must
    return np.unique(keys, return_inverse=True)[1].astype(np.uint32)


def _sorted_rows(keys: NDArray[np.unsignedinteger], rows: Rows, root: Ints, depth: int) -> tuple[Ints, Ints]:
    """Sort rows by (root, keys), a longer row before its own prefix; give the steps shared with the row before."""
    known = rows.times < depth
    table = np.full((len(rows), max(depth, 1)), np.iinfo(keys.dtype).max, keys.dtype)
    table[rows.rows[known], rows.times[known]] = keys[known]
    words = table.view(f"S{table.shape[1] * keys.itemsize}")[:, 0]
    order = np.lexsort((words, root)) if root.any() else np.argsort(words, kind="stable")
    before, after = order[:-1], order[1:]
    differs = table[after] != table[before]
    common = np.where(differs.any(1), differs.argmax(1), depth)
    common = np.minimum(common, rows.lengths[after])
    common[root[after] != root[before]] = 0
    return order, np.concatenate([np.zeros(min(len(rows), 1), np.int64), common])


def _from_chains(rows: Rows, order: Ints, common: Ints, root: Ints, root_row: Ints) -> Trie:
    """Cut sorted rows into chains, row i's own from step ``common[i]`` to its end, and number their nodes."""
    ends = rows.lengths[order]
    time = np.arange(rows.horizon)
    own = (time >= common[:, None]) & (time < ends[:, None])
    # The chain that passes through (row, t) is that of the last row so far whose own steps have begun by t.
    through = np.maximum.accumulate(np.where(own, np.arange(len(rows), dtype=np.int32)[:, None], 0), axis=0)
    later = np.argsort(-ends, kind="stable")  # NOTE [ Order of nodes ]
    place = np.empty((len(rows), rows.horizon), np.int32)
    place[later] = np.cumsum(own[later], axis=0, dtype=np.int32) - 1
    starts = np.concatenate([[0], np.cumsum(own.sum(0))]).astype(np.int64)

    level, chain = np.nonzero(np.transpose(own[later]))
    chain = later[chain]
    before = np.maximum(level - 1, 0)
    parent = np.where(level == 0, root[order[chain]], place[through[chain, before], before])
    line = np.argsort(order)[rows.rows]
    node = starts[rows.times] + place[through[line, rows.times], rows.times]
    return Trie(rows, starts, parent.astype(np.int64), rows.at(order[chain], level), node, root, root_row)
