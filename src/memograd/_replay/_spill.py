"""States that are kept in a file, and read again before they are needed.

States are let go of in the reverse of the order in which they are kept, so that the file is a stack; and when one is
read, the one below it is what the way back needs next, which a thread reads meanwhile.
"""

from __future__ import annotations

import tempfile
import weakref
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from torch import Tensor


class _Place(NamedTuple):
    begin: int
    shapes: list[tuple[tuple[int, ...], torch.dtype, torch.device]]


class Spill:
    """A stack of states in a file without a name, which is gone with the process.

    Args:
        folder: where the file is; "" for where temporary files are.
    """

    def __init__(self, folder: str) -> None:
        self._file: Any = tempfile.TemporaryFile(dir=folder or None)  # noqa: SIM115 - lives as long as this does
        weakref.finalize(self, self._file.close)
        self._lock = Lock()
        self._places: dict[int, _Place] = {}
        self._ahead: tuple[int, Future[list[Tensor]]] | None = None
        self._pool: ThreadPoolExecutor | None = None

    def put(self, at: int, state: Sequence[Tensor]) -> None:
        """Keep the state before a step."""
        begin = max((self._end(place) for place in self._places.values()), default=0)
        place = _Place(begin, [(tuple(t.shape), t.dtype, t.device) for t in state])
        with self._lock:
            self._file.seek(begin)
            for t in state:
                self._file.write(_bytes_of(t.detach().cpu().contiguous()))
        self._places[at] = place

    def get(self, at: int) -> list[Tensor]:
        """Give the state before a step, and begin to read the one that is kept below it."""
        ahead, self._ahead = self._ahead, None
        state = ahead[1].result() if ahead is not None and ahead[0] == at else self._read(self._places[at])
        below = max((other for other in self._places if other < at), default=None)
        if below is not None:
            self._pool = self._pool or ThreadPoolExecutor(1, "memograd-spill")
            self._ahead = below, self._pool.submit(self._read, self._places[below])
        return state

    def drop(self, at: int) -> None:
        """Let go of the state before a step."""
        del self._places[at]

    def clear(self) -> None:
        """Let go of all."""
        if self._pool is not None:
            self._pool.shutdown()
        self._pool = self._ahead = None
        self._places.clear()
        self._file.truncate(0)

    def _read(self, place: _Place) -> list[Tensor]:
        state: list[Tensor] = []
        with self._lock:
            self._file.seek(place.begin)
            for shape, dtype, _ in place.shapes:
                into = torch.empty(shape, dtype=dtype)
                self._file.readinto(_bytes_of(into))
                state.append(into)
        return [t.to(device) for t, (_, _, device) in zip(state, place.shapes, strict=True)]

    @staticmethod
    def _end(place: _Place) -> int:
        return place.begin + sum(
            torch.Size(shape).numel() * torch.empty((), dtype=dtype).element_size() for shape, dtype, _ in place.shapes
        )


def _bytes_of(values: Tensor) -> memoryview:
    plain: Any = values.reshape(-1).view(torch.uint8).numpy()
    return memoryview(plain)
