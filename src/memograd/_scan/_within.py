"""A whole recurrent module within a budget: one job for layers of one direction, else a job for each direction.

A layer that has seen both ends of a row needs all outputs of the layer below, so that a bidirectional module runs layer
by layer. What lies between its layers is then part of the budget, and what is left is divided among the directions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from memograd._scan._budget import Within, schedule_of
from memograd._scan._course import Branches, Lanes
from memograd._scan._directions import Direction
from memograd._scan._pieces import Job, run_pieces
from memograd._scan._states import Last, States
from memograd._share._arrays import on
from memograd._share._trie import chains

if TYPE_CHECKING:
    from torch import Tensor

    from memograd._scan._batch import Batch
    from memograd._scan._stack import Stack
    from memograd._scan._states import First
    from memograd._share._trie import Ints, Trie


_ANY = 1 << 62


class Bounds(NamedTuple):
    """What a call is to keep within; `Memo.scan` says what each is."""

    budget: int
    window: int | None = None
    spill: str | None = None

    @classmethod
    def of(cls, budget: int | None, window: int | None, spill: str | None) -> Bounds:
        """Make them of what was asked for; a budget that was not is any number of bytes."""
        return cls(_ANY if budget is None else budget, window, spill)


@dataclass(frozen=True)
class Result:
    """What a batch gives within a budget.

    Attributes:
        y: outputs: as the plain module lays them out, or a row for each node or position.
        node: (steps,) the row of `y` for each position; None where `y` needs no laying out.
        last: the rows' last states.
        within: how the budget is kept.
    """

    y: Tensor
    node: Ints | None
    last: States
    within: Within

    def laid_out(self, batch: Batch, dtype: torch.dtype) -> Tensor | PackedSequence:
        """Give the outputs as the plain module does."""
        y = self.y.to(dtype)
        if self.node is not None:
            return batch.laid_out(y, on(y.device, self.node))
        if isinstance(batch.input, PackedSequence):
            order, back = batch.input.sorted_indices, batch.input.unsorted_indices
            return PackedSequence(y, batch.input.batch_sizes, order, back)
        return y


def run_within(stack: Stack, batch: Batch, trie: Trie | None, first: First, bounds: Bounds) -> Result:
    """Run a plain batch within a budget, over its trie or, without one, row by row. A window takes equal rows."""
    if stack.bidirectional:
        return _both_ways(stack, batch, first.states, bounds)
    if trie is not None:
        roots = first.states.rows(on(batch.x.device, trie.root_row))
        y, last, within = run_trie_within(stack, batch.x, batch.place[trie.first], trie, roots, bounds)
        return Result(y, trie.node, last, within)
    if batch.ragged:
        rows = chains(batch.rows, np.arange(len(batch.rows)))
        source = None if isinstance(batch.input, PackedSequence) else batch.place
        y, last, within = run_trie_within(stack, batch.x, source, rows, first.states, bounds)
        return Result(y, None if source is None else rows.node, last, within)
    return _side_by_side(stack, batch, first.states, bounds)


def run_trie_within(
    stack: Stack, x: Tensor, source: Ints | None, trie: Trie, first: States, bounds: Bounds
) -> tuple[Tensor, States, Within]:
    """Run layers of one direction over a trie within a budget.

    Args:
        x, source: as `run_shared` takes them.
        trie: the prefixes.
        first: the first states of its roots.

    Returns:
        Outputs (nodes, R), the rows' last states, and how the budget is kept.
    """
    direction = Direction.of(trie, x.device)
    job = Job(stack, Branches(direction), None if source is None else direction.tensor(source), spill=bounds.spill)
    y, ends, within = _run(job, x, _listed(first), bounds.budget)
    last, each = Last(first), job.memory
    for depth in range(len(stack.weights)):
        h, *c = ends[depth * each : (depth + 1) * each]
        last.take_ends(depth, direction, h, c[0] if c else None)
    return y, last.states(), within


def _side_by_side(stack: Stack, batch: Batch, first: States, bounds: Bounds) -> Result:
    """Run rows of one length that share nothing."""
    assert not isinstance(batch.input, PackedSequence)
    x = batch.input.transpose(0, 1) if batch.batch_first else batch.input
    job = Job(stack, Lanes(x.shape[0], x.shape[1], x.device), None, batch.batch_first, bounds.window, bounds.spill)
    y, ends, within = _run(job, x, _listed(first), bounds.budget)
    last = States.of([torch.stack(ends[k :: job.memory]) for k in range(job.memory)])
    return Result(y, None, last, within)


def _both_ways(stack: Stack, batch: Batch, first: States, bounds: Bounds) -> Result:
    """Run layers one after the other, each of their directions by itself. Rows share nothing."""
    rows = chains(batch.rows, np.arange(len(batch.rows)))
    flip = batch.rows.reversed()
    onward, back = Direction.of(rows, batch.x.device), Direction(rows, flip, batch.x.device)
    between, budget = _between(stack, batch), bounds.budget
    share = (budget - between) // (2 * len(stack.weights))
    last, x, source = Last(first), batch.x, batch.place
    noted: list[Within] = []
    for depth, weights in enumerate(stack.weights):
        if depth and stack.dropout:
            x = functional.dropout(x, stack.dropout)
        parts: list[Tensor] = []
        for d, direction in enumerate((onward, back)):
            k, read = 2 * depth + d, source if d == 0 else source[flip]
            one = replace(stack, weights=[[weights[d]]], bidirectional=False, dropout=0.0)
            job = Job(one, Branches(direction), direction.tensor(read), spill=bounds.spill)
            state = [t for t in first.at(k) if t is not None]
            y, (h, *c), within = _run(job, x, state, share, beside=budget - share)
            last.take_ends(k, direction, h, c[0] if c else None)
            parts.append(y if d == 0 else y.index_select(0, direction.tensor(flip)))
            noted.append(within)
        x, source = torch.cat(parts, 1), np.arange(batch.rows.steps)
    return Result(x, rows.node, last.states(), _sum(noted, budget, between))


def _between(stack: Stack, batch: Batch) -> int:
    """Count the bytes of what lies between layers that have seen both ends of their rows."""
    size = sum(w[-1].shape[0] if w[-1].dim() == 2 and len(w) in {3, 5} else w[1].shape[1] for w in stack.weights[0])
    whole = batch.rows.steps * size * batch.x.element_size()
    # Of each layer its outputs; of the last both directions before they are joined; of a dropout a copy and a mask.
    return whole * (len(stack.weights) + 1) + (2 * whole * (len(stack.weights) - 1) if stack.dropout else 0)


def _sum(noted: list[Within], budget: int, between: int) -> Within:
    longest = max(noted, key=lambda within: within.ahead)
    return replace(longest, budget=budget, peak=between + sum(within.peak for within in noted))


def _listed(states: States) -> list[Tensor]:
    """Give the states layer by layer: h, and c where there is one."""
    return [t[k] for k in range(len(states.h)) for t in states.tensors]


def _run(job: Job, x: Tensor, first: list[Tensor], budget: int, beside: int = 0) -> tuple[Tensor, list[Tensor], Within]:
    try:
        schedule, looks_back = schedule_of(job, budget, x, first)
    except ValueError as error:
        more = f" (for this direction; {beside:,} bytes are for the rest)" if beside else ""
        raise ValueError(f"memo.scan: {error}{more}") from None
    y, ends = run_pieces(job, schedule, looks_back, x, first)
    return y, ends, Within.of(schedule, budget)
