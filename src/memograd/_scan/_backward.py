"""The backward pass of one recurrent layer over a trie, level by level: every node once.

What comes back is summed onto the distinct (nodes, parents, input rows) before it is multiplied, and the weights'
gradients are formed in a few large products. The derivative of a level is kept as factors (see ``_cells``), so that a
level takes one multiplication and one matrix product.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from memograd._scan._buffers import lend
from memograd._scan._levels import FAN, Levels, inputs
from memograd._scan._threads import threads_for
from memograd._share._sums import sum_of_groups

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memograd._scan._forward import Run


class Backward:
    """Gradients of one layer, from its forward pass and the gradients of its outputs.

    They run over the trie itself, or over all rows of the batch with the trie's factors: then each row gets an input
    gradient of its own, and only the forward pass and the weights' products are shared.

    Args:
        run: the forward pass.
        levels: what the gradients run over: the forward pass's own levels, or those of all rows.
        node: (positions,) the node of each position, None where the two are one.
        dy: (positions, R) gradient of the outputs, None for zero.
        dc: (len(levels.ends), H) gradient of the memories given out, None for zero.
        wants_x: whether ``dx`` is wanted.

    Attributes:
        dx: gradient of the input, of its shape; None where not wanted.
        dh0, dc0: gradients of the first state's rows.
        ih, hh, b_x, b_h, hr: gradients of the arranged weights, None where there is no such weight.
    """

    def __init__(
        self, run: Run, levels: Levels, node: Tensor | None, dy: Tensor | None, dc: Tensor | None, wants_x: bool
    ) -> None:
        assert run.factors is not None
        w, x, self._factors = run.w, run.x, run.factors
        self.run, self.levels, self.node, self.dy, self.dc = run, levels, node, dy, dc
        self.ih, self.hh = torch.zeros_like(w.ih), torch.zeros_like(w.hh)
        self.b_x, self.b_h, self.hr = _zeros(w.b_x), _zeros(w.b_h), _zeros(w.hr)
        self._table = x.new_zeros(len(x), w.ih.shape[0]) if run.distinct else None
        self.dx = x.new_zeros(x.shape) if wants_x else None
        self._multiplied: set[int] = set()  # levels that branch so widely that their share is formed per parent
        self._dh = self._incoming(len(levels) - 1)
        self._dmemory = self._incoming_memory(len(levels) - 1, None)
        self._run()
        self.dh0, self.dc0 = self._dh, self._dmemory

    def _run(self) -> None:
        levels, run = self.levels, self.run
        lent = lend(levels.widest_chunk, run.cell.grads * run.w.size, run.x)
        for chunk in reversed(list(levels.chunks())):
            first, last = levels.span(chunk)
            grads = lent[: last - first]
            with threads_for(levels.widest(chunk), run.w.size, run.x):
                for level in reversed(chunk):
                    a, b = levels.starts[level], levels.starts[level + 1]
                    self._level(level, grads[a - first : b - first])
            self._products(chunk, grads)
        if self._table is not None:
            self._distinct_products(self._table)

    def _level(self, level: int, grads: Tensor) -> None:
        """Take the gradients of a level back to its parents'."""
        run, w = self.run, self.run.w
        dh = self._dh
        if w.hr is not None:
            self._project(level, dh)
            dh = dh @ w.hr
        past = run.cell.back(dh, self._dmemory, self._of_nodes(self._factors, level), grads)
        parent = self.levels.parents(level)
        through = grads[:, w.h_columns]
        incoming = self._incoming(level - 1)
        self._dmemory = self._incoming_memory(level - 1, self._dmemory)
        if past is not None:
            self._add_to_parents(incoming, level, dh * past)
        if parent is not None and len(grads) > FAN * len(incoming):
            summed = self.levels.onto_parents(level, through)
            incoming.addmm_(summed, w.hh)
            if self.node is None:
                self.hh.addmm_(summed.t(), self._before(level))
                self._multiplied.add(level)
        elif parent is None:
            incoming[: len(grads)].addmm_(through, w.hh)
        else:
            incoming.add_(self.levels.onto_parents(level, through @ w.hh))
        self._dh = incoming

    def _incoming(self, level: int) -> Tensor:
        """Give the gradient of a level's outputs that comes from outside; level -1 is the first state."""
        if level < 0 or self.dy is None:
            return self.run.x.new_zeros(self.levels.width(level), self.run.y.shape[1])
        return self.dy[self.levels.at[level]].clone()

    def _add_to_parents(self, total: Tensor, level: int, arriving: Tensor) -> None:
        """Add what arrives from a level's nodes to their parents' ``total``."""
        if self.levels.straight[level]:
            total[: len(arriving)].add_(arriving)
        else:
            total.add_(self.levels.onto_parents(level, arriving))

    def _incoming_memory(self, level: int, below: Tensor | None) -> Tensor | None:
        """Sum the gradients of a level's memories: from outside and from the level below."""
        if not self.run.cell.has_memory:
            return None
        levels, size = self.levels, self.run.w.size
        width = levels.width(level)
        if below is None:
            total = self.run.x.new_zeros(width, size)
        elif not levels.straight[level + 1]:
            total = levels.onto_parents(level + 1, below)
        elif len(below) == width:
            total = below
        else:
            total = self.run.x.new_zeros(width, size)
            total[: len(below)] = below
        if level >= 0 and self.dc is not None:
            i, j = levels.ends_starts[level], levels.ends_starts[level + 1]
            total.index_add_(0, levels.ends[i:j] - levels.starts[level], self.dc[i:j])
        return total

    def _of_nodes(self, values: Tensor, level: int) -> Tensor:
        """Give what the forward pass kept of its nodes, for each node or position of a level."""
        here = self.levels.at[level]
        return values[here] if self.node is None else values.index_select(0, self.node[here])

    def _project(self, level: int, dh: Tensor) -> None:
        """Add a level's share to the gradient of the projection."""
        assert self.run.inner is not None
        assert self.hr is not None
        self.hr.addmm_(dh.t(), self._of_nodes(self.run.inner, level))

    def _products(self, chunk: range, grads: Tensor) -> None:
        """Add a chunk's share to the gradients of the weights and of the input."""
        run, w = self.run, self.run.w
        first, last = self.levels.span(chunk)
        if self.dx is not None and self._table is None:
            dx = grads[:, w.x_columns] @ w.ih
            if self.node is None and self.levels.source is not None:
                self.dx.index_add_(0, self.levels.source[first:last], dx)
            else:
                self.dx[first:last] = dx
        if self.node is not None:
            a, b = run.levels.span(chunk)
            grads = sum_of_groups(grads, self.node[first:last] - a, b - a)
            first, last = a, b
        through = grads[:, w.h_columns]
        self._hidden_products(chunk, through)
        if self.b_h is not None:
            self.b_h += through.sum(0)
        if self._table is not None:
            assert run.levels.source is not None
            self._table += sum_of_groups(grads[:, w.x_columns], run.levels.source[first:last], len(self._table))
        else:
            self.ih.addmm_(grads[:, w.x_columns].t(), inputs(run.x, run.levels, first, last))
            if self.b_x is not None:
                self.b_x += grads[:, w.x_columns].sum(0)

    def _hidden_products(self, chunk: range, through: Tensor) -> None:
        """Add a chunk's share to the gradient of the hidden state's weight, but for levels that have added theirs."""
        levels = self.run.levels
        first = levels.starts[chunk.start]
        for part in _without(chunk, self._multiplied):
            a, b = levels.span(part)
            if part.start == 0:
                before = self.run.h0.index_select(0, levels.parent[a:b])
            else:
                before = self.run.y.index_select(0, levels.above[a:b])
            self.hh.addmm_(through[a - first : b - first].t(), before)

    def _before(self, level: int) -> Tensor:
        """Give the states that a level's parents hold."""
        return self.run.y[self.run.levels.at[level - 1]] if level else self.run.h0

    def _distinct_products(self, table: Tensor) -> None:
        """Multiply what came back onto each distinct input row."""
        self.ih = table.t() @ self.run.x
        if self.b_x is not None:
            self.b_x = table.sum(0)
        if self.dx is not None:
            self.dx = table @ self.run.w.ih


def _without(chunk: range, levels: set[int]) -> Iterator[range]:
    """Cut a chunk at ``levels``, which are left out, and behind level 0, whose parents are the first states."""
    begin = chunk.start
    for level in chunk:
        if level in levels or (level == 1 and begin == 0):
            if begin < level:
                yield range(begin, level)
            begin = level + (level in levels)
    if begin < chunk.stop:
        yield range(begin, chunk.stop)


def _zeros(w: Tensor | None) -> Tensor | None:
    return None if w is None else torch.zeros_like(w)
