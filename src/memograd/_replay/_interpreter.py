"""Go forward and back over a sequence as a plan says: what is not kept is run again, and gives the same bits.

A program says what one piece does; this runs pieces. Steps are only ever run in the pieces of the plan, so that a piece
that is run again calls the same kernels on the same shapes as at first. Random streams are kept with the states: what a
step draws when it is run again is what it drew then.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from memograd._ambient._streams import loaded_streams, read_streams, set_streams
from memograd._ambient._torch import read_modes, under
from memograd._replay._plan import Ahead, Back, Drop, Keep, Record, Restore, Turn

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from torch import Tensor

    from memograd._ambient._streams import State
    from memograd._replay._plan import Action, Schedule
    from memograd._replay._spill import Spill


class Program(Protocol):
    """A sequence that can be run in pieces. Lists of tensors have the same length in each piece."""

    @property
    def draws(self) -> bool:
        """Tell whether a step may draw from a random stream."""
        ...

    @property
    def looks_back(self) -> bool:
        """Tell whether to record steps takes that their outputs are known."""
        ...

    @property
    def wants_outputs(self) -> bool:
        """Tell whether outputs are to be written again when all steps are run again."""
        ...

    def read(self, begin: int, end: int) -> list[Tensor]:
        """Give what steps `begin` to `end` read besides the state and the weights."""
        ...

    def run(
        self, begin: int, end: int, inputs: Sequence[Tensor], carry: Sequence[Tensor], weights: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Run steps, differentiably; give their outputs and the state behind them."""
        ...

    def write(self, begin: int, end: int, outputs: Sequence[Tensor]) -> None:
        """Take the outputs of steps, which are run for the first time."""
        ...

    def coming(self, begin: int, end: int) -> list[Tensor | None]:
        """Give the gradients that come back to the outputs of steps."""
        ...

    def give(self, begin: int, end: int, grads: Sequence[Tensor | None]) -> None:
        """Take the gradients of what `read` gave."""
        ...

    def keep(self, carry: Sequence[Tensor]) -> Sequence[Tensor]:
        """Give what is to be kept of a state."""
        ...

    def restore(self, at: int, kept: Sequence[Tensor]) -> list[Tensor]:
        """Give the state before step `at` from what was kept of it."""
        ...


@dataclass(frozen=True)
class Needs:
    """Which gradients are asked for: of each input, of each part of the first state, of each weight."""

    inputs: tuple[bool, ...]
    carry: tuple[bool, ...]
    weights: tuple[bool, ...]

    @property
    def any(self) -> bool:
        """Whether there is a way back at all."""
        return any((*self.inputs, *self.carry, *self.weights))


@dataclass
class Piece:
    """Steps that are recorded: what they were run on, and what came of it."""

    inputs: list[Tensor]
    first: list[Tensor]
    weights: list[Tensor]
    outputs: list[Tensor]
    carry: list[Tensor]


@dataclass(frozen=True)
class Kept:
    """A state that is kept, and the random streams there."""

    carry: list[Tensor]
    streams: dict[str, State]


