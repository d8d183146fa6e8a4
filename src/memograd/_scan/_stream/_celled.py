"""The streamed loss of a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memograd._replay._plan import Costs
from memograd._scan._budget import STREAM, sizes
from memograd._scan._cell._form import Form
from memograd._scan._cell._look import look
from memograd._scan._cell._program import CellPieces
from memograd._scan._cell._steps import Steps
from memograd._scan._stream._feed import Feed, source_of
from memograd._scan._stream._loss import Result, Stream, loss_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    import torch
    from torch import Tensor

    from memograd._scan._cell._steps import Cell
    from memograd._scan._stream._recurrent import Asked


def cell_loss(
    cell: Cell, xs: Any, begin: Callable[[Tensor], Any], asked: Asked, device: torch.device, *, batch_first: bool
) -> tuple[Result, Form]:
    """Take the loss of a cell over a sequence.

    Args:
        cell: the cell.
        xs: inputs of any length: of one kind, not nested.
        begin: gives the first state, to one step of inputs (1, B, ...).
        asked: what of.
        device: where the cell computes.
        batch_first: whether inputs and targets are (B, T, ...).

    Returns:
        The result, and the form of its last state.
    """
    source = source_of(xs, int(batch_first), "xs")
    feed, x = Feed(source, device), source.read(0, 1).to(device)
    states, first = Form.of(begin(x), "the carry")
    steps = Steps(cell, Form.of(x, "xs")[0], states)
    seen = look(steps, [x[0]], first)
    if seen.why_not:
        raise ValueError(f"memo.scan: {seen.why_not}. A streamed loss runs steps again.")

    def pieces(at: int, _: int) -> CellPieces:
        given: Any = [feed.behind(at)]
        return CellPieces(steps, seen.reads, seen.standing, seen.ys, True, given)

    def shaped(outputs: Sequence[Tensor], _: int) -> Any:
        return seen.ys.filled([y.transpose(0, 1) if batch_first else y for y in outputs])

    known: dict[Hashable, int] = {}

    def costs(trial: Callable[[int], int], lengths: Sequence[int]) -> Costs:
        step, fixed = sizes(trial, lengths, known, None)
        return Costs(sum(t.nbytes for t in first) + STREAM, step, fixed)

    targets = asked.target_feed(source.steps, device, batch_first=batch_first)
    stream = Stream(
        pieces, costs, source.steps, first, seen.reads.tensors, shaped, asked.fn, targets,
        asked.reduction == "mean", asked.bounds, asked.bar,
    )  # fmt: skip
    return loss_of(stream), states
