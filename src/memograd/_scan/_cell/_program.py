"""A cell as a program (``_replay._interpreter.Program``): what runs within a budget."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from memograd._replay._memory import version
from memograd._scan._cell._reads import Strangers, check_ends

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from memograd._scan._cell._form import Form
    from memograd._scan._cell._reads import Reads
    from memograd._scan._cell._standing import Standing
    from memograd._scan._cell._steps import Steps


@dataclass
class CellPieces:
    """Pieces of a cell's steps.

    Attributes:
        steps, reads: the cell, and what it reads.
        standing: how things stand with what it reads and has no gradient.
        ys: the form of an output.
        draws: whether a step may draw from a random stream.
        xs: (T, ...) inputs.
        out: (T, ...) receive outputs; let go when they are given out.
        dout: the gradients of these.
        dxs: receive the gradients of the inputs, where they are asked for.
    """

    steps: Steps
    reads: Reads
    standing: Standing
    ys: Form
    draws: bool
    xs: Sequence[Tensor] = ()
    out: Sequence[Tensor] = ()
    dout: Sequence[Tensor | None] = ()
    dxs: list[Tensor | None] = field(default_factory=list["Tensor | None"])

    @property
    def looks_back(self) -> bool:
        """Tell that a step's record is made by running it."""
        return False

    @property
    def wants_outputs(self) -> bool:
        """Tell that nobody reads them again."""
        return False

    def read(self, begin: int, end: int) -> list[Tensor]:
        """Give the inputs of steps."""
        return [x[begin:end] for x in self.xs]

    def run(
        self, begin: int, end: int, inputs: Sequence[Tensor], carry: Sequence[Tensor], weights: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Run steps; where they are recorded, on stand-ins for what they read."""
        recorded = torch.is_grad_enabled()
        before = [version(t) for t in (*inputs, *carry)]
        with self.reads.stand_ins(weights) if recorded else nullcontext() as instead:
            outputs, behind, form = self.steps.run(begin, end, inputs, carry)
        if not form.is_like(self.ys):
            raise TypeError(f"memo.scan: got y_t as {form}, after {self.ys}; expected the same form at each step.")
        if before != [version(t) for t in (*inputs, *carry)]:
            raise RuntimeError(
                "memo.scan: the cell changes its inputs or its carry in place; write carry = carry + ..."
            )
        if changed := self.standing.changed():
            raise Strangers(f"the cell changes {changed}, which is no part of its carry")
        if instead is not None:
            check_ends([*outputs, *behind], [*inputs, *carry, *weights, *instead.leaves])
        return outputs, behind

    def write(self, begin: int, end: int, outputs: Sequence[Tensor]) -> None:
        """Put outputs where they belong."""
        for into, rows in zip(self.out, outputs, strict=True):
            if rows.shape[1:] != into.shape[1:] or rows.dtype != into.dtype:
                raise ValueError(
                    f"memo.scan: got outputs y_t of shape {list(rows.shape[1:])} and {rows.dtype}, after "
                    f"{list(into.shape[1:])} and {into.dtype}; expected one shape and dtype at each step."
                )
            into[begin:end] = rows

    def coming(self, begin: int, end: int) -> list[Tensor | None]:
        """Give the outputs' gradients."""
        return [None if g is None else g[begin:end] for g in self.dout]

    def give(self, begin: int, end: int, grads: Sequence[Tensor | None]) -> None:
        """Put the inputs' gradients where they belong."""
        for into, grad in zip(self.dxs, grads, strict=True):
            if into is not None and grad is not None:
                into[begin:end] = grad

    def keep(self, carry: Sequence[Tensor]) -> Sequence[Tensor]:
        """Give all of a state."""
        return carry

    def restore(self, at: int, kept: Sequence[Tensor]) -> list[Tensor]:
        """Give a state as it was kept."""
        return list(kept)
