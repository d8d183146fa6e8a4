"""A cell, one step after the other: the loop that everybody writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from memograd._scan._cell._form import Form

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    Cell = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Steps:
    """A cell and the forms of what it takes.

    Attributes:
        cell: ``cell(x_t, carry) -> (y_t, carry)``.
        xs, carry: the forms of x_t and of the carry.
        window: gradients do not pass the steps that are multiples of it; None for all to pass.
    """

    cell: Cell
    xs: Form
    carry: Form
    window: int | None = None

    def run(
        self, begin: int, end: int, inputs: Sequence[Tensor], carry: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], Form]:
        """Run steps.

        Args:
            begin, end: which.
            inputs: (end - begin, ...) what they read.
            carry: the state before them.

        Returns:
            (end - begin, ...) outputs, the state behind them, and the form of an output.
        """
        columns = [x.unbind(0) for x in inputs]
        state, form = list(carry), None
        rows: list[list[Tensor]] = []
        for at in range(begin, end):
            if self.window and at and at % self.window == 0:
                state = [t.detach() for t in state]
            y, state = self.step([column[at - begin] for column in columns], state)
            if form is None:
                form, row = Form.of(y, "y_t")
            else:
                row = form.taken(y, "y_t")
            rows.append(row)
        assert form is not None
        return [_stacked(of) for of in zip(*rows, strict=True)], state, form

    def step(self, x: Sequence[Tensor], state: Sequence[Tensor]) -> tuple[Any, list[Tensor]]:
        """Run one step; give its output as it is, and the state behind it."""
        given: Any = self.cell(self.xs.filled(x), self.carry.filled(state))
        if not isinstance(given, tuple) or len(cast("tuple[Any, ...]", given)) != 2:
            raise TypeError(
                f"memo.scan: got {type(cast('object', given)).__name__} from the cell; expected a tuple of two, (y_t, "
                "carry). Write def cell(x_t, carry): ...; return y_t, carry."
            )
        y, behind = cast("tuple[Any, Any]", given)
        return y, self.carry.taken(behind, "the carry")


def _stacked(rows: Sequence[Tensor]) -> Tensor:
    try:
        return torch.stack(tuple(rows))
    except RuntimeError as error:
        raise ValueError(f"memo.scan: {error}; expected outputs y_t of one shape, dtype and device.") from None
