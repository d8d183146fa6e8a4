"""The forward pass of one recurrent layer over a trie, level by level: every node once.

The product with the hidden state is taken once per *parent* where a level branches widely; that with the input once
per *distinct input row* where there are fewer of those than nodes (tokens of a vocabulary). What can be done for many
levels at once (the product with the input, cutting matrices into levels and gates) is done once a chunk: where a level
is one row, a call costs as much as its arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from memograd._scan._buffers import lend
from memograd._scan._levels import Levels, inputs
from memograd._scan._threads import threads_for

if TYPE_CHECKING:
    from memograd._scan._cells import Cell, Views
    from memograd._scan._weights import Arranged


@dataclass(frozen=True)
class Run:
    """A forward pass, with what its backward pass needs.

    Attributes:
        x: the rows that ``levels.source`` points into.
        h0: (roots, R) first states.
        y: (n, R) outputs.
        c: (len(levels.ends), H) the memories given out, empty for a cell without one.
        factors: (n, saved H) on loan; None where no gradient is wanted.
        inner: (n, H) outputs before the projection, where there is one and a gradient is wanted.
        distinct: whether the input's product was taken once per distinct row.
    """

    cell: type[Cell]
    w: Arranged
    levels: Levels
    x: Tensor
    h0: Tensor
    y: Tensor
    c: Tensor
    factors: Tensor | None
    inner: Tensor | None
    distinct: bool


def forward(cell: type[Cell], w: Arranged, levels: Levels, x: Tensor, h0: Tensor, c0: Tensor | None, keep: bool) -> Run:
    """Run a layer over a trie.

    Args:
        cell: the recurrent step.
        w: its weights.
        levels: the trie.
        x: (rows, E) inputs.
        h0: (roots, R) first states.
        c0: (roots, H) first memories, for a cell with one.
        keep: whether a backward pass will follow.
    """
    n, size = levels.nodes, w.size
    run = Run(
        cell, w, levels, x, h0,
        y=x.new_empty(n, h0.shape[1]),
        c=x.new_empty(len(levels.ends) if cell.has_memory else 0, size),
        factors=lend(n, cell.saved * size, x) if keep else None,
        inner=x.new_empty(n, size) if keep and w.hr is not None else None,
        distinct=levels.source is not None and 2 * len(x) <= n,
    )  # fmt: skip
    steps = Steps(run, c0)
    for chunk in levels.chunks:
        steps.take(chunk)
    return run


class Steps:
    """The steps of a forward pass, one level after the other.

    Attributes:
        gx, gh, notes: what the levels of a chunk share and the next chunk overwrites: (n, gates H) the products with
            the input and, where they are kept apart, with the hidden state; (n, notes H) what is left for ``finish``.
        before, memory: outputs and memories of the level before.
    """

    def __init__(self, run: Run, memory: Tensor | None) -> None:
        w, cell, n = run.w, run.cell, run.levels.widest_chunk
        columns = (cell.gates, 0 if cell.merged else cell.gates, cell.notes)
        self.gx, self.gh, self.notes = (lend(n, k * w.size, run.x) for k in columns)
        self.run, self.before, self.memory = run, run.h0, memory
        self._hh, self._bias = w.hh.t(), w.b_h
        self._table = w.input_product(run.x, run.x.new_empty(len(run.x), w.ih.shape[0])) if run.distinct else None

    def take(self, chunk: range) -> None:
        """Take the steps of a chunk's levels."""
        run, levels = self.run, self.run.levels
        first, last = levels.span(chunk)
        gx, gh, notes = (scratch[: last - first] for scratch in (self.gx, self.gh, self.notes))
        self._input_product(first, last, gx)
        views = run.cell.ahead(gx, gh, notes)
        out, y = self._outputs(first, last)
        of_cell = zip(*(levels.cut(v, chunk) for v in views), strict=True)
        products, outs = levels.cut(gx if run.cell.merged else gh, chunk), levels.cut(out, chunk)
        ys = outs if y is out else levels.cut(y, chunk)
        with threads_for(levels.widest(chunk), run.w.size, run.x):
            for step in zip(chunk, of_cell, products, outs, ys, strict=True):
                self._level(*step)
        if run.factors is not None:
            run.cell.finish(views, out, run.factors[first:last])

    def _input_product(self, first: int, last: int, gx: Tensor) -> None:
        levels = self.run.levels
        if self._table is None:
            self.run.w.input_product(inputs(self.run.x, levels, first, last), gx)
        else:
            assert levels.source is not None
            torch.index_select(self._table, 0, levels.source[first:last], out=gx)

    def _outputs(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Give where the outputs of nodes go before the projection, and where they go behind it."""
        y = self.run.y[first:last]
        if self.run.w.hr is None:
            return y, y
        inner = self.run.inner
        return y.new_empty(last - first, self.run.w.size) if inner is None else inner[first:last], y

    def _level(self, level: int, views: Views, product: Tensor, out: Tensor, y: Tensor) -> None:
        """Take one step for all nodes of a level.

        Args:
            level: the level.
            views: of the cell's step.
            product: receives the product with the hidden state, or that with the input has it added.
            out: receives the outputs before the projection.
            y: receives the outputs; ``out`` where there is no projection.
        """
        run, levels = self.run, self.run.levels
        if levels.fans(level):
            self._product_per_parent(level, product)
        else:
            self._product(levels.of_parents(level, self.before), product)
        state = self.before if self.memory is None else self.memory
        self.memory = run.cell.step(views, levels.of_parents(level, state), out)
        if run.w.hr is not None:
            torch.mm(out, run.w.hr.t(), out=y)
        self.before = y
        if self.memory is not None:
            self._give_out(level, self.memory)

    def _product(self, h: Tensor, into: Tensor) -> None:
        """Take the product with the hidden state, added to that with the input where the cell merges the two."""
        if self._bias is not None:
            torch.addmm(self._bias, h, self._hh, out=into)
        elif self.run.cell.merged:
            into.addmm_(h, self._hh)
        else:
            torch.mm(h, self._hh, out=into)

    def _product_per_parent(self, level: int, into: Tensor) -> None:
        """Take it for all nodes of a level by taking it for their parents, of which there are fewer."""
        levels, h = self.run.levels, self.before
        if self.run.cell.merged:
            into.add_(levels.of_parents(level, h @ self._hh))
        else:
            wide = self.run.w.hidden_product(h, into.new_empty(len(h), into.shape[1]))
            torch.index_select(wide, 0, levels.parent[levels.at[level]], out=into)

    def _give_out(self, level: int, memory: Tensor) -> None:
        """Keep the memories of those nodes at which a row ends."""
        levels = self.run.levels
        i, j = levels.ends_starts[level], levels.ends_starts[level + 1]
        if i < j:
            torch.index_select(memory, 0, levels.ends[i:j] - levels.starts[level], out=self.run.c[i:j])
