"""The loss of a sequence that is read piece by piece, with its gradients.

Loss and gradients are taken at once, on the way forward and back that the plan has, so that the loss function runs once
a piece and nothing waits for a backward pass but a factor.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from memograd._ambient._streams import loaded_streams, read_streams, set_streams, streams_put_back
from memograd._replay._interpreter import Interpreter, Needs
from memograd._replay._plan import Costs, plan
from memograd._replay._spill import Spill
from memograd._replay._trial import most_bytes
from memograd._scan._budget import Within, planned, spilled
from memograd._scan._cell._reads import Reads, Watch, modules_of
from memograd._scan._cell._standing import Standing
from memograd._scan._layer import final
from memograd._scan._stream._feed import windows
from memograd._scan._stream._losses import Losses, Sum, check_reduction
from memograd._scan._stream._progress import progress
from memograd._scan._torch import apply

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from torch import Tensor

    from memograd._replay._interpreter import Program
    from memograd._replay._plan import Schedule
    from memograd._scan._stream._feed import Feed
    from memograd._scan._within import Bounds

_PIECE = 256  # steps at once where nothing is kept


@dataclass(frozen=True)
class Stream:
    """A sequence and its loss.

    Attributes:
        pieces: gives the program of steps `begin` to `end`, which are its steps 0 to `end - begin`; it has no outputs.
        costs: gives what a state costs, and a step by what a trial says: (trial, lengths) -> costs.
        steps: T.
        first: the first state.
        weights: what the pieces read besides.
        shaped: makes of outputs, of so many steps, what the function takes.
        fn: gives a loss for outputs and targets of a chunk.
        targets: None where there are none.
        mean: whether the loss is the mean over steps, and so the function's, and not the sum.
        bounds: the budget, the window, where states are kept.
        bar: whether to show how far it is; None for where it takes long.
    """

    pieces: Callable[[int, int], Program]
    costs: Callable[[Callable[[int], int], Sequence[int]], Costs]
    steps: int
    first: list[Tensor]
    weights: list[Tensor]
    shaped: Callable[[Sequence[Tensor], int], Any]
    fn: Callable[..., Tensor]
    targets: Feed | None
    mean: bool
    bounds: Bounds
    bar: bool | None = None


@dataclass(frozen=True)
class Result:
    """What a stream gives: its loss, its last state, T, and how the budget is kept."""

    loss: Tensor
    last: list[Tensor]
    steps: int
    within: Within


def loss_of(stream: Stream) -> Result:
    """Take the loss of a stream, with its gradients where there are any to take.

    Raises:
        ValueError: the budget is too small, or the function's loss is not the mean, or sum, that it is said to be.
    """
    with streams_put_back():
        reads = _look(stream)
    tensors = [*stream.first, *stream.weights, *reads.tensors]
    asked = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    work = _Work(stream, reads, asked)
    with streams_put_back():
        schedules = work.schedules()
    loss = apply(_Loss, work, schedules, *tensors)
    longest = max(schedules.values(), key=lambda schedule: schedule.peak)
    return Result(loss, work.last, stream.steps, Within.of(longest, stream.bounds.budget))


class _Work:
    """A stream, what its function reads, and what came of it."""

    def __init__(self, stream: Stream, reads: Reads, asked: bool) -> None:
        self.stream, self.reads, self.asked = stream, reads, asked
        self.sum = Sum()
        self.last: list[Tensor] = []
        self._known: dict[Any, int] = {}

    def program(self, begin: int, end: int) -> Losses:
        """Give the program of a range, which gradients stay within."""
        stream = self.stream
        targets = None if stream.targets is None else stream.targets.behind(begin)
        weight = 1 / stream.steps if stream.mean else 0.0
        pieces = stream.pieces(begin, end)
        return Losses(pieces, stream.shaped, stream.fn, self.reads, targets, weight, self.sum, not self.asked)

    def schedules(self) -> dict[int, Schedule]:
        """Plan for each length of a range."""
        lengths = {end - begin: (begin, end) for begin, end in windows(self.stream.steps, self.stream.bounds.window)}
        return {steps: self._schedule(*at) for steps, at in lengths.items()}

    def _schedule(self, begin: int, end: int) -> Schedule:
        if not self.asked:  # nothing is kept: pieces of any length
            return plan(end - begin, _PIECE, Costs(0, 1))
        program = replace(self.program(begin, end), sum=Sum())

        def trial(steps: int) -> int:
            return most_bytes(program, steps, self.stream.first, self._weights, self._needs, outputs=1)

        def costs(lengths: Sequence[int]) -> Costs:
            found = self.stream.costs(trial, lengths)
            # While sums of gradients grow, there is one more of each.
            more = sum(t.nbytes for t in self._weights)
            return Costs(found.carry, found.step, found.fixed + more)

        try:
            return planned(end - begin, self.stream.bounds.budget, spilled(costs, self.stream.bounds.spill))
        except ValueError as error:
            raise ValueError(f"memo.scan: {error}") from None

    @property
    def _weights(self) -> list[Tensor]:
        return [t.detach() for t in (*self.stream.weights, *self.reads.tensors)]

    @property
    def _needs(self) -> Needs:
        weights = (*self.stream.weights, *self.reads.tensors)
        first = tuple(t.requires_grad for t in self.stream.first)
        inputs = (False,) * len(self.program(0, 1).read(0, 1))
        return Needs(inputs, first, tuple(t.requires_grad for t in weights))

    def run(self, schedules: dict[int, Schedule]) -> tuple[Tensor, list[Tensor | None]]:
        """Go through the stream; give the loss, and the gradients of the first state and of what is read."""
        first, weights, needs = [t.detach() for t in self.stream.first], self._weights, self._needs
        sums: list[Tensor | None] = [None] * (len(first) + len(weights))
        ways = 2 if self.asked else 1
        total = sum(
            (ways * (end - begin) + schedules[end - begin].ahead * self.asked)
            for begin, end in windows(self.stream.steps, self.stream.bounds.window)
        )
        carry, began = first, read_streams(loaded_streams())
        with progress("scan.loss", total, self.stream.bar) as tick:
            for begin, end in windows(self.stream.steps, self.stream.bounds.window):
                program = replace(self.program(begin, end), tick=tick)
                # A window's first state is a constant, but the very first.
                asked = replace(needs, carry=tuple(n and not begin for n in needs.carry))
                folder = self.stream.bounds.spill
                spill = None if folder is None else Spill(folder)
                asked = asked if self.asked else _none(needs)
                interpreter = Interpreter(program, schedules[end - begin], asked, spill=spill)
                behind = interpreter.forward(carry, weights)
                if self.asked:
                    dcarry, dweights = interpreter.back(carry, weights, [None] * len(first))
                    grads = [*(dcarry if not begin else [None] * len(first)), *dweights]
                    sums = [_added(a, b) for a, b in zip(sums, grads, strict=True)]
                carry = [t.detach() for t in behind]
        self.last = carry
        if self.sum.streams and read_streams(began) == began:
            # Steps drew nothing: who draws next must not draw what the function has drawn.
            set_streams(self.sum.streams)
        assert self.sum.like is not None
        return torch.full_like(self.sum.like, self.sum.total), sums


class _Loss(torch.autograd.Function):
    """A loss whose gradients are there already."""

    @staticmethod
    def forward(ctx: Any, work: _Work, schedules: dict[int, Schedule], *_: Tensor) -> Tensor:
        with _nothing_lost(), torch.no_grad():
            loss, grads = work.run(schedules)
        ctx.given = [g is not None for g in grads]
        ctx.save_for_backward(*(g for g in grads if g is not None))
        return loss

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        (g,) = grad_outputs
        grads = iter(ctx.saved_tensors)
        return None, None, *final([next(grads) * g if given else None for given in ctx.given])


def _look(stream: Stream) -> Reads:
    """See what the loss function reads, and whether it is the mean, or the sum, over steps that it is said to be."""
    steps = min(2, stream.steps)
    program = stream.pieces(0, steps)
    before = read_streams(loaded_streams())
    with torch.no_grad():
        outputs, _ = program.run(0, steps, program.read(0, steps), stream.first, stream.weights)
        streams = read_streams(loaded_streams())
        modules = Standing(modules_of(stream.fn))
        with Watch(outputs) as watch:
            whole = _value(stream, outputs, 0, steps)
        if changed := modules.changed():
            modules.put_back()
            raise ValueError(
                f"memo.scan: the loss function changes {changed}, once for each chunk, whose length is the plan's; "
                "expected a function that changes nothing. Write head.eval(), or take what changes out of it."
            )
        if steps == 2 and read_streams(before) == streams:
            parts = [_value(stream, outputs, at, at + 1) for at in range(2)]
            check_reduction(stream.mean, whole, parts, (1, 1))
    return Reads(stream.fn, watch.found.values())


def _value(stream: Stream, outputs: Sequence[Tensor], begin: int, end: int) -> Tensor:
    """Take the loss of some of the first steps."""
    rows = len(outputs[0]) // min(2, stream.steps)
    some = [t[begin * rows : end * rows] for t in outputs]
    target = () if stream.targets is None else (stream.targets[begin:end],)
    return stream.fn(stream.shaped(some, end - begin), *target)


def _added(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


def _none(needs: Needs) -> Needs:
    return Needs(*((False,) * len(part) for part in (needs.inputs, needs.carry, needs.weights)))


@contextmanager
def _nothing_lost() -> Generator[None]:
    """Leave the random streams as they were where this block ends in an exception, Ctrl-C among them."""
    before = read_streams(loaded_streams())
    try:
        yield
    except BaseException:
        set_streams(before)
        raise
