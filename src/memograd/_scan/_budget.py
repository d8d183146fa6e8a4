"""A recurrent module within a budget of bytes: what its pieces take, as measured, and the plan that follows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from memograd._replay._interpreter import Needs
from memograd._replay._plan import Costs, plan, quickest
from memograd._replay._trial import most_bytes
from memograd._scan._buffers import fresh
from memograd._scan._choice import fuses
from memograd._scan._pieces import Pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from torch import Tensor

    from memograd._replay._plan import Schedule
    from memograd._scan._pieces import Job

_SHORT = 8, 16  # steps of the first trials
_PART = 8  # a trial takes at most the eighth part of a sequence
_CALL = 6.0  # what it costs to run a piece, besides its steps, in steps (measured: LSTM, H = 256, two CPU cores)
STREAM = 6 << 10  # bytes of torch's random state, which is kept with a state where steps draw


@dataclass(frozen=True)
class Within:
    """How a call was planned to stay within a budget.

    Attributes:
        budget: bytes for states that are kept and for the piece at work.
        peak: the most of them that the plan takes.
        fixed: of these, what a piece takes whatever its length: gradients of the weights, packed weights.
        pieces: ranges of steps that are recorded and taken back at once; 1 where all is kept.
        kept: states that are kept at once.
        ahead: steps that are run a second time, or more often, for each step of the sequence.
    """

    budget: int
    peak: int
    fixed: int
    pieces: int
    kept: int
    ahead: float

    @staticmethod
    def of(schedule: Schedule, budget: int) -> Within:
        """Say what a plan comes to."""
        pieces, ahead = sum(1 for _ in schedule.pieces()), schedule.ahead / max(schedule.steps, 1)
        return Within(budget, schedule.peak, schedule.costs.fixed, pieces, schedule.kept, ahead)


def schedule_of(job: Job, budget: int, x: Tensor, first: Sequence[Tensor]) -> tuple[Schedule, bool]:
    """Plan a job within a budget.

    Args:
        job: what to run.
        budget: in bytes.
        x, first: as `run_pieces` takes them.

    Returns:
        The plan, and whether steps are recorded by their outputs: where not all fits, a record is smaller then.

    Raises:
        ValueError: the budget is too small.
    """
    kept = Pieces(job, holds_h=job.outputs_hold_h(x)).keep(first)
    carry = sum(job.course.width * t.shape[1] * t.element_size() for t in kept) + STREAM * bool(job.stack.dropout)
    kind, looks_back = (_class_of(job, x), job.course.width), False

    def costs(lengths: Sequence[int]) -> Costs:
        step, fixed = sizes(lambda n: _trial(job, x, first, n, looks_back), lengths, _measured, (kind, looks_back))
        extra = unseen(job, x, looks_back)
        # Where levels are of many widths, a piece may hold one step more than it counts.
        fixed += extra.fixed + (0 if job.course.even else step + extra.step)
        return Costs(carry, step + extra.step, fixed)

    if (whole := all_kept(job.course.steps, budget, costs)) is not None:
        return whole, False
    looks_back = job.can_look_back(x)
    return planned(job.course.steps, budget, spilled(costs, job.spill)), looks_back


def spilled(costs: Callable[[Sequence[int]], Costs], spill: str | None) -> Callable[[Sequence[int]], Costs]:
    """Let states in a file cost nothing, but for two: the one at hand, and the one that is read ahead of its time."""
    if spill is None:
        return costs

    def cheaper(lengths: Sequence[int]) -> Costs:
        found = costs(lengths)
        return Costs(0, found.step, found.fixed + 2 * found.carry)

    return cheaper


def all_kept(steps: int, budget: int, costs: Callable[[Sequence[int]], Costs]) -> Schedule | None:
    """Plan one piece of all steps where it fits; None where it does not."""
    rough = costs([min(n, steps) for n in _SHORT])
    return plan(steps, budget, rough) if rough.fixed + steps * rough.step <= budget else None


def planned(steps: int, budget: int, costs: Callable[[Sequence[int]], Costs], call: float = _CALL) -> Schedule:
    """Plan by what trials say: of a few steps, then of about as many as a piece will have.

    Args:
        steps: T.
        budget: in bytes.
        costs: makes trials of so many steps, and says what they took.
        call: what it costs to run a piece, besides its steps, in steps.
    """
    # A few steps at first: a step may take more than the budget.
    rough = costs([min(n, steps) for n in (1, 2)])
    if rough.fixed + _SHORT[-1] * rough.step <= budget:
        if (whole := all_kept(steps, budget, costs)) is not None:
            return whole
        rough = costs([min(n, steps) for n in _SHORT])
    room = min((budget - rough.fixed) // max(rough.step, 1), max(steps // _PART, *_SHORT), steps)
    near = [1, 2, 4, 8] if room < _SHORT[0] else [room // 4, room // 2, room]
    near = [n for n in near if n <= max(room, 2)]
    return quickest(steps, budget, costs(sorted({min(n, steps) for n in near})), call)


_measured: dict[Hashable, int] = {}


def sizes(
    trial: Callable[[int], int], lengths: Sequence[int], known: dict[Hashable, int], kind: Hashable
) -> tuple[int, int]:
    """Give the bytes of a step, and those of a piece besides, such that no trial took more.

    Args:
        trial: says what a piece of so many steps takes; each is made once.
        lengths: of the pieces to try, the shortest first.
        known: what trials have said before.
        kind: what their sizes depend on.
    """
    for n in lengths:
        if (kind, n) not in known:
            known[kind, n] = trial(n)
    taken = [known[kind, n] for n in lengths]
    longer = lengths[-1] - lengths[0]
    step = max(-((taken[0] - taken[-1]) // longer), 1) if longer else -(-taken[0] // lengths[0])
    return step, max(0, *(most - n * step for n, most in zip(lengths, taken, strict=True)), 0)


def _trial(job: Job, x: Tensor, first: Sequence[Tensor], steps: int, looks_back: bool) -> int:
    """Run a piece forward and back; give the most bytes that it took."""
    quiet = replace(job, stack=replace(job.stack, dropout=0.0))
    needs = Needs((x.requires_grad,), (True,) * len(first), tuple(w.requires_grad for w in job.flat))
    y = job.some_outputs(x, steps, first) if looks_back else None
    with fresh():
        program = Pieces(quiet, x.detach(), y, looks_back=looks_back)
        return most_bytes(program, steps, first, job.flat, needs, outputs=1)


def _class_of(job: Job, x: Tensor) -> Hashable:
    """Name what the sizes of a piece depend on."""
    stack = job.stack
    shapes = tuple(tuple(w.shape) for w in job.flat)
    asked = x.requires_grad, tuple(w.requires_grad for w in job.flat)
    return stack.mode, shapes, asked, x.dtype, x.device, torch.is_autocast_enabled(x.device.type), job.source is None


def unseen(job: Job, x: Tensor, looks_back: bool) -> Costs:
    """Give what a fused kernel takes for itself on a CPU, which no trial sees: gates a step, and packed weights."""
    stack = job.stack
    if x.is_cuda or not all(fuses(stack.cell, stack.at(depth, 0), x) for depth in range(len(stack.weights))):
        return Costs(0, 0)
    each = [sum(w.nbytes for w in of[0]) for of in stack.weights]
    size, packed, laid = stack.weights[0][0][1].shape[1], max(each), sum(each)
    if looks_back and len(each) == 1:
        return Costs(0, 0, laid)
    gates = job.course.width * stack.cell.gates * size * x.element_size()
    return Costs(0, gates + gates // 8, 2 * packed + packed // 2 + laid)
