"""A layer whose outputs are known: its derivative is formed without taking its steps again.

What makes a recurrent layer slow is that each step waits for the one before. Where the layer has run and its outputs
are still there (the caller holds them), the products with the hidden states are one product for many levels, and so
are the activations; of an LSTM the chain of memories is left, two small operations a level.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from memograd._scan._buffers import lend
from memograd._scan._forward import Run, Steps
from memograd._scan._layer import keep_for_backward, layer_backward
from memograd._scan._torch import apply
from memograd._scan._weights import Arranged, Weights

if TYPE_CHECKING:
    from memograd._scan._cells import Cell, Views
    from memograd._scan._levels import Levels


def knows(w: Weights, x: Tensor) -> bool:
    """Say whether a layer's outputs hold its states as it computed them, and their products beat its steps."""
    computed_in = torch.float64 if w.hh.dtype == torch.float64 else torch.float32
    return w.hr is None and not x.is_cuda and x.dtype == computed_in and not torch.is_autocast_enabled("cpu")


def hindsight(
    cell: type[Cell], w: Weights, levels: Levels, x: Tensor, h0: Tensor, c0: Tensor | None, y: Tensor
) -> tuple[Tensor, Tensor]:
    """Run a layer over a trie, differentiably, as `layer` does.

    Args:
        cell, w, levels, x, h0, c0: as `layer` takes them.
        y: (n, R) its outputs, which it had from these arguments.
    """
    return apply(_Hindsight, cell, levels, y.detach(), x, h0, c0, *w)


class _Hindsight(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, cell: type[Cell], levels: Levels, y: Tensor, x: Tensor, h0: Tensor, c0: Tensor | None, *w: Any
    ) -> tuple[Tensor, Tensor]:
        run = _formed(cell, Arranged(cell, Weights(*w)), levels, x, h0, c0, y)
        keep_for_backward(ctx, run, None, w)
        return y.detach(), run.c

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Any, ...]:
        return layer_backward(ctx, *grad_outputs)


def _formed(cell: type[Cell], w: Arranged, levels: Levels, x: Tensor, h0: Tensor, c0: Tensor | None, y: Tensor) -> Run:
    n, size = levels.nodes, w.size
    c = x.new_empty(len(levels.ends) if cell.has_memory else 0, size)
    run = Run(cell, w, levels, x, h0, y, c, lend(n, cell.saved * size, x), None, distinct=False)
    steps = _Known(run, c0)
    for chunk in levels.chunks:
        steps.take(chunk)
    return run


class _Known(Steps):
    """The steps of a forward pass that has been taken: all but the chain of memories at once."""

    def take(self, chunk: range) -> None:
        """Form the factors of a chunk's levels."""
        run, (first, last) = self.run, self.run.levels.span(chunk)
        assert run.factors is not None
        gx, gh, notes = (scratch[: last - first] for scratch in (self.gx, self.gh, self.notes))
        views = run.cell.ahead(gx, gh, notes)
        if not run.cell.output_is_enough:
            before = self._before(chunk)
            self._input_product(first, last, gx)
            self._product(before, gx if run.cell.merged else gh)
            run.cell.known(views, before, lambda: self._chain(chunk, views))
        run.cell.finish(views, run.y[first:last], run.factors[first:last])

    def _before(self, chunk: range) -> Tensor:
        """Give the state that each node of a chunk's levels begins from."""
        run, levels = self.run, self.run.levels
        if chunk.start:
            first, last = levels.span(chunk)
            return run.y.index_select(0, levels.above[first:last])
        first, last = levels.starts[1], levels.starts[chunk.stop]
        roots = run.h0.index_select(0, levels.parent[:first])
        return torch.cat((roots, run.y.index_select(0, levels.above[first:last])))

    def _chain(self, chunk: range, views: Views) -> None:
        """Take the memories through a chunk's levels."""
        levels = self.run.levels
        for level, of_cell in zip(chunk, zip(*(levels.cut(v, chunk) for v in views), strict=True), strict=True):
            assert self.memory is not None
            self.memory = self.run.cell.remember(of_cell, levels.of_parents(level, self.memory))
            self._give_out(level, self.memory)
