"""A look at a cell's first step: what it reads, what it gives, and whether it may be run again.

A step that is run twice, from the same state and the same random streams, must give the same bits, and must leave what
it was given, and the buffers of its modules, as they were. Else it holds a state that is not in the carry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from memograd._ambient._streams import loaded_streams, read_streams, set_streams
from memograd._scan._cell._form import Form
from memograd._scan._cell._reads import Reads, Watch, modules_of
from memograd._scan._cell._standing import Standing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from memograd._scan._cell._steps import Steps


@dataclass(frozen=True)
class Look:
    """What a look at a step has found.

    Attributes:
        reads: the tensors that the cell reads and that require grad.
        standing: how things stand with what has no gradient.
        ys: the form of an output.
        outputs, carry: an output, and the state behind the step.
        draws: whether it drew from a random stream.
        why_not: why it cannot be run again, "" if it can.
    """

    reads: Reads
    standing: Standing
    ys: Form
    outputs: list[Tensor]
    carry: list[Tensor]
    draws: bool
    why_not: str


def look(steps: Steps, x: Sequence[Tensor], carry: Sequence[Tensor]) -> Look:
    """Run a step twice, without grad, and leave everything as it was.

    Args:
        steps: the cell.
        x: what the first step reads.
        carry: the first state.
    """
    before, roots = read_streams(loaded_streams()), modules_of(steps.cell)
    given, standing = [*x, *carry], Standing(roots)
    try:
        with torch.no_grad():
            # Copies, alike for both: a step may round otherwise where it reads from elsewhere.
            first, again = ([t.detach().clone() for t in given] for _ in range(2))
            with Watch(first) as watch:
                y, behind = steps.step(first[: len(x)], first[len(x) :])
            draws = read_streams(before) != before
            form, outputs = Form.of(y, "y_t")
            if not all(map(_same, first, given)):
                why = "the cell changes its inputs or its carry in place; write carry = carry + ..."
            elif changed := standing.changed():
                why = f"the cell changes {changed}, which is no part of its carry"
            else:
                set_streams(before)
                other, behind_other = steps.step(again[: len(x)], again[len(x) :])
                why = _differs([*outputs, *behind], [*Form.of(other, "y_t")[1], *behind_other])
    finally:
        set_streams(before)
        standing.put_back()
    reads = Reads(steps.cell, watch.found.values())
    standing = Standing(roots, watch.constants.values())
    return Look(reads, standing, form, outputs, behind, draws, why or _misfit(carry, behind))


def _differs(first: list[Tensor], again: list[Tensor]) -> str:
    if len(again) == len(first) and all(map(_same, again, first)):
        return ""
    return (
        "the cell gives other bits when a step is run again from the same carry: it holds a state elsewhere, or draws "
        "from a stream of its own"
    )


def _misfit(carry: Sequence[Tensor], behind: Sequence[Tensor]) -> str:
    for a, b in zip(carry, behind, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype or a.device != b.device:
            return f"the carry changes from {_described(a)} to {_described(b)}; begin with one of the latter kind"
    return ""


def _described(t: Tensor) -> str:
    return f"{list(t.shape)} {t.dtype} on {t.device}".replace("torch.", "")


def _same(a: Tensor, b: Tensor) -> bool:
    """Tell whether two tensors have the same bits; two NaN count as the same."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.equal(a, b) or bool(torch.isclose(a, b, rtol=0, atol=0, equal_nan=True).all())
