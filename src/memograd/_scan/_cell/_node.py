"""A cell's whole sequence as one node of the graph, within a budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from memograd._ambient._streams import loaded_streams, read_streams, set_streams
from memograd._replay._interpreter import Interpreter, Needs
from memograd._replay._spill import Spill
from memograd._scan._cell._reads import Strangers
from memograd._scan._layer import final
from memograd._scan._torch import apply
from memograd._share._sums import check_one_backward

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from memograd._replay._plan import Schedule
    from memograd._scan._cell._program import CellPieces


class Drew(Exception):  # noqa: N818 - control flow: the call is planned again
    """A step drew from a random stream, and the first one had not."""


def run_cell(
    program: CellPieces,
    schedule: Schedule,
    xs: Sequence[Tensor],
    carry: Sequence[Tensor],
    like: Sequence[Tensor],
    spill: str | None = None,
) -> tuple[list[Tensor], list[Tensor]]:
    """Run a cell within its budget.

    Args:
        program: its pieces; the sequence is given below.
        schedule: what to keep and what to run again.
        xs: (T, ...) inputs.
        carry: the first state.
        like: an output of one step.
        spill: the folder of a file for states; None to keep them in memory.

    Returns:
        (T, ...) outputs, and the last state.

    Raises:
        Strangers, Drew: it cannot be run like this; random streams are where they were.
    """
    found = apply(_Budgeted, program, schedule, len(xs), (like, spill), *xs, *carry, *program.reads.tensors)
    return list(found[: len(like)]), list(found[len(like) :])


class _Budgeted(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, program: CellPieces, schedule: Schedule, inputs: int, how: Any, *given: Tensor
    ) -> tuple[Tensor, ...]:
        like, folder = how
        ends = inputs, len(given) - len(program.reads.tensors)
        xs, carry, weights = _parts([t.detach() for t in given], ends)
        needs = Needs(*map(tuple, _parts(list(ctx.needs_input_grad[4:]), ends)))
        program.xs, program.out = xs, [t.new_empty(schedule.steps, *t.shape) for t in like]
        spill = None if folder is None else Spill(folder)
        ctx.interpreter, ctx.ends = Interpreter(program, schedule, needs, spill=spill), ends
        last = _forward(ctx.interpreter, program, carry, weights)
        out = tuple(program.out)
        program.xs = program.out = ()  # what holds this node must not be held by it
        ctx.save_for_backward(*given)
        ctx.set_materialize_grads(False)
        # What is passed on as it came is an output of its own.
        results = (*out, *(t.clone() if any(t is x for x in carry) else t for t in last))
        ctx.mark_non_differentiable(*(t for t in results if not (t.is_floating_point() or t.is_complex())))
        return results

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Any, ...]:
        check_one_backward(*grad_outputs)
        program: CellPieces = ctx.interpreter.program
        program.xs, carry, weights = _parts([t.detach() for t in ctx.saved_tensors], ctx.ends)
        if changed := program.standing.changed():
            raise RuntimeError(
                f"memo.scan: {changed} was changed since the forward pass, which reads it again on the way back. Go "
                "backward before, or change a copy."
            )
        outputs = len(grad_outputs) - len(carry)
        asked = ctx.needs_input_grad[4 : 4 + ctx.ends[0]]
        program.dout = grad_outputs[:outputs]
        dxs = [torch.zeros_like(x) if needed else None for x, needed in zip(program.xs, asked, strict=True)]
        program.dxs = dxs
        try:
            with program.standing.flags():
                dcarry, dweights = ctx.interpreter.back(carry, weights, grad_outputs[outputs:])
        except Strangers as error:
            raise RuntimeError(
                f"memo.scan: {error}. Let the first step read it, too, or hold it in the module that is the cell."
            ) from None
        finally:
            program.xs, program.dout, program.dxs = (), (), []
        return None, None, None, None, *final([*dxs, *dcarry, *dweights])


def _forward(interpreter: Interpreter, program: CellPieces, carry: list[Any], weights: list[Any]) -> list[Tensor]:
    streams = read_streams(loaded_streams())
    try:
        last = interpreter.forward(carry, weights)
    except Strangers:
        set_streams(streams)
        program.standing.put_back()
        raise
    if program.draws or read_streams(streams) == streams:
        return last
    set_streams(streams)
    raise Drew


def _parts(values: list[Any], ends: tuple[int, int]) -> tuple[list[Any], list[Any], list[Any]]:
    return values[: ends[0]], values[ends[0] : ends[1]], values[ends[1] :]
