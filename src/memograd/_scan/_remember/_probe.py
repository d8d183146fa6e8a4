"""Where a sequence may be cut so that its bits stay the same: tried, never trusted.

A kernel rounds a row as its shapes have it: a product over few rows, or a sequence of one step, may run another way.
So sequences of random inputs are run whole and in two pieces, at cuts of many lengths from both ends; and rows beside
other companions, and alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

LENGTHS = 1, 2, 3, 4, 6, 8, 12, 16, 17, 24, 31, 32, 48, 64, 100
_SHORT, _LONG = 192, 2048  # steps of the sequences that are tried
# How a product rounds its last rows depends on what the blocks of its kernel leave of them; these divide 48. Two
# roundings of a number mostly agree, so that where states are small many numbers have to be looked at.
_BLOCK, _NUMBERS, _SEQUENCES = 48, 512, 48
LONG = 1024  # steps of a sequence from which long ones are tried, too


class Runs(Protocol):
    """What runs rows: (b, t, E) inputs and first states give (b, t, R) outputs and last states."""

    def __call__(self, x: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Run rows."""
        ...


@dataclass(frozen=True)
class Safe:
    """What a probe found.

    Attributes:
        least: pieces of at least so many steps give the bits of the whole; None where none do.
        apart: whether a row's bits are the same in a batch of any width.
        difference: what was wrong with pieces that are shorter, or with all; "" where nothing was.
    """

    least: int | None
    apart: bool
    difference: str


def probe(run: Runs, like: Tensor, state: Sequence[Tensor], *, long: bool) -> Safe:
    """Try cuts.

    Args:
        run: what is tried; it changes nothing.
        like: (B, T, E) inputs, for their shape and type.
        state: first states, (layers, B, H), for their shapes and types.
        long: whether to try a long sequence, too.
    """
    generator = torch.Generator(like.device).manual_seed(0)
    x = torch.randn(len(like), _SHORT, like.shape[2], dtype=like.dtype, device=like.device, generator=generator)
    first = [torch.randn(t.shape, dtype=t.dtype, device=t.device, generator=generator).mul_(0.5) for t in state]
    whole = run(x, first)
    if not _alike(run(x, first), whole):
        return Safe(None, False, "two runs of the same inputs differ")
    if (beside := _beside(run, x, first, whole, generator)) != 0:
        return Safe(None, False, f"a row beside other companions differs by {beside:.3g}")
    least, difference = _least(run, x, first, whole)
    for _ in range(_sequences(whole[0]) if least is not None else 0):
        least, difference = _everywhere(run, like, first, least or 1, generator)
        if least is None:
            break
    if least is not None and long:
        far = torch.randn(len(like), _LONG, like.shape[2], dtype=like.dtype, device=like.device, generator=generator)
        whole_far = run(far, first)
        for cut in (100, LONG, _LONG - 100):
            if not _alike(_in_two(run, far, first, cut), whole_far):
                return Safe(
                    None, False, f"{_LONG:,} steps cut at {cut:,} {_by(_in_two(run, far, first, cut), whole_far)}"
                )
    return Safe(least, _is_apart(run, x, first, whole), difference)


def _least(run: Runs, x: Tensor, first: Sequence[Tensor], whole: tuple[Tensor, list[Tensor]]) -> tuple[int | None, str]:
    least, difference = None, ""
    for length in reversed(LENGTHS):
        for cut in (length, x.shape[1] - length):
            pieces = _in_two(run, x, first, cut)
            if not _alike(pieces, whole):
                return least, f"pieces of {length} steps {_by(pieces, whole)}"
        least = length
    return least, difference


def _sequences(y: Tensor) -> int:
    """Say how many sequences are to be cut everywhere, for as many numbers at each cut."""
    return min(_SEQUENCES, 1 + _NUMBERS // max(1, y.shape[0] * y.shape[2]))


def _everywhere(
    run: Runs, like: Tensor, first: Sequence[Tensor], least: int, generator: torch.Generator
) -> tuple[int | None, str]:
    """Cut a sequence at so many steps that another number of rows is left over each time."""
    turns = _BLOCK // gcd(len(like), _BLOCK)
    steps = 2 * least + turns
    x = torch.randn(len(like), steps, like.shape[2], dtype=like.dtype, device=like.device, generator=generator)
    whole = run(x, first)
    for cut in range(least, steps - least + 1):
        pieces = _in_two(run, x, first, cut)
        if not _alike(pieces, whole):
            return None, f"{steps} steps cut at {cut} {_by(pieces, whole)}"
    return least, ""


def _in_two(run: Runs, x: Tensor, first: Sequence[Tensor], cut: int) -> tuple[Tensor, list[Tensor]]:
    # Copies, as where a piece begins in memory may change how it is rounded.
    y, state = run(x[:, :cut].clone(memory_format=torch.contiguous_format), first)
    z, state = run(x[:, cut:].clone(memory_format=torch.contiguous_format), [t.clone() for t in state])
    return torch.cat((y, z), 1), state


def _beside(
    run: Runs, x: Tensor, first: Sequence[Tensor], whole: tuple[Tensor, list[Tensor]], generator: torch.Generator
) -> float:
    """Give the largest difference that other companions make to a row."""
    if len(x) < 2:
        return 0.0
    worst = 0.0
    for row in (0, len(x) - 1):
        others = torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)
        others[row] = x[row]
        y, _ = run(others, first)
        if not torch.equal(y[row], whole[0][row]):
            worst = max(worst, float((y[row] - whole[0][row]).abs().max()), 5e-324)
    return worst


def _is_apart(run: Runs, x: Tensor, first: Sequence[Tensor], whole: tuple[Tensor, list[Tensor]]) -> bool:
    """Tell whether rows have the same bits alone, in twos, and in another order."""
    if len(x) == 1:
        return False
    order = torch.arange(len(x) - 1, -1, -1, device=x.device)
    groups: list[Tensor] = [order, order[:1], order[1:2], order[:2], order[: len(x) // 2 + 1]]
    return all(torch.equal(run(x[rows], [t[:, rows] for t in first])[0], whole[0][rows]) for rows in groups)


def _alike(a: tuple[Tensor, list[Tensor]], b: tuple[Tensor, list[Tensor]]) -> bool:
    return torch.equal(a[0], b[0]) and all(map(torch.equal, a[1], b[1]))


def _by(a: tuple[Tensor, list[Tensor]], b: tuple[Tensor, list[Tensor]]) -> str:
    return f"differ by {float((a[0] - b[0]).abs().max()):.3g}"
