"""The forward pass of one recurrent layer over a trie: every node once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from memograd._scan._buffers import Loan
from memograd._scan._cells import Cell
from memograd._scan._levels import FAN, Arranged, Levels, inputs


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
    factors: Loan | None
    inner: Tensor | None
    distinct: bool


def forward(
    cell: type[Cell], w: Arranged, levels: Levels, x: Tensor, h0: Tensor, c0: Tensor | None, keep: bool
) -> Run:
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
        factors=Loan(n, cell.saved * size, x) if keep else None,
        inner=x.new_empty(n, size) if keep and w.hr is not None else None,
        distinct=levels.source is not None and 2 * len(x) <= n,
    )  # fmt: skip
    _run_levels(run, c0)
    return run


def _run_levels(run: Run, memory: Tensor | None) -> None:
    levels, w = run.levels, run.w
    table = w.input_product(run.x, run.x.new_empty(len(run.x), w.ih.shape[0])) if run.distinct else None
    product = Loan(levels.widest_chunk, run.cell.gates * w.size, run.x).tensor
    spare = [run.x.new_empty(levels.widest, w.size) for _ in range(2)]  # memories of this level and the one before
    for chunk in levels.chunks():
        first, last = levels.starts[chunk.start], levels.starts[chunk.stop]
        if table is not None:
            torch.index_select(table, 0, levels.source[first:last], out=product[: last - first])
        else:
            w.input_product(inputs(run.x, levels, first, last), product[: last - first])
        for level in chunk:
            a, b = levels.starts[level], levels.starts[level + 1]
            memory = _run_level(run, level, product[a - first : b - first], memory, spare[level % 2][: b - a])


def _run_level(run: Run, level: int, gx: Tensor, memory: Tensor | None, room: Tensor) -> Tensor | None:
    """Take one step for all nodes of a level; give their memories, which lie in ``room``."""
    levels, cell, w = run.levels, run.cell, run.w
    a, b = levels.starts[level], levels.starts[level + 1]
    before = run.y[levels.starts[level - 1] : a] if level else run.h0
    parent = levels.parents(level)
    gh = _hidden_product(run, before, parent, gx)
    state = memory if memory is not None else before
    state = state[: b - a] if parent is None else state.index_select(0, parent)
    factors = None if run.factors is None else run.factors.tensor[a:b]
    if w.hr is None:
        cell.step(gx, gh, state, run.y[a:b], room, factors)
    else:
        inner = gx.new_empty(b - a, w.size) if run.inner is None else run.inner[a:b]
        cell.step(gx, gh, state, inner, room, factors)
        torch.mm(inner, w.hr.t(), out=run.y[a:b])
    if not cell.has_memory:
        return None
    i, j = levels.ends_starts[level], levels.ends_starts[level + 1]
    if i < j:
        torch.index_select(room, 0, levels.ends[i:j] - a, out=run.c[i:j])
    return room


def _hidden_product(run: Run, before: Tensor, parent: Tensor | None, gx: Tensor) -> Tensor:
    """Take the product with the hidden state: into ``gx`` where the two are merged."""
    w, n = run.w, len(gx)
    if parent is not None and n > FAN * len(before):
        spread = w.hidden_product(before, gx.new_empty(len(before), gx.shape[1])).index_select(0, parent)
        return gx.add_(spread) if run.cell.merged else spread
    h = before[:n] if parent is None else before.index_select(0, parent)
    if run.cell.merged:
        return gx.addmm_(h, w.hh.t())
    return w.hidden_product(h, torch.empty_like(gx))
