"""What stands behind a wrapper of `memo.rows`: rows that are answered here, or asked for where this is a worker."""

from __future__ import annotations

import os
import secrets
from multiprocessing.context import get_spawning_popen
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import get_worker_info

from memograd._rows import _asked
from memograd._rows._asked import Desk, Refused, answering
from memograd._rows._fill import fill
from memograd._rows._indexed import IndexedRows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from memograd._rows._fill import Filled
    from memograd._rows._frozen import FrozenPart, FrozenRows
    from memograd._rows._receipt import Receipt, RowsStats
    from memograd._rows._rows import Rows
    from memograd._rows._text import TextRows


class ServedRows:
    """Rows of a function, wherever they are asked for. Made by `memo.rows`.

    Args:
        rows: the rows.
        name: of the function.
        module: the function, where it is a module.
        apart: whether workers compute by themselves.
    """

    def __init__(
        self,
        rows: Rows | FrozenRows | TextRows | IndexedRows,
        name: str,
        module: torch.nn.Module | None,
        *,
        apart: bool,
    ) -> None:
        self.rows, self.name = rows, name
        self._module = module
        self._known_as = "" if apart else secrets.token_hex(8)
        self._pid = os.getpid()
        if self._known_as:
            answering[self._known_as] = self

    def answer(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Answer a call: give what the function gives."""
        desk = _asked.desk
        if desk is not None and self._known_as and self._pid != os.getpid() and get_worker_info() is not None:
            try:
                return desk.ask(self._known_as, args, kwargs)
            except Refused as reason:
                self._say(str(reason))
        return self.rows.answer(args, kwargs)

    def _say(self, reason: str) -> None:
        rows = self.rows.rows if isinstance(self.rows, IndexedRows) else self.rows
        voice = rows.all()[0].voice
        said = f"{self.name}(): a worker computes rows itself, since it asked in vain: {reason}"
        voice.refuse(voice.face, said, once="worker")

    @property
    def device(self) -> torch.device | None:
        """Where the function computes, if that is not the host."""
        tensors = () if self._module is None else self._module.parameters()
        return next((tensor.device for tensor in tensors if tensor.device.type != "cpu"), None)

    def for_worker(self) -> tuple[Callable[..., Any], tuple[Any, ...]] | None:
        """Give what is pickled in place of a wrapper that goes to a process being begun; None for all of it."""
        if not self._known_as or get_spawning_popen() is None:
            return None
        return Remote, (_asked.office.address(), self._known_as, self.name)

    @property
    def receipt(self) -> Receipt | None:
        """What the last call did, None before the first."""
        return self.rows.receipt

    @property
    def frozen_part(self) -> FrozenPart | None:
        """What of a partly frozen model the last call remembered; None where it was all of it, or nothing."""
        return getattr(self.rows, "frozen_part", None)

    def stats(self) -> RowsStats:
        """Count what all calls did."""
        return self.rows.stats()

    def cache_clear(self) -> None:
        """Forget every row and begin to count anew."""
        self.rows.cache_clear()

    def forget(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
        """Forget the rows of a batch, for the function as it is now; count those that were there."""
        return self.rows.forget(args, kwargs)

    def fill(self, dataset: Any, batch_size: int = 64, **how: Any) -> Filled:
        """Compute and keep the rows of a dataset that are not there; `memograd._rows._fill.fill` says how."""
        by_index = isinstance(self.rows, IndexedRows) and not isinstance(dataset, torch.utils.data.DataLoader)
        return fill(self.rows, self.name, dataset, batch_size, by_index=by_index, **how)


class Remote:
    """A function by rows in a worker that was not forked: without the model, which another process has.

    Args:
        address: where to ask.
        known_as: what for.
        name: of the function.
    """

    def __init__(self, address: str, known_as: str, name: str) -> None:
        self._desk, self._known_as, self.__name__ = Desk(address), known_as, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Give what the function gives. Raises `RuntimeError` where it cannot be asked."""
        try:
            return self._desk.ask(self._known_as, args, kwargs)
        except Refused as reason:
            raise RuntimeError(
                f"{self.__name__}(): the process that has the model did not answer ({reason}); write "
                "memo.rows(..., per_worker=True) for a model in each worker"
            ) from reason

    def __repr__(self) -> str:
        return f"memo.rows({self.__name__}) of another process"

    def __reduce__(self) -> tuple[Any, ...]:
        return Remote, (self._desk.address, self._known_as, self.__name__)
