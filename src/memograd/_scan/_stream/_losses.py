"""A program whose outputs are turned into a loss, piece by piece (``_replay._interpreter.Program``)."""

from __future__ import annotations

import sys
from _blake2 import blake2b
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from math import isnan
from typing import TYPE_CHECKING, Any

import torch

from memograd._ambient._streams import loaded_streams, read_streams, set_streams
from memograd._scan._cell._reads import Strangers, check_ends

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from torch import Tensor

    from memograd._ambient._streams import State
    from memograd._replay._interpreter import Program
    from memograd._scan._cell._reads import Reads
    from memograd._scan._stream._feed import Feed


REDUCTIONS = ("mean", "sum")
_CHECKS = 3  # pieces, the last ones of the sequence


@dataclass
class Sum:
    """The loss so far, and what its function draws from.

    Attributes:
        total: of the pieces' losses, each with its weight.
        checked: pieces whose loss was compared with that of their halves.
        like: a piece's loss, None before the first.
        streams: the random streams of the function, which are not those that steps replay; empty before it has any.
    """

    total: float = 0.0
    checked: int = 0
    like: Tensor | None = None
    streams: dict[str, State] = field(default_factory=dict[str, "State"])


@dataclass
class Losses:
    """Pieces of a sequence, with a loss in place of outputs.

    Attributes:
        inner: the pieces; what they read first is the input, and their first `outputs` outputs are (n, B, ...).
        shaped: makes of outputs what the function takes.
        fn: gives a loss for outputs and targets.
        reads: the tensors that the function reads and that require grad.
        targets: the targets of steps; None where there are none.
        weight: of a step's loss where the function gives a mean over steps, else 0.
        sum: receives the loss.
        always: whether steps that are not recorded have a loss, too.
        tick: is told of steps that were run.
    """

    inner: Program
    shaped: Callable[[Sequence[Tensor], int], Any]
    fn: Callable[..., Tensor]
    reads: Reads
    targets: Feed | None
    weight: float
    sum: Sum
    always: bool = False
    tick: Callable[[int], object] = int

    looks_back = wants_outputs = False

    @property
    def draws(self) -> bool:
        """Whether a step may draw from a random stream."""
        return self.inner.draws

    def read(self, begin: int, end: int) -> list[Tensor]:
        """Give what steps read."""
        return self.inner.read(begin, end)

    def run(
        self, begin: int, end: int, inputs: Sequence[Tensor], carry: Sequence[Tensor], weights: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Run steps; give their loss where they are recorded, or it is asked for, and the state behind them."""
        mine, recorded = len(weights) - len(self.reads.tensors), torch.is_grad_enabled()
        outputs, behind = self.inner.run(begin, end, inputs, carry, weights[:mine])
        self.tick(end - begin)
        if not (recorded or self.always):
            return [], behind
        target = () if self.targets is None else (self.targets[begin:end],)
        with self._own_draws(), self.reads.stand_ins(weights[mine:]) if recorded else nullcontext() as instead:
            loss = self.fn(self.shaped(outputs, end - begin), *target)
        _check(loss)
        if recorded and end - begin > 1 and self.sum.checked < _CHECKS and not self.draws:
            self._check_parts(loss, outputs, begin, end)
        if instead is not None:
            _check_ends([loss, *behind], [*inputs, *carry, *weights, *instead.leaves])
        self.sum.total += float(loss.detach()) * self._of(begin, end)
        self.sum.like = loss.detach()
        return [loss], behind

    def _check_parts(self, whole: Tensor, outputs: Sequence[Tensor], begin: int, end: int) -> None:
        """Look at the first pieces whether their loss is the mean, or sum, that it is said to be."""
        self.sum.checked += 1
        steps, half, before = end - begin, (end - begin) // 2, read_streams(loaded_streams())
        rows = len(outputs[0]) // steps
        parts: list[Tensor] = []
        with torch.no_grad():
            for a, b in ((0, half), (half, steps)):
                target = () if self.targets is None else (self.targets[begin + a : begin + b],)
                parts.append(self.fn(self.shaped([t[a * rows : b * rows] for t in outputs], b - a), *target))
        if read_streams(before) == before:  # what draws is another one each time
            check_reduction(bool(self.weight), whole, parts, (half, steps - half))
        set_streams(before)

    @contextmanager
    def _own_draws(self) -> Generator[None]:
        """Let the function draw from streams of its own, so that what steps replay is theirs alone."""
        if not self.draws:
            yield
            return
        of_steps = read_streams(loaded_streams())
        if self.sum.streams:
            set_streams(self.sum.streams)
        else:
            _seed_anew(of_steps)
        yield
        self.sum.streams = read_streams(of_steps)
        set_streams(of_steps)

    def _of(self, begin: int, end: int) -> float:
        return (end - begin) * self.weight if self.weight else 1.0

    def write(self, begin: int, end: int, outputs: Sequence[Tensor]) -> None:
        """Let outputs go."""

    def coming(self, begin: int, end: int) -> list[Tensor | None]:
        """Give the weight of the steps' loss."""
        assert self.sum.like is not None
        return [torch.full_like(self.sum.like, self._of(begin, end))]

    def give(self, begin: int, end: int, grads: Sequence[Tensor | None]) -> None:
        """Let the inputs' gradients go: there are none."""
        self.tick(end - begin)

    def keep(self, carry: Sequence[Tensor]) -> Sequence[Tensor]:
        """Give all of a state."""
        return carry

    def restore(self, at: int, kept: Sequence[Tensor]) -> list[Tensor]:
        """Give a state as it was kept."""
        return list(kept)


def _seed_anew(streams: dict[str, State]) -> None:
    """Set the random streams to others, which these determine and do not lead to."""
    seed = int.from_bytes(blake2b(repr(sorted(streams.items())).encode(), digest_size=4).digest(), "little")
    torch.manual_seed(seed)
    for name, library in (("random", "random"), ("numpy.random", "numpy.random")):
        if name in streams:
            sys.modules[library].seed(seed)


def check_reduction(mean: bool, whole: Any, parts: Sequence[Any], steps: tuple[int, int]) -> None:
    """Look whether a loss is the mean, or the sum, of those of its parts, of so many steps.

    Raises:
        ValueError: it is neither, or the other one.
    """
    if not all(isinstance(value, torch.Tensor) and value.dim() == 0 for value in (whole, *parts)):
        return  # said when the first piece is run
    total, each = float(whole.detach()), [float(part.detach()) for part in parts]
    expected = sum(n * part for n, part in zip(steps, each, strict=True)) / sum(steps) if mean else sum(each)
    scale = max(abs(total), *map(abs, each))
    if abs(total - expected) <= 1e-2 * scale or isnan(scale):
        return
    said, other = REDUCTIONS if mean else REDUCTIONS[::-1]
    raise ValueError(
        f"memo.scan: got reduction={said!r} and a function that gives {total:.6g} for {sum(steps)} steps, "
        f"{each[0]:.6g} and {each[1]:.6g} for {steps[0]} and {steps[1]} of them; expected their {said}, "
        f"{expected:.6g}. Write reduction={other!r} if it is that; else (targets that are left out, say) let fn give "
        "the sum over steps, and divide afterwards."
    )


def _check(loss: Any) -> None:
    if not isinstance(loss, torch.Tensor) or loss.dim() != 0:
        got = f"a tensor of shape {list(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise TypeError(
            f"memo.scan: got {got} from the loss function; expected one number, the sum or the mean over the steps of "
            "a chunk. Write fn=lambda y, target: loss(y, target).sum() and reduction='sum'."
        )


def _check_ends(roots: Sequence[Tensor], leaves: Sequence[Tensor]) -> None:
    try:
        check_ends(roots, leaves)
    except Strangers as error:
        raise RuntimeError(
            f"memo.scan: {error}. Let the loss function read it at each step, or hold it in a module."
        ) from None
