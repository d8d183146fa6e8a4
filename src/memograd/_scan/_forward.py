"""The forward pass of one recurrent layer over a trie, level by level: every node once.

The product with the hidden state is taken once per *parent* where a level branches widely; that with the input once
per *distinct input row* where there are fewer of those than nodes (tokens of a vocabulary).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from memograd._scan._buffers import lend
from memograd._scan._levels import FAN, Levels, inputs
from memograd._scan._threads import threads_for

if TYPE_CHECKING:
    from memograd._scan._cells import Cell
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
    _run_levels(run, c0)
    return run


class _Scratch:
    """What the levels of a chunk share and the next chunk overwrites.

    Attributes:
        gx, gh: (n, gates H) the products with the input and, where they are kept apart, with the hidden state.
        notes: (n, notes H) what is left for ``finish``.
    """

    def __init__(self, run: Run) -> None:
        cell, size, n = run.cell, run.w.size, run.levels.widest_chunk
        columns = (cell.gates, 0 if cell.merged else cell.gates, cell.notes)
        self.gx, self.gh, self.notes = (lend(n, k * size, run.x) for k in columns)


def _run_levels(run: Run, memory: Tensor | None) -> None:
    levels, w = run.levels, run.w
    table = w.input_product(run.x, run.x.new_empty(len(run.x), w.ih.shape[0])) if run.distinct else None
    scratch = _Scratch(run)
    for chunk in levels.chunks():
        first, last = levels.span(chunk)
        gx = scratch.gx[: last - first]
        if table is not None:
            assert levels.source is not None
            torch.index_select(table, 0, levels.source[first:last], out=gx)
        else:
            w.input_product(inputs(run.x, levels, first, last), gx)
        with threads_for(levels.widest(chunk), w.size, run.x):
            for level in chunk:
                memory = _run_level(run, level, first, scratch, memory)
        if run.factors is not None:
            into, gh, notes = run.factors[first:last], scratch.gh[: last - first], scratch.notes[: last - first]
            out = run.y if run.inner is None else run.inner
            run.cell.finish(gx, gh, out[first:last], notes, into)


def _run_level(run: Run, level: int, first: int, scratch: _Scratch, memory: Tensor | None) -> Tensor | None:
    """Take one step for all nodes of a level; give their memories."""
    levels, cell, w = run.levels, run.cell, run.w
    a, b = levels.starts[level], levels.starts[level + 1]
    here = slice(a - first, b - first)
    before = run.y[levels.at[level - 1]] if level else run.h0
    parent = levels.parents(level)
    gx = scratch.gx[here]
    gh = _add_hidden(run, before, parent, gx) if cell.merged else _hidden(run, before, parent, scratch.gh[here])
    state = before if memory is None else memory
    state = state[: b - a] if parent is None else state.index_select(0, parent)
    out = run.y[a:b] if w.hr is None else gx.new_empty(b - a, w.size) if run.inner is None else run.inner[a:b]
    memory = cell.step(gx, gh, state, out, scratch.notes[here])
    if w.hr is not None:
        torch.mm(out, w.hr.t(), out=run.y[a:b])
    i, j = levels.ends_starts[level], levels.ends_starts[level + 1]
    if memory is not None and i < j:
        torch.index_select(memory, 0, levels.ends[i:j] - a, out=run.c[i:j])
    return memory


def _add_hidden(run: Run, before: Tensor, parent: Tensor | None, gx: Tensor) -> Tensor:
    """Add the product with the hidden state to that with the input."""
    if parent is None:
        return gx.addmm_(before[: len(gx)], run.w.hh.t())
    if len(gx) > FAN * len(before):
        return gx.add_((before @ run.w.hh.t()).index_select(0, parent))
    return gx.addmm_(before.index_select(0, parent), run.w.hh.t())


def _hidden(run: Run, before: Tensor, parent: Tensor | None, gh: Tensor) -> Tensor:
    """Take the product with the hidden state."""
    if parent is None:
        return run.w.hidden_product(before[: len(gh)], gh)
    if len(gh) > FAN * len(before):
        wide = run.w.hidden_product(before, gh.new_empty(len(before), gh.shape[1]))
        return torch.index_select(wide, 0, parent, out=gh)
    return run.w.hidden_product(before.index_select(0, parent), gh)
