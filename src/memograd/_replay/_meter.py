"""How much memory a computation takes at most: what its operations make, and when it is let go."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Callable


class Meter(TorchDispatchMode):
    """Counts the bytes of storages that operations make in this block, each until nobody holds it.

    What kernels take for themselves while they run is not seen.

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
        given = func(*args, **(kwargs or {}))
        for tensor in given if isinstance(given, (tuple, list)) else (given,):  # pyright: ignore[reportUnknownVariableType]
            # What an operation writes into, or views, was there before.
            if isinstance(tensor, torch.Tensor) and not _is_given(tensor, args, kwargs):
                self._take(tensor.untyped_storage())
        return given

    def _take(self, storage: torch.UntypedStorage) -> None:
        name = storage._cdata
        if name in self._seen:
            return
        nbytes = storage.nbytes()
        self.now += nbytes
        self.peak = max(self.peak, self.now)

        def drop(_: object) -> None:
            self.now -= nbytes
            self._seen.pop(name, None)

        self._seen[name] = weakref.ref(storage, drop)


def _is_given(tensor: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> bool:
    storage = tensor.untyped_storage()._cdata
    every = [*args, *(kwargs or {}).values()]
    return any(isinstance(t, torch.Tensor) and t.untyped_storage()._cdata == storage for t in every)
