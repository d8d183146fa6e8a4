"""Large scratch memory that goes from one training step to the next.

On a CPU the allocator gives large blocks back to the system when they are freed, and the first touch of every fresh
page of the next step costs more than the arithmetic done on it. CUDA's allocator keeps its blocks for this reason;
here the factors kept for backward do the same: a block is lent to a graph, and comes back when the graph is freed.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray
    from torch import Tensor

    Block = NDArray[np.uint8]

_KEPT = 4  # blocks; a stack of more layers than that borrows the rest anew
_idle: list[Block] = []
_lends: ContextVar[bool] = ContextVar("memograd_lends", default=True)
_lock = threading.RLock()  # a loan may be dropped by the collector while its own thread holds the lock


def _after_fork() -> None:
    """The lock may be held by a thread that the child does not have."""
    global _lock  # noqa: PLW0603 - the child's one lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def release_buffers() -> None:
    """Give the memory that is kept for the next step back to the system."""
    _idle.clear()


@contextmanager
def fresh() -> Generator[None]:
    """Lend nothing in this block: where bytes are counted, idle blocks would count."""
    token = _lends.set(False)
    try:
        yield
    finally:
        _lends.reset(token)


def lend(rows: int, columns: int, like: Tensor) -> Tensor:
    """Give a tensor (rows, columns) of the dtype and on the device of ``like``, uninitialized.

    On a CPU its memory comes back when nothing refers to it: no view, no graph, no hook on what a graph saves.
    """
    if like.is_cuda or not _lends.get():
        return like.new_empty(rows, columns)
    nbytes = rows * columns * like.element_size()
    memory = np.asarray(_Loan(_fitting(nbytes)))[:nbytes]
    with torch.inference_mode(mode=False):  # else the next graph to which it is lent could not take it
        return torch.from_numpy(memory).view(like.dtype).view(rows, columns)


class _Loan:
    """A block on loan, as NumPy takes memory of another owner; who drops the last array of it gives it back."""

    def __init__(self, block: Block) -> None:
        self.block, self.__array_interface__ = block, block.__array_interface__

    def __del__(self) -> None:
        with _lock:
            _idle.append(self.block)
            _idle.sort(key=len)
            del _idle[:-_KEPT]


def _fitting(nbytes: int) -> Block:
    """Take the smallest idle block that fits, unless it would be mostly empty."""
    with _lock:
        fits = [block for block in _idle if nbytes <= len(block) <= max(2 * nbytes, 1 << 20)]
        if fits:
            _idle[:] = [block for block in _idle if block is not fits[0]]
            return fits[0]
    return torch.empty(nbytes, dtype=torch.uint8).numpy()
