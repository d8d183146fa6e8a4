"""The wrapper of a cell: ``ys, carry = memo.scan(cell)(xs, carry)``."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from memograd._ambient._streams import streams_put_back
from memograd._errors import warn
from memograd._replay._interpreter import Needs
from memograd._replay._plan import Costs
from memograd._replay._trial import most_bytes
from memograd._scan._budget import STREAM, Within, planned, sizes, spilled
from memograd._scan._cell._form import Form
from memograd._scan._cell._look import Look, look
from memograd._scan._cell._node import Drew, run_cell
from memograd._scan._cell._program import CellPieces
from memograd._scan._cell._reads import Strangers
from memograd._scan._cell._steps import Steps
from memograd._scan._receipt import Receipt
from memograd._scan._stream._celled import cell_loss
from memograd._scan._stream._recurrent import Asked
from memograd._scan._torch import is_transformed, untraced
from memograd._scan._within import Bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from memograd._replay._plan import Schedule


class CellScan(nn.Module):
    """A cell along a sequence. Made by ``memo.scan``.

    Parameters, buffers and submodules are those of the wrapped cell, not copies.

    Attributes:
        budget: in bytes, None for any number.
        window: gradients do not pass the steps that are multiples of it; None for all to pass.
        batch_first: whether inputs and outputs are (B, T, ...).
        spill: the folder of a file for states, "" for where temporary files are; None to keep them in memory.
    """

    def __init__(
        self,
        cell: Callable[..., Any],
        budget: int | None,
        window: int | None,
        batch_first: bool,
        spill: str | None = None,
    ) -> None:
        super().__init__()
        if isinstance(cell, nn.Module):
            for name in ("_parameters", "_buffers", "_modules"):
                self.__dict__[name] = cell.__dict__[name]
            self.training = cell.training
        self.__dict__["__wrapped__"] = cell
        self.budget, self.window, self.batch_first, self.spill = budget, window, batch_first, spill
        self._memograd_receipt: Receipt | None = None
        self._known: dict[Hashable, int] = {}
        self._draws = self._warned = False

    @property
    def receipt(self) -> Receipt | None:
        """What the last call did, None before the first."""
        return self._memograd_receipt

    def train(self, mode: bool = True) -> CellScan:
        """Set the mode of the cell, too."""
        super().train(mode)
        if isinstance(self.__wrapped__, nn.Module):
            self.__wrapped__.train(mode)
        return self

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self.__dict__["__wrapped__"]

    @untraced
    def forward(self, xs: Any, carry: Any = None, *, length: int | None = None) -> tuple[Any, Any]:
        """Run the cell along a sequence.

        Args:
            xs: inputs: tensors (T, ...), or (B, T, ...) with ``batch_first``, nested as the cell takes them; None for
                a cell that reads none.
            carry: the first state: tensors, nested as the cell takes and gives them. torch's own cells begin with
                zeros where it is None.
            length: T, where there are no inputs.

        Returns:
            Outputs, (T, ...) or (B, T, ...), nested as the cell gives them; and the last state.

        Raises:
            TypeError, ValueError: the cell, the inputs or the states do not fit together, or the budget is too small:
                the message says what to write.
        """
        cell = self.__wrapped__
        if isinstance(cell, nn.RNNCellBase):
            carry = _zeros(cell, xs, batch_first=self.batch_first) if carry is None else carry
            cell = _stepped(cell)
        form, inputs = Form.of(xs, "xs")
        inputs = [x.transpose(0, 1) for x in inputs] if self.batch_first else inputs
        states, first = Form.of(carry, "the carry")
        steps = Steps(cell, form, states, self.window)
        ys, out, last = self._run(steps, _steps_of(inputs, length), inputs, first)
        out = [y.transpose(0, 1) for y in out] if self.batch_first else out
        return ys.filled(out), states.filled(last)

    def loss(
        self,
        xs: Any,
        targets: Any,
        fn: Callable[..., Tensor],
        *,
        carry: Any = None,
        reduction: str = "mean",
        return_state: bool = False,
        progress: bool | None = None,
    ) -> Any:
        """Take a loss over a sequence of any length, read piece by piece; nothing of its length is ever in memory.

        Args:
            xs: inputs, not nested: (T, ...), or (B, T, ...) with ``batch_first``; as `Scan.loss` takes them.
            carry: the first state, as `forward` takes it.
            targets, fn, reduction, return_state, progress: as `Scan.loss` takes them.

        Returns:
            The loss; or the loss and the last state.

        Raises:
            TypeError, ValueError: as `Scan.loss`; and the cell cannot be run again.
        """
        cell = self.__wrapped__
        device = next((t.device for t in (*self.parameters(), *Form.of(carry, "the carry")[1])), torch.device("cpu"))

        def begin(x: Tensor) -> Any:
            return _zeros(cell, x, batch_first=False) if carry is None and isinstance(cell, nn.RNNCellBase) else carry

        bounds = Bounds.of(self.budget, self.window, self.spill)
        asked = Asked(targets, fn, reduction, bounds, progress)
        stepped = _stepped(cell) if isinstance(cell, nn.RNNCellBase) else cell
        result, form = cell_loss(stepped, xs, begin, asked, device, batch_first=self.batch_first)
        reason = "a loss" if self.budget is None else "a budget"
        self._memograd_receipt = Receipt(result.steps, result.steps, "pieces", "rounding", reason, result.within)
        return (result.loss, form.filled(result.last)) if return_state else result.loss

    def _run(
        self, steps: Steps, number: int, inputs: list[Tensor], first: list[Tensor]
    ) -> tuple[Form, list[Tensor], list[Tensor]]:
        """Run within the budget, or one step after the other."""
        why = "no budget" if self.budget is None else _out_of_reach([*inputs, *first])
        asked = False
        if not why:
            seen = _looked(steps, [x[0] for x in inputs], first)
            if isinstance(seen, Look):
                asked = any(t.requires_grad for t in (*inputs, *first, *seen.reads.tensors))
                why = seen.why_not if asked else "nothing is to be taken back"
            else:
                asked, why = True, f"a step cannot be tried without grad: {seen}"
            if not why and isinstance(seen, Look):
                try:
                    return seen.ys, *self._within(_Task(steps, seen, number, inputs, first))
                except Strangers as error:
                    why = str(error)
        out, last, ys = steps.run(0, number, inputs, first)
        if asked:
            self._say(why)
        self._memograd_receipt = Receipt(number, number, "plain", "bits", why)
        return ys, out, last

    def _within(self, task: _Task) -> tuple[list[Tensor], list[Tensor]]:
        """Run within the budget."""
        assert self.budget is not None
        self._draws = self._draws or task.seen.draws
        schedule = self._schedule(task, self.budget)
        try:
            out, last = run_cell(
                task.program(self._draws), schedule, task.inputs, task.first, task.seen.outputs, self.spill
            )
        except Drew:
            self._draws = True
            return self._within(task)
        within = Within.of(schedule, self.budget)
        exact = "bits" if within.pieces == 1 else "rounding"
        self._memograd_receipt = Receipt(task.number, task.number, "pieces", exact, "a budget", within)
        return out, last

    def _schedule(self, task: _Task, budget: int) -> Schedule:
        """Plan by what trials say."""
        carry = sum(t.nbytes for t in task.first) + STREAM * self._draws

        def costs(lengths: Sequence[int]) -> Costs:
            step, fixed = sizes(task.trial, lengths, self._known, task.kind)
            # While sums of gradients grow, there is one more of each.
            return Costs(carry, step, fixed + sum(t.nbytes for t in task.seen.reads.tensors))

        try:
            with streams_put_back():
                return planned(task.number, budget, spilled(costs, self.spill), call=0.0)
        except ValueError as error:
            raise ValueError(f"memo.scan: {error}") from None

    def _say(self, why: str) -> None:
        if not self._warned:
            self._warned = True
            warn(f"memo.scan: {why}; this cell runs without a budget")


@dataclass(frozen=True)
class _Task:
    """One call.

    Attributes:
        steps, seen: the cell, and what a look at it has found.
        number: T.
        inputs: (T, ...) tensors.
        first: the first state.
    """

    steps: Steps
    seen: Look
    number: int
    inputs: list[Tensor]
    first: list[Tensor]

    @property
    def kind(self) -> Hashable:
        """Name what the sizes of a piece depend on."""
        every = (*self.inputs, *self.first, *self.seen.reads.tensors)
        modes = tuple(torch.is_autocast_enabled(kind) for kind in {t.device.type for t in every})
        shapes = tuple((*t.shape[k < len(self.inputs) :], t.dtype, t.requires_grad) for k, t in enumerate(every))
        return shapes, modes, getattr(self.steps.cell, "training", None)

    def program(self, draws: bool) -> CellPieces:
        """Give the pieces of the cell."""
        return CellPieces(self.steps, self.seen.reads, self.seen.standing, self.seen.ys, draws)

    def trial(self, steps: int) -> int:
        """Run a piece forward and back; give the most bytes that it took."""
        reads = self.seen.reads.tensors
        needs = Needs(
            tuple(x.requires_grad for x in self.inputs),
            (True,) * len(self.first),
            tuple(t.requires_grad for t in reads),
        )
        program = replace(self.program(draws=False), xs=[x.detach() for x in self.inputs])
        return most_bytes(program, steps, self.first, reads, needs, outputs=len(self.seen.outputs))


def is_cell(cell: object) -> bool:
    """Tell whether something can be called with x_t and a carry."""
    called: Any = cell.forward if isinstance(cell, nn.Module) else cell
    others = isinstance(cell, nn.Module) and type(cell).__module__.startswith("torch.nn.")
    if not callable(called) or isinstance(called, type) or (others and not isinstance(cell, nn.RNNCellBase)):
        return False
    try:
        inspect.signature(called).bind(None, None)
    except (TypeError, ValueError):
        return False
    return True


def _looked(steps: Steps, x: Sequence[Tensor], carry: Sequence[Tensor]) -> Look | Exception:
    """Look at a step; give what it raises where it cannot be run without grad."""
    try:
        return look(steps, x, carry)
    except Exception as error:  # noqa: BLE001 - the plain run will say whether it is the cell's own
        return error


def _out_of_reach(tensors: Sequence[Tensor]) -> str:
    """Say why a call cannot be run in pieces."""
    if not torch.is_grad_enabled():
        return "nothing is to be taken back"
    if is_transformed() or any(type(t) not in {Tensor, nn.Parameter} for t in tensors):
        return "a transform, or a subclass of tensors, is at work"
    return ""


def _steps_of(inputs: Sequence[Tensor], length: int | None) -> int:
    """Say how many steps there are."""
    lengths = {x.shape[0] if x.dim() else None for x in inputs} | ({length} - {None})
    if len(lengths) != 1 or None in lengths or 0 in lengths:
        shapes = [list(x.shape) for x in inputs]
        raise ValueError(
            f"memo.scan: got inputs of shapes {shapes} (time first) and length={length}; expected one length T of at "
            "least 1 in all of them. Write scan(xs, carry) with xs (T, ...), or scan(None, carry, length=T)."
        )
    return cast("int", lengths.pop())


def _stepped(cell: nn.RNNCellBase) -> Callable[[Tensor, Any], tuple[Any, Any]]:
    """Give one of torch's cells as a cell: its output is h."""

    def step(x: Tensor, carry: Any) -> tuple[Any, Any]:
        behind: Any = cell(x, carry)
        h: Any = behind[0] if isinstance(cell, nn.LSTMCell) else behind
        return h, behind

    return step


def _zeros(cell: nn.RNNCellBase, x: Tensor, *, batch_first: bool) -> Any:
    """Give the first state that torch's cells take where there is none."""
    rows = x.shape[:-1][:1] if batch_first else x.shape[1:-1]
    zeros = x.new_zeros(*rows, cell.hidden_size)
    return (zeros, zeros) if isinstance(cell, nn.LSTMCell) else zeros
