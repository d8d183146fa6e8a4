"""Rows in memory: for each column of the result one piece of memory that grows, so that many are read by one gather.

What is full takes no more, since an epoch comes back to its first rows before the last ones have been of use: to drop
the oldest would drop each of them just before it is asked for. Only where nothing is asked for again it begins anew.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import torch

from memograd._rows._seam import Found

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from memograd._rows._structure import Parsed

_LEAST = 256  # rows that there is memory for at first


class Table:
    """The rows of one context, in memory.

    Args:
        max_bytes: the most that it may hold.

    Attributes:
        frame: how results are put together; None before the first.
        anchor: of the class of sizes that rows are computed in.
    """

    lasting = False

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.frame: Parsed | None = None
        self.anchor: int | None = None
        self._lock = Lock()
        self._begin()

    def _begin(self) -> None:
        self._slots: dict[bytes, int] = {}
        self._blocks: list[Tensor] = []
        self._room = 0
        self._refused = self._found = 0

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row's result and of its name; 0 while there is none."""
        return sum(block[0].nbytes for block in self._blocks) + 120 if self._blocks else 0

    @property
    def nbytes(self) -> int:
        """Bytes of all rows that are held."""
        return len(self) * self.row_bytes

    def find(self, names: Sequence[bytes]) -> Found:
        """Look rows up."""
        with self._lock:
            slots = np.fromiter(map(self._slots.get, names, [-1] * len(names)), np.int64, len(names))
            blocks = self._blocks
        here = slots >= 0
        count = int(here.sum())
        self._found += count
        at = slots if count == len(slots) else slots[here]
        # Memory that rows are added to elsewhere meanwhile: those that are found do not change.
        return Found(here, lambda: [block.index_select(0, _index(at, block)) for block in blocks])

    def settle(self, anchor: int) -> None:
        """Take note of the class of sizes that rows are computed in; those of another are none of these."""
        if self.anchor not in {None, anchor}:
            self.clear()
        self.anchor = anchor

    def put(self, names: Sequence[bytes], leaves: Sequence[Tensor], seconds: float = 0.0) -> int:
        """Keep rows, all of them different; count those that were taken."""
        del seconds
        with self._lock, torch.no_grad():
            new = [k for k, name in enumerate(names) if name not in self._slots]
            taken = new[: self._makes_room(len(new), leaves)]
            if not taken:
                return 0
            first = len(self._slots)
            for block, leaf in zip(self._blocks, leaves, strict=True):
                rows = leaf if len(taken) == len(names) else leaf.index_select(0, _index(np.array(taken, int), leaf))
                block[first : first + len(taken)].copy_(rows)
            self._slots.update((names[k], first + n) for n, k in enumerate(taken))
            return len(taken)

    def drop(self, name: bytes) -> bool:
        """Forget a row; tell whether it was there. Its memory is free when the table begins anew."""
        with self._lock:
            slot = self._slots.pop(name, None)
            if slot is not None:
                # Slots are dense: the last one moves here, in other memory, since somebody may be reading.
                self._blocks = [block.clone() for block in self._blocks]
                last = len(self._slots)
                if slot != last:
                    for block in self._blocks:
                        block[slot] = block[last]
                    self._slots[next(key for key, at in self._slots.items() if at == last)] = slot
            return slot is not None

    def clear(self) -> None:
        """Forget all rows."""
        with self._lock:
            self._begin()

    def _makes_room(self, count: int, leaves: Sequence[Tensor]) -> int:
        """Make room for rows; give for how many there is."""
        held = len(self._slots)
        row = sum(leaf[0].nbytes for leaf in leaves) + 120 if count else 0
        most = self.max_bytes // row if row else 0
        if held + count > most and self._nobody_asks(count, most):
            self._begin()
            held = 0
        count = max(0, min(count, most - held))
        if held + count > self._room:
            self._grow(held, min(most, max(_LEAST, 2 * (held + count))), leaves)
        return count

    def _nobody_asks(self, count: int, most: int) -> bool:
        self._refused += count
        if self._refused <= 2 * most:
            return False
        vain = self._found * 100 < self._refused
        self._refused = self._found = 0
        return vain

    def _grow(self, held: int, room: int, leaves: Sequence[Tensor]) -> None:
        blocks = [leaf.new_empty((room, *leaf.shape[1:])) for leaf in leaves]
        for block, old in zip(blocks, self._blocks, strict=False):
            block[:held].copy_(old[:held])
        self._blocks, self._room = blocks, room


def _index(at: np.ndarray[tuple[int], np.dtype[np.int64]], beside: Tensor) -> Tensor:
    return torch.from_numpy(at).to(beside.device)