class Interpreter:
    """One run of a program over a sequence, forward and then back.

    Args:
        program: what the steps do.
        schedule: what to keep and what to run again.
        needs: which gradients are asked for.
        owns: whether what autograd gives for a weight is memory of its own, to which more may be added.
        spill: where states are kept; None for in memory.

    Attributes:
        ran: steps that were run so far, whether recorded or not.
    """

    def __init__(
        self, program: Program, schedule: Schedule, needs: Needs, *, owns: bool = False, spill: Spill | None = None
    ) -> None:
        self.owns, self.spill = owns, spill
        self.program = program
        self.schedule = schedule
        self.needs = needs
        self.ran = 0
        self._modes = read_modes()
        self._last: dict[str, State] = {}
        self._begun: Kept | None = None
        self._kept: dict[int, Kept] = {}
        self._recorded: Piece | None = None
        self._actions: Iterator[Action] = iter(())

    def forward(self, carry: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
        """Run all steps; give the last state. Without gradients asked for, nothing is kept."""
        self._begun = Kept([], self._read_streams())
        if not self.needs.any:
            return self._run_through(list(carry), weights)
        return [t.detach() for t in self._sweep(carry, weights, first=True)]

    def back(
        self, carry: Sequence[Tensor], weights: Sequence[Tensor], grads: Sequence[Tensor | None]
    ) -> tuple[list[Tensor | None], list[Tensor | None]]:
        """Take gradients of the last state, and those that the program has coming, back through all steps.

        Args:
            carry: the first state, as it was.
            weights: as they were.
            grads: of the last state.

        Returns:
            Gradients of the first state, and of the weights.
        """
        outside = self._read_streams()
        try:
            with under(self._modes), torch.no_grad():
                if self._recorded is None:  # a second way back: the states are gone
                    assert self._begun is not None
                    set_streams(self._begun.streams)
                    self._sweep(carry, weights, first=self.program.wants_outputs)
                return self._way_back(carry, weights, list(grads))
        finally:
            set_streams(outside)
            self.forget()

    def forget(self) -> None:
        """Let go of what was kept: the way back will run all steps again."""
        self._kept.clear()
        self._recorded = None
        if self.spill is not None:
            self.spill.clear()

    def _run_through(self, carry: list[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
        for begin, end in self.schedule.pieces():
            carry = self._ahead(begin, end, carry, weights, first=True)
        return carry

    def _sweep(self, carry: Sequence[Tensor], weights: Sequence[Tensor], *, first: bool) -> list[Tensor]:
        """Go as far as the turn; give the last state."""
        self._actions = self.schedule.actions()
        at_hand = list(carry)
        for action in self._actions:
            match action:
                case Ahead(begin, end):
                    at_hand = self._ahead(begin, end, at_hand, weights, first=first)
                case Keep(at):
                    self._keep(at, at_hand)
                case Record(begin, end):
                    at_hand = self._last_record(begin, end, at_hand, weights, first=first)
                case _:
                    break
        return at_hand

    def _last_record(
        self, begin: int, end: int, carry: list[Tensor], weights: Sequence[Tensor], *, first: bool
    ) -> list[Tensor]:
        """Record the last piece; give the last state."""
        if first and self.program.looks_back:
            streams = self._read_streams()
            self._ahead(begin, end, carry, weights, first=True)
            set_streams(streams)
            first = False
        self._record(begin, end, carry, weights)
        assert self._recorded is not None
        if first:
            self.program.write(begin, end, self._recorded.outputs)
        return self._recorded.carry

    def _way_back(
        self, carry: Sequence[Tensor], weights: Sequence[Tensor], coming: list[Tensor | None]
    ) -> tuple[list[Tensor | None], list[Tensor | None]]:
        at_hand: list[Tensor] = []
        sums = _Sums(len(weights))
        for action in self._actions:
            match action:
                case Restore(at):
                    at_hand = self._restore(at, carry)
                case Ahead(begin, end):
                    at_hand = self._ahead(begin, end, at_hand, weights, first=False)
                case Keep(at):
                    self._keep(at, at_hand)
                case Record(begin, end):
                    self._record(begin, end, at_hand, weights)
                    at_hand = []
                case Drop(at):
                    del self._kept[at]
                    if self.spill is not None:
                        self.spill.drop(at)
                case Back(begin, end):
                    coming = self._back(begin, end, coming, sums)
                case Turn():
                    pass
        return [g if needed else None for g, needed in zip(coming, self.needs.carry, strict=True)], sums.totals

    def _ahead(
        self, begin: int, end: int, carry: list[Tensor], weights: Sequence[Tensor], *, first: bool
    ) -> list[Tensor]:
        self.ran += end - begin
        inputs = self.program.read(begin, end)
        outputs, carry = self.program.run(begin, end, inputs, carry, weights)
        if first:
            self.program.write(begin, end, outputs)
        return carry

    def _record(self, begin: int, end: int, carry: Sequence[Tensor], weights: Sequence[Tensor]) -> None:
        """Run a piece on leaves of its own, so that its graph ends there."""
        self.ran += end - begin
        inputs = [leaf(t, needed) for t, needed in zip(self.program.read(begin, end), self.needs.inputs, strict=True)]
        first = [leaf(t, begin > 0 or needed) for t, needed in zip(carry, self.needs.carry, strict=True)]
        leaves = [leaf(t, needed) for t, needed in zip(weights, self.needs.weights, strict=True)]
        with torch.enable_grad(), _without_cached_casts():
            outputs, behind = self.program.run(begin, end, inputs, first, leaves)
        self._recorded = Piece(inputs, first, leaves, outputs, behind)

    def _back(self, begin: int, end: int, coming: list[Tensor | None], sums: _Sums) -> list[Tensor | None]:
        """Take the recorded piece back: give the gradients of its first state, and add to those of the weights."""
        piece, self._recorded = self._recorded, None
        assert piece is not None
        every = _gradients(piece, [*self.program.coming(begin, end), *coming])
        shared = _shared(every) if self.owns else None
        found = iter(every)
        self.program.give(begin, end, [next(found) for _ in piece.inputs])
        coming = [next(found) for _ in piece.first]
        for k, grad in enumerate(found):
            sums.add(k, grad, own=shared is not None and grad is not None and grad.data_ptr() not in shared)
        return coming

    def _keep(self, at: int, carry: list[Tensor]) -> None:
        state = [_compact(t) for t in self.program.keep(carry)]
        if self.spill is not None:
            self.spill.put(at, state)
            state = []
        self._kept[at] = Kept(state, self._read_streams())

    def _restore(self, at: int, first: Sequence[Tensor]) -> list[Tensor]:
        kept = self._kept[at] if at else self._begun
        assert kept is not None
        set_streams(kept.streams)
        if not at:
            return list(first)
        return self.program.restore(at, kept.carry if self.spill is None else self.spill.get(at))

    def _read_streams(self) -> dict[str, State]:
        """Read the random streams, where steps draw; equal states are kept once."""
        if not self.program.draws:
            return {}
        states = read_streams(loaded_streams())
        for name, state in states.items():
            if self._last.get(name) == state:
                states[name] = self._last[name]
        self._last = states
        return states


def leaf(tensor: Tensor, needed: bool) -> Tensor:
    """Give a leaf over the memory of a tensor; it requires grad where that is needed and can be."""
    grad = needed and (tensor.is_floating_point() or tensor.is_complex())
    return tensor.detach().requires_grad_(grad)


def _compact(tensor: Tensor) -> Tensor:
    """Give a tensor that holds no more memory than it needs."""
    if tensor.untyped_storage().nbytes() > tensor.nbytes:
        return tensor.clone()
    return tensor


def _gradients(piece: Piece, coming: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Take gradients back through a piece; None where there is none."""
    leaves = [*piece.inputs, *piece.first, *piece.weights]
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    both = zip([*piece.outputs, *piece.carry], coming, strict=True)
    pairs = [(out, grad) for out, grad in both if grad is not None and out.requires_grad]
    if not pairs or not wanted:
        return [None] * len(leaves)
    outs, grads = zip(*pairs, strict=True)
    found = iter(torch.autograd.grad(outs, wanted, grads, allow_unused=True))
    return [next(found) if leaf.requires_grad else None for leaf in leaves]


def _shared(grads: Sequence[Tensor | None]) -> set[int]:
    """Give where those tensors begin that are given twice."""
    seen = Counter(grad.data_ptr() for grad in grads if grad is not None)
    return {name for name, times in seen.items() if times > 1}


class _Sums:
    """Sums of gradients, in the order in which they come."""

    def __init__(self, number: int) -> None:
        self.totals: list[Tensor | None] = [None] * number
        self._own: set[int] = set()

    def add(self, k: int, grad: Tensor | None, *, own: bool) -> None:
        """Add to a sum; in place where it is ours: of gradients that autograd gives, two may be one tensor."""
        total = self.totals[k]
        if total is None:
            self.totals[k] = grad
            if own:
                self._own.add(k)
        elif grad is not None and k in self._own:
            total.add_(grad)
        elif grad is not None:
            self.totals[k] = total + grad
            self._own.add(k)


@contextmanager
def _without_cached_casts() -> Generator[None]:
    """Let autocast keep no casts of weights: their graph belongs to one piece."""
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)
