"""What a scan offers where prefixes are remembered."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from memograd._scan._receipt import Receipt
from memograd._scan._remember._module import rows_of, said
from memograd._scan._states import States, each_of, state_shapes

if TYPE_CHECKING:
    from memograd._scan._remember._prefixes import Prefixes, Rows
    from memograd._scan._scan import Scan


def _is_state(tensors: list[Any]) -> bool:
    return all(isinstance(t, Tensor) and t.dim() == 3 for t in tensors)


class Remembering:
    """A scan whose calls without grad resume what is remembered of their rows.

    Attributes:
        prefixes: the remembered ones; None where none are.
    """

    prefixes: Prefixes | None
    _memograd_receipt: Receipt | None

    def of_remembered(self, prefixes: Prefixes, input: Any, hx: Any, *, new_only: bool) -> Any:
        """Call, and resume rows behind what is remembered of them. See `Scan.forward`."""
        scan = cast("Scan", self)
        if isinstance(input, Tensor) and input.dim() == 2:
            row = 0 if scan.batch_first else 1
            states = None if hx is None else each_of(hx, lambda s: s.unsqueeze(1))
            y, last = self.of_remembered(prefixes, input.unsqueeze(row), states, new_only=new_only)
            return y.squeeze(row), each_of(last, lambda s: s.squeeze(1))
        rows = self._rows(prefixes, input, hx)
        if isinstance(rows, str) and new_only:
            raise ValueError(f"memo.scan: got new_only=True, and no prefix is remembered: {rows}. Leave it out.")
        if isinstance(rows, str):
            return scan.plainly(input, hx, f"no prefix is remembered: {rows}")
        y, last, resumed = prefixes.run(rows, new_only=new_only)
        steps = rows.x.shape[0] * rows.x.shape[1]
        self._memograd_receipt = Receipt(
            steps, resumed.computed, "plain", prefixes.exact, resumed.reason, None, resumed
        )
        return (y if scan.batch_first else y.transpose(0, 1)), States.of(last).as_plain()

    @torch.no_grad()
    def match_prefix(self, x: Tensor, hx: Any = None) -> Tensor:
        """Say how many steps of each row a call would not compute.

        Args:
            x, hx: as the call takes them: a dense batch, or a row without one.

        Returns:
            (B,) int64: for each row the steps that a call with `new_only` would not compute; one that gives all outputs
            computes those that are not held any more, too.

        Raises:
            ValueError: nothing is remembered of such a call.
        """
        prefixes, rows = self._asked(x, hx)
        return torch.tensor(prefixes.lengths(rows))

    @torch.no_grad()
    def pin(self, x: Tensor, hx: Any = None) -> None:
        """Remember a batch's states and outputs, and keep them from being evicted.

        Args:
            x, hx: as the call takes them: a dense batch.

        Raises:
            ValueError: nothing is remembered of such a call.
        """
        prefixes, rows = self._asked(x, hx)
        prefixes.pin(rows)

    def fork(self, state: Any) -> Any:
        """Copy a state, to go on from it twice.

        Args:
            state: as the module gives it.
        """
        return each_of(state, lambda s: s.detach().clone())

    def save(self, name: str, state: Any) -> None:
        """Remember a state under a name, in the store. It belongs to the weights and modes of the moment.

        Args:
            name: in words of yours.
            state: as the module gives it.

        Raises:
            ValueError: it is no state of this module's.
        """
        prefixes, key = self._named(name)
        tensors: list[Any] = [*state] if isinstance(state, tuple) else [state]
        shapes = state_shapes(cast("Scan", self), tensors[0].shape[1] if _is_state(tensors) else 0)
        if not _is_state(tensors) or [tuple(t.shape) for t in tensors] != shapes:
            raise ValueError(
                f"memo.scan: got a state that the module does not give; expected tensors of shapes {shapes}, with the "
                "batch in the middle. Write scan.save(name, scan(x)[1])."
            )
        prefixes.book.save(key, tensors, type(self).__name__, name)

    def load(self, name: str) -> Any:
        """Give the state that was saved under a name.

        Raises:
            KeyError: there is none, or it was saved with other weights, or in other modes.
        """
        prefixes, key = self._named(name)
        found = prefixes.book.load(key)
        if found is None:
            raise KeyError(
                f"memo.scan: no state {name!r} of a module with these weights; write scan.save({name!r}, state) first"
            )
        return States.of(found).as_plain()

    def _named(self, name: str) -> tuple[Prefixes, bytes]:
        prefixes = self._there()
        return prefixes, prefixes.book.hash(b"|".join((b"named", name.encode(), *said(cast("Scan", self)))))

    def _asked(self, x: Any, hx: Any) -> tuple[Prefixes, Rows]:
        prefixes = self._there()
        if isinstance(x, Tensor) and x.dim() == 2:  # a row without a batch, as the call takes it
            x = x.unsqueeze(0 if cast("Scan", self).batch_first else 1)
            hx = None if hx is None else each_of(hx, lambda s: s.unsqueeze(1))
        rows = self._rows(prefixes, x, hx)
        if not isinstance(rows, str):
            return prefixes, rows
        raise ValueError(f"memo.scan: no prefix is remembered: {rows}.")

    def _there(self) -> Prefixes:
        if self.prefixes is None:
            raise ValueError("memo.scan: no prefix is remembered. Write memo.scan(rnn, remember=True).")
        return self.prefixes

    def _rows(self, prefixes: Prefixes, input: Any, hx: Any) -> Rows | str:
        scan = cast("Scan", self)
        return rows_of(scan, partial(scan.plain_kind().forward, scan), input, hx, prefixes.book.hash)
