"""Rows of an array as tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from memograd.store._array import _numpy

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from memograd.store._array._rows import Rows


def gather(array: Rows, indices: Any) -> torch.Tensor:
    """Give rows as one tensor in the memory of the host."""
    at = indices.cpu().numpy() if isinstance(indices, torch.Tensor) else indices
    return as_tensor(_numpy.gather(array, at), array)


def from_bytes(array: Rows, row: bytes) -> torch.Tensor:
    """Give one row as a tensor that may be written to."""
    data = torch.frombuffer(bytearray(row), dtype=getattr(torch, array.layout.dtype))
    return data.reshape(array.layout.row)


def as_tensor(rows: npt.NDArray[np.generic], array: Rows) -> torch.Tensor:
    """Give an array's memory as a tensor."""
    made = torch.from_numpy(rows)
    return made.view(torch.bfloat16) if array.layout.dtype == "bfloat16" else made


def to_numpy(rows: torch.Tensor, dtype: str) -> npt.NDArray[np.generic]:
    """Give a tensor's values; a bfloat16's as the bits that they are."""
    rows = rows.detach().cpu().contiguous()
    if rows.dtype == torch.bfloat16:
        rows = rows.view(torch.int16) if dtype == "bfloat16" else rows.float()
    return rows.numpy()
