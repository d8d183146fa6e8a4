"""A recurrent module in pieces: what runs within a budget (``_replay``), all layers of a piece at once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from memograd._replay._interpreter import Interpreter, Needs
from memograd._replay._memory import version
from memograd._replay._spill import Spill
from memograd._scan._buffers import fresh
from memograd._scan._choice import fuses
from memograd._scan._course import Lanes
from memograd._scan._hindsight import hindsight, knows
from memograd._scan._layer import final, layer
from memograd._scan._straight import fused, packed
from memograd._scan._torch import apply
from memograd._share._arrays import on
from memograd._share._sums import check_one_backward

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from memograd._replay._plan import Schedule
    from memograd._scan._course import Course
    from memograd._scan._stack import Stack
    from memograd._scan._straight import Packed
    from memograd._scan._weights import Weights


@dataclass(frozen=True)
class Job:
    """A stack of layers of one direction over a course.

    Attributes:
        stack: the layers.
        course: what they run over.
        source: (nodes,) the row of the input that a node reads; None where the input has a value for each node.
        rows_first: whether outputs, (B, T, R), are laid out as a plain module's are.
        window: gradients do not pass the steps, each of one width, that are multiples of it; None for all to pass.
        spill: the folder of a file for states, "" for where temporary files are; None to keep them in memory.
    """

    stack: Stack
    course: Course
    source: Tensor | None = None
    rows_first: bool = False
    window: int | None = None
    spill: str | None = None

    @property
    def memory(self) -> int:
        """Tensors of a state, per layer."""
        return 2 if self.stack.cell.has_memory else 1

    def with_weights(self, flat: Sequence[Tensor]) -> Stack:
        """Give the stack with other tensors for weights."""
        given = iter(flat)
        return replace(self.stack, weights=[[[next(given) for _ in w] for w in of] for of in self.stack.weights])

    def outputs_hold_h(self, x: Tensor) -> bool:
        """Tell whether the last layer's h need not be kept: it is an output, which the plain module saves, too."""
        wide = x.dtype in {torch.float32, torch.float64} and not torch.is_autocast_enabled(x.device.type)
        return isinstance(self.course, Lanes) and wide

    def can_look_back(self, x: Tensor) -> bool:
        """Tell whether the last layer's steps can be recorded by their outputs."""
        return knows(self.stack.at(len(self.stack.weights) - 1, 0), x)

    def some_outputs(self, x: Tensor, steps: int, first: Sequence[Tensor]) -> Tensor:
        """Give outputs of the first steps, of zeros."""
        size = first[-self.memory].shape[1]
        if isinstance(self.course, Lanes):
            return x.new_zeros(steps, self.course.width, size)
        return x.new_zeros(steps * self.course.width, size)

    @property
    def flat(self) -> list[Tensor]:
        """All weights."""
        return [w for of_layer in self.stack.weights for of_direction in of_layer for w in of_direction]


