"""Inputs of any length, read piece by piece: tensors, arrays (mapped from files, too), chunks that come one by one."""

from __future__ import annotations

import mmap
import tempfile
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray


class Source(Protocol):
    """What can be read from, time first."""

    @property
    def steps(self) -> int:
        """Give how many steps there are."""
        ...

    def read(self, begin: int, end: int) -> Tensor:
        """Give (end - begin, ...) steps."""
        ...


class Feed:
    """Steps of a source from some step on, as a program slices them.

    Args:
        source: where they are.
        device: where they are wanted.
        begin: the step that is called 0.
        rows_first: whether they are given as (B, t, ...).
    """

    def __init__(self, source: Source, device: torch.device, begin: int = 0, rows_first: bool = False) -> None:
        self.source, self.device, self.begin, self.rows_first = source, device, begin, rows_first

    def __getitem__(self, steps: slice) -> Tensor:
        part = self.source.read(self.begin + steps.start, self.begin + steps.stop).to(self.device)
        return part.transpose(0, 1) if self.rows_first else part

    def behind(self, begin: int) -> Feed:
        """Give the same from another step on."""
        return Feed(self.source, self.device, begin, self.rows_first)


class _Tensors:
    def __init__(self, values: Tensor, time: int) -> None:
        self.values, self.time = values, time

    @property
    def steps(self) -> int:
        return self.values.shape[self.time]

    def read(self, begin: int, end: int) -> Tensor:
        part = self.values.narrow(self.time, begin, end - begin)
        return part.transpose(0, 1) if self.time else part


class _Arrays:
    """An array of NumPy, copied piece by piece; of one that is mapped from a file, pages that were read are let go."""

    def __init__(self, values: NDArray[Any], time: int) -> None:
        self.values, self.time = values, time

    @property
    def steps(self) -> int:
        return self.values.shape[self.time]

    def read(self, begin: int, end: int) -> Tensor:
        whole: Any = self.values
        part: Any = whole[begin:end] if self.time == 0 else whole[:, begin:end].swapaxes(0, 1)
        # A copy, as the array may be one that must not be written to, and of a byte order that torch has not.
        values: Any = np.array(part, dtype=part.dtype.newbyteorder("="), order="C")
        _let_go(self.values)
        return torch.from_numpy(values)


def _let_go(values: NDArray[Any]) -> None:
    mapped = getattr(values, "_mmap", None)
    if isinstance(mapped, mmap.mmap) and hasattr(mapped, "madvise"):
        with suppress(ValueError, OSError):  # closed by its owner, or not to be advised
            mapped.madvise(mmap.MADV_DONTNEED)


class _Spool:
    """Chunks that come once, in a file that has no name and is gone with the process."""

    def __init__(self, chunks: Iterable[Any], time: int, name: str) -> None:
        self.steps = 0
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this does
        self._like: Tensor | None = None
        weakref.finalize(self, self._file.close)
        for chunk in chunks:
            self._write(_as_tensor(chunk, name), time, name)
        if self._like is None:
            raise ValueError(f"memo.scan: got no chunks from {name}; expected tensors or arrays, time first.")

    def _write(self, chunk: Tensor, time: int, name: str) -> None:
        if chunk.dim() <= time:
            raise ValueError(f"memo.scan: got a chunk of shape {list(chunk.shape)} from {name}; expected (t, B, ...).")
        values = chunk.detach().transpose(0, time).contiguous().cpu()
        like = self._like if self._like is not None else values[:0].clone()
        if values.shape[1:] != like.shape[1:] or values.dtype != like.dtype:
            raise ValueError(
                f"memo.scan: got a chunk of steps {list(values.shape[1:])} {values.dtype} from {name}, after "
                f"{list(like.shape[1:])} {like.dtype}; expected chunks that differ in length alone."
            )
        self._like = like
        self.steps += len(values)
        self._file.write(_bytes_of(values))

    def read(self, begin: int, end: int) -> Tensor:
        assert self._like is not None
        into = self._like.new_empty(end - begin, *self._like.shape[1:])
        self._file.seek(begin * (into.nbytes // max(end - begin, 1)))
        cast("Any", self._file).readinto(_bytes_of(into))
        return into


def _bytes_of(values: Tensor) -> memoryview:
    plain: Any = values.reshape(-1).view(torch.uint8).numpy()
    return memoryview(plain)


def source_of(value: Any, time: int, name: str) -> Source:
    """Make something to read from.

    Args:
        value: a tensor or an array; or chunks of it, in a sequence or from an iterator.
        time: its dimension that is time.
        name: what to call it in messages.
    """
    if isinstance(value, Tensor):
        if value.requires_grad:
            raise ValueError(
                f"memo.scan: got {name} that require grad; expected data: their gradient is as long as they are. Write "
                "y, _ = scan(xs) for a sequence that fits in memory."
            )
        return _Tensors(_checked(value, time, name), time)
    if isinstance(value, np.ndarray):
        return _Arrays(_checked(cast("NDArray[Any]", value), time, name), time)
    if hasattr(value, "__iter__") and not isinstance(value, (str, bytes)):
        return _Spool(cast("Iterable[Any]", value), time, name)
    raise TypeError(
        f"memo.scan: got {type(value).__name__} for {name}; expected a tensor or array (T, B, ...), or chunks of one. "
        "Write numpy.load(path, mmap_mode='r') for what is in a file."
    )


def _checked(value: Any, time: int, name: str) -> Any:
    if value.ndim <= time or value.shape[time] == 0:
        raise ValueError(f"memo.scan: got {name} of shape {list(value.shape)}; expected (T, B, ...) with T at least 1.")
    return value


def _as_tensor(chunk: Any, name: str) -> Tensor:
    if isinstance(chunk, Tensor):
        if chunk.requires_grad:
            raise ValueError(f"memo.scan: got a chunk from {name} that requires grad; expected data. Detach it.")
        return chunk
    if isinstance(chunk, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(cast("NDArray[Any]", chunk)))
    raise TypeError(f"memo.scan: got a chunk of {type(chunk).__name__} from {name}; expected tensors or arrays.")


def windows(steps: int, window: int | None) -> Iterator[tuple[int, int]]:
    """Go through the ranges that gradients stay within."""
    size = window or steps
    return ((begin, min(begin + size, steps)) for begin in range(0, steps, size))
