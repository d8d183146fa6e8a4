"""Large scratch memory that goes from one training step to the next.

On a CPU the allocator gives large blocks back to the system when they are freed, and the first touch of every fresh
page of the next step costs more than the arithmetic done on it. CUDA's allocator keeps its blocks for this reason;
here the factors kept for backward do the same: a block is lent to a graph, and comes back when the graph is freed.
"""

from __future__ import annotations

import os
import threading

import torch
from torch import Tensor

_KEPT = 4  # blocks; a stack of more layers than that borrows the rest anew
_idle: list[Tensor] = []
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


class Loan:
    """A block of memory on loan, given back when the loan is dropped.

    Attributes:
        tensor: (rows, columns), uninitialized.
    """

    def __init__(self, rows: int, columns: int, like: Tensor) -> None:
        self._block: Tensor | None = None  # for __del__, should the next line run out of memory
        self._block = _fitting(rows * columns * like.element_size(), like.device)
        flat = self._block[: rows * columns * like.element_size()].view(like.dtype)
        self.tensor = flat.view(rows, columns)

    def __del__(self) -> None:
        if self._block is not None and self._block.device.type == "cpu":
            with _lock:
                _idle.append(self._block)
                _idle.sort(key=Tensor.numel)
                del _idle[:-_KEPT]


def _fitting(nbytes: int, device: torch.device) -> Tensor:
    """Take the smallest idle block that fits, unless it would be mostly empty."""
    if device.type == "cpu":
        with _lock:
            fits = [block for block in _idle if nbytes <= block.numel() <= max(2 * nbytes, 1 << 20)]
            if fits:
                _idle[:] = [block for block in _idle if block is not fits[0]]
                return fits[0]
    return torch.empty(nbytes, dtype=torch.uint8, device=device)