@dataclass
class Pieces:
    """The program of a job (``_replay._interpreter.Program``).

    Attributes:
        x: the inputs.
        y, ends: receive outputs, and each layer's states where rows end; let go when they are given out.
        holds_h: whether the last layer's h is read from `y`, and not kept.
        looks_back: whether the last layer's steps, once run, are recorded by their outputs.
        laid: each layer's weights as oneDNN has them, from the first piece on that asks; to be let go after the last.
        dy, dends: the gradients of these.
        dx: receives the gradients of the inputs, where they are asked for.
    """

    job: Job
    x: Tensor | None = None
    y: Tensor | None = None
    ends: list[Tensor] = field(default_factory=list["Tensor"])
    dy: Tensor | None = None
    dends: Sequence[Tensor | None] = ()
    dx: Tensor | None = None
    holds_h: bool = False
    looks_back: bool = False
    laid: dict[int, Packed | None] = field(default_factory=dict[int, "Packed | None"])

    @property
    def draws(self) -> bool:
        """Whether a dropout is active."""
        return self.job.stack.dropout > 0

    @property
    def wants_outputs(self) -> bool:
        """Whether there is room for outputs that were lost."""
        return self.y is not None and (self.holds_h or self.looks_back)

    def read(self, begin: int, end: int) -> list[Tensor]:
        """Give the inputs of steps, a row for each node."""
        assert self.x is not None
        if self.job.source is None:
            return [self.job.course.cut(self.x, begin, end)]
        return [self.x.index_select(0, self.job.course.cut(self.job.source, begin, end))]

    def run(
        self, begin: int, end: int, inputs: Sequence[Tensor], carry: Sequence[Tensor], weights: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Run all layers; give outputs, each layer's states where rows end, and its states behind the steps."""
        stack, window = self.job.with_weights(weights), self.job.window
        if window is None:
            return self._through(stack, (begin, end), inputs[0], carry)
        ys: list[Tensor] = []
        ends: list[Tensor] = []
        width, state = self.job.course.width, list(carry)
        for a in (begin, *range(begin - begin % window + window, end, window)):
            b = min(a - a % window + window, end)
            if a and a % window == 0:
                state = [t.detach() for t in state]
            x = inputs[0][(a - begin) * width : (b - begin) * width]
            (y, *ends), state = self._through(stack, (a, b), x, state)
            ys.append(y)
        return [_joined(ys), *ends], state

    def _through(
        self, stack: Stack, steps: tuple[int, int], x: Tensor, carry: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Run all layers over steps between which gradients pass."""
        each = self.job.memory
        ends: list[Tensor] = []
        behind: list[Tensor] = []
        for depth in range(len(stack.weights)):
            if depth and stack.dropout:
                x = functional.dropout(x, stack.dropout)
            state = [*carry[depth * each : (depth + 1) * each]]
            x, of_ends, state = self._layer(stack, depth, steps, x, state)
            ends += of_ends
            behind += state
        return [x, *ends], behind

    def _layer(
        self, stack: Stack, depth: int, steps: tuple[int, int], x: Tensor, state: list[Tensor]
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Run one layer over steps; give outputs, states where rows end, and states behind it."""
        ys: list[Tensor] = []
        ends: list[list[Tensor]] = [[] for _ in state]
        w = stack.at(depth, 0)
        known = self._known(*steps) if depth == len(stack.weights) - 1 else None
        for levels, nodes, by_kernel in self.job.course.stretches(*steps, fuses(stack.cell, w, x)):
            way = self._way(stack, depth, by_kernel, known[nodes] if known is not None else None)
            y, given = way(w, levels, x[nodes], state[0], state[1] if len(state) > 1 else None)
            width = levels.width(len(levels) - 1)
            at = on(x.device, levels.row_ends)
            ends[0].append(y.index_select(0, levels.ends.index_select(0, at)))
            state = [y[len(y) - width :]]
            if stack.cell.has_memory:
                ends[1].append(given.index_select(0, at))
                state.append(given[len(given) - width :])
            ys.append(y)
        return _joined(ys), [_joined(of) for of in ends], state

    def _way(self, stack: Stack, depth: int, by_kernel: bool, known: Tensor | None) -> Callable[..., Any]:
        """Give the way to run a layer over a stretch."""
        if known is not None:
            return partial(hindsight, stack.cell, y=known)
        w = stack.at(depth, 0)
        return partial(fused, stack.mode, laid=self._laid(depth, w)) if by_kernel else partial(layer, stack.cell)

    def _known(self, begin: int, end: int) -> Tensor | None:
        """Give the outputs of steps that are to be recorded by them, a row for each node; None for others."""
        if not (self.looks_back and torch.is_grad_enabled()):
            return None
        assert self.y is not None
        return self.job.course.cut(self.y, begin, end)

    def _laid(self, depth: int, w: Weights) -> Packed | None:
        if depth not in self.laid:
            self.laid[depth] = packed(w, self.job.course.width)
        return self.laid[depth]

    def write(self, begin: int, end: int, outputs: Sequence[Tensor]) -> None:
        """Put outputs and ends where they belong."""
        assert self.y is not None
        self.job.course.paste(self.y, begin, end, outputs[0])
        at = self.job.course.ends_of(begin, end)
        for into, rows in zip(self.ends, outputs[1:], strict=True):
            into[at] = rows

    def coming(self, begin: int, end: int) -> list[Tensor | None]:
        """Give their gradients."""
        at = self.job.course.ends_of(begin, end)
        dy = None if self.dy is None else self.job.course.cut(self.dy, begin, end)
        return [dy, *(None if g is None or at.start == at.stop else g[at] for g in self.dends)]

    def give(self, begin: int, end: int, grads: Sequence[Tensor | None]) -> None:
        """Put, or add, the inputs' gradients."""
        grad = grads[0]
        if self.dx is None or grad is None:
            return
        if self.job.source is None:
            self.job.course.paste(self.dx, begin, end, grad)
        else:
            self.dx.index_add_(0, self.job.course.cut(self.job.source, begin, end), grad)

    def let_go(self) -> None:
        """Hold nothing of a call."""
        self.x = self.y = self.dx = self.dy = None
        self.ends, self.dends = [], ()
        self.laid.clear()

    def keep(self, carry: Sequence[Tensor]) -> Sequence[Tensor]:
        """Give all of a state but what outputs hold."""
        return [t for k, t in enumerate(carry) if not self.holds_h or k != len(carry) - self.job.memory]

    def restore(self, at: int, kept: Sequence[Tensor]) -> list[Tensor]:
        """Give a state, the last layer's h from the outputs of the step before."""
        if not self.holds_h:
            return list(kept)
        assert self.y is not None
        state, h = list(kept), self.y[at - 1]
        state.insert(len(state) + 1 - self.job.memory, h)
        return state


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def run_pieces(
    job: Job, schedule: Schedule, looks_back: bool, x: Tensor, first: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Run a job within its budget.

    Args:
        job: what to run.
        schedule: how.
        looks_back: whether the last layer's steps are recorded by their outputs.
        x: the inputs: (T, B, E), or (k, E) rows.
        first: the first states: for each layer h, and c where there is one.

    Returns:
        Outputs, and for each layer the states (ends, R) where rows end, as in `first`.
    """
    y, *ends = apply(_Budgeted, job, schedule, looks_back, x, *first, *job.flat)
    return y, ends


class _Budgeted(torch.autograd.Function):
    """A job as one node of the graph."""

    @staticmethod
    def forward(
        ctx: Any, job: Job, schedule: Schedule, looks_back: bool, x: Tensor, *rest: Tensor
    ) -> tuple[Tensor, ...]:
        states = len(job.stack.weights) * job.memory
        first, weights = [t.detach() for t in rest[:states]], [t.detach() for t in rest[states:]]
        asked = ctx.needs_input_grad[3:]
        needs = Needs(asked[:1], asked[1 : states + 1], asked[states + 1 :])
        y, ends = _outputs(job, x, first)
        held = job.outputs_hold_h(x)
        laid_out = y.transpose(0, 1) if job.rows_first else y
        program = Pieces(job, x.detach(), laid_out, ends, holds_h=held, looks_back=looks_back)
        spill = None if job.spill is None else Spill(job.spill)
        ctx.interpreter, ctx.states = Interpreter(program, schedule, needs, owns=True, spill=spill), states
        with fresh():
            ctx.interpreter.forward(first, weights)
        # What holds this node must not be held by it; outputs are held as memory, until the first way back.
        ctx.held = (laid_out.detach(), version(y)) if held or looks_back else None
        program.let_go()
        ctx.save_for_backward(x, *rest)
        ctx.set_materialize_grads(False)
        return y, *ends

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Any, ...]:
        check_one_backward(*grad_outputs)
        x, *rest = (t.detach() for t in ctx.saved_tensors)
        program: Pieces = ctx.interpreter.program
        first, weights = rest[: ctx.states], rest[ctx.states :]
        dy, *program.dends = grad_outputs
        program.x, program.dy = x, dy.transpose(0, 1) if program.job.rows_first and dy is not None else dy
        program.dx = torch.zeros_like(x) if ctx.needs_input_grad[3] else None
        with fresh():
            if program.holds_h or program.looks_back:
                _have_outputs(ctx, program, x, first)
            dfirst, dweights = ctx.interpreter.back(first, weights, [None] * len(first))
        dx = program.dx
        program.let_go()
        return None, None, None, *final([dx, *dfirst, *dweights])


def _have_outputs(ctx: Any, program: Pieces, x: Tensor, first: Sequence[Tensor]) -> None:
    """Take the outputs to read states from; where they are gone or were changed, all steps are run again for them."""
    held, ctx.held = ctx.held, None
    if held is not None and version(held[0]) == held[1]:
        program.y = held[0]
        return
    y, program.ends = _outputs(program.job, x, first)
    program.y = y.transpose(0, 1) if program.job.rows_first else y
    ctx.interpreter.forget()


def _outputs(job: Job, x: Tensor, first: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Give room for outputs, and for states where rows end."""
    size, course = first[(len(job.stack.weights) - 1) * job.memory].shape[1], job.course
    if job.source is not None or x.dim() == 2:
        rows = x.shape[:-1] if job.source is None else job.source.shape
        y = x.new_empty(*rows, size)
    elif job.rows_first:
        steps, width = x.shape[:2]
        # Not a transposed view, which may not be changed in place as the plain module's outputs may.
        y = x.new_empty_strided((width, steps, size), (size, width * size, 1))
    else:
        y = x.new_empty(*x.shape[:2], size)
    return y, [x.new_empty(course.ends, t.shape[1]) for t in first]
