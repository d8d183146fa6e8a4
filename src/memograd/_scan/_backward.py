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
from memograd._scan._levels import Levels, inputs
from memograd._scan._threads import threads_for
from memograd._share._sums import sum_of_groups

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memograd._scan._cells import Views
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
        self.run, self.levels, self.node, self.dc = run, levels, node, dc
        self.dy = x.new_zeros(1, 1).expand(levels.nodes, run.y.shape[1]) if dy is None else dy
        self.ih, self.hh = torch.zeros_like(w.ih), torch.zeros_like(w.hh)
        self.b_x, self.b_h, self.hr = _zeros(w.b_x), _zeros(w.b_h), _zeros(w.hr)
        self._table = x.new_zeros(len(x), w.ih.shape[0]) if run.distinct else None
        self.dx = x.new_zeros(x.shape) if wants_x else None
        self._multiplied: set[int] = set()  # levels that branch so widely that their share is formed per parent
        self._dh, self._dmemory = self._last()
        self._run()
        self.dh0, self.dc0 = self._dh, self._dmemory

    def _last(self) -> tuple[Tensor, Tensor | None]:
        """Give the gradients of the last level's outputs and memories, both from outside alone."""
        level, run = len(self.levels) - 1, self.run
        dh = self.dy[self.levels.at[level]] if level >= 0 else self._of_roots()
        if not run.cell.has_memory:
            return dh, None
        return dh, self._add_given_out(level, run.x.new_zeros(len(dh), run.w.size))

    def _run(self) -> None:
        levels, run = self.levels, self.run
        lent = lend(levels.widest_chunk, run.cell.grads * run.w.size, run.x)
        for chunk in reversed(levels.chunks):
            first, last = levels.span(chunk)
            grads = lent[: last - first]
            self._chunk(chunk, self._of_nodes(self._factors, first, last), grads)
            self._products(chunk, grads)
        if self._table is not None:
            self._distinct_products(self._table)

    def _chunk(self, chunk: range, factors: Tensor, grads: Tensor) -> None:
        """Take the steps back of some levels, the last one first."""
        levels, run = self.levels, self.run
        views = [levels.cut(v, chunk) for v in run.cell.behind(factors, grads)]
        through = levels.cut(grads[:, run.w.h_columns], chunk)
        steps = zip(chunk, self._outside(chunk), through, zip(*views, strict=True), strict=True)
        with threads_for(levels.widest(chunk), run.w.size, run.x):
            for step in reversed(list(steps)):
                self._level(*step)

    def _level(self, level: int, outside: Tensor, through: Tensor, views: Views) -> None:
        """Take the gradients of a level back to its parents'.

        Args:
            level: the level.
            outside: gradient from outside of the outputs of the level before.
            through: the gradients before the product with the hidden state, when the cell has formed them.
            views: of the cell's step back.
        """
        dh, hr = self._dh, self.run.w.hr
        if hr is not None:
            self._project(level, dh)
            dh = dh @ hr
        past = self.run.cell.back(views, dh, self._dmemory)
        arriving = None if past is None else dh * past
        onto = self._onto_same if self.levels.straight[level] else self._onto_parents
        self._dh = onto(level, outside, arriving, through)
        if self._dmemory is not None:
            self._dmemory = self._memory_before(level, self._dmemory)

    def _onto_same(self, level: int, outside: Tensor, arriving: Tensor | None, through: Tensor) -> Tensor:
        """Add up the gradient of the level before, of which the first nodes have a child each and the rest none."""
        n, before = self.levels.widths[level], self.levels.widths_before[level]
        total = outside if n == before else outside[:n]
        hh = self.run.w.hh
        total = torch.addmm(total, through, hh) if arriving is None else arriving.add_(total).addmm_(through, hh)
        return total if n == before else torch.cat((total, outside[n:]))

    def _onto_parents(self, level: int, outside: Tensor, arriving: Tensor | None, through: Tensor) -> Tensor:
        """Add up the gradient of the level before, each node's from its children."""
        levels, hh = self.levels, self.run.w.hh
        total = outside if arriving is None else levels.onto_parents(level, arriving).add_(outside)
        if not levels.fans(level):
            return levels.onto_parents(level, through @ hh).add_(total)
        summed = levels.onto_parents(level, through)
        if self.node is None:
            self.hh.addmm_(summed.t(), self._before(level))
            self._multiplied.add(level)
        return torch.addmm(total, summed, hh)

    def _outside(self, chunk: range) -> list[Tensor]:
        """Give the gradients from outside of the outputs of the level before each."""
        levels = range(max(chunk.start - 1, 0), chunk.stop - 1)
        first, last = self.levels.span(levels)
        given = self.levels.cut(self.dy[first:last], levels) if levels else ()
        return [*given] if chunk.start else [self._of_roots(), *given]

    def _of_roots(self) -> Tensor:
        """Give the gradient from outside of the first states: none."""
        return self.run.x.new_zeros(self.levels.roots, self.run.y.shape[1])

    def _memory_before(self, level: int, below: Tensor) -> Tensor:
        """Sum the gradients of the memories of the level before: from the level and from outside."""
        levels = self.levels
        n, before = levels.widths[level], levels.widths_before[level]
        if not levels.straight[level]:
            total = levels.onto_parents(level, below)
        elif n == before:
            total = below
        else:
            total = torch.cat((below, below.new_zeros(before - n, below.shape[1])))
        return self._add_given_out(level - 1, total)

    def _add_given_out(self, level: int, total: Tensor) -> Tensor:
        """Add the gradients of those memories of a level that were given out."""
        levels = self.levels
        if level >= 0 and self.dc is not None:
            i, j = levels.ends_starts[level], levels.ends_starts[level + 1]
            if i < j:
                total.index_add_(0, levels.ends[i:j] - levels.starts[level], self.dc[i:j])
        return total

    def _of_nodes(self, values: Tensor, first: int, last: int) -> Tensor:
        """Give what the forward pass kept of its nodes, for some nodes or positions."""
        return values[first:last] if self.node is None else values.index_select(0, self.node[first:last])

    def _project(self, level: int, dh: Tensor) -> None:
        """Add a level's share to the gradient of the projection."""
        assert self.run.inner is not None
        assert self.hr is not None
        self.hr.addmm_(dh.t(), self._of_nodes(self.run.inner, *self.levels.span(range(level, level + 1))))

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
