"""How much memory a computation takes at most: what its operations make, and when it is let go."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Meter(TorchDispatchMode):
    """Counts the bytes of storages that operations make in this block, each until nobody holds it.

    What kernels take for themselves while they run, or lay out for themselves, is not seen.

    Attributes:
        now: bytes held.
        peak: the most bytes that were held at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._seen: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given: Any = func(*args, **(kwargs or {}))
        there = {_name(value) for value in (*args, *(kwargs or {}).values()) if _has_bytes(value)}
        several: Sequence[Any] = given if type(given) in {tuple, list} else (given,)
        for value in several:
            # What an operation writes into, or views, was there before.
            if _has_bytes(value) and _name(value) not in there:
                self._take(_name(value), value.untyped_storage())
        return given

    def _take(self, name: int, storage: torch.UntypedStorage) -> None:
        if name in self._seen:
            return
        nbytes = storage.nbytes()
        self.now += nbytes
        self.peak = max(self.peak, self.now)

        def drop(_: object) -> None:
            self.now -= nbytes
            self._seen.pop(name, None)

        self._seen[name] = weakref.ref(storage, drop)


def _has_bytes(value: Any) -> bool:
    # What oneDNN lays out for itself does not show its memory.
    return isinstance(value, torch.Tensor) and value.layout == torch.strided


def _name(tensor: torch.Tensor) -> int:
    storage: Any = tensor.untyped_storage()
    return storage._cdata
