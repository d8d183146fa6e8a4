"""Tensors as pieces of memory: which of them share it, how one lies in another, exact copies, equal bits."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Geometry(NamedTuple):
    """How a tensor lies in the memory of another, `offset` elements after where that one begins."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    def of(self, root: Tensor) -> Tensor:
        """Give the view of `root`; autograd follows it."""
        return root.as_strided(self.size, self.stride, offset(root) + self.offset)


def geometry(tensor: Tensor, root: Tensor) -> Geometry:
    """Tell how a tensor lies in one that shares its memory."""
    return Geometry(tuple(tensor.shape), tensor.stride(), offset(tensor) - offset(root))


def spans(root: Tensor, tensor: Tensor) -> bool:
    """Tell whether the memory between the first and the last element of `root` holds all elements of the other."""
    begin, end = _span(root)
    first, last = _span(tensor)
    return begin <= first and last <= end


def _span(tensor: Tensor) -> tuple[int, int]:
    begin = offset(tensor)
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return begin, begin + sum(max(n - 1, 0) * step for n, step in steps)


def address(tensor: Tensor) -> int:
    """Name the storage of a tensor; one without bytes, or without one storage, shares its memory with no other."""
    return (tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else 0) or -id(tensor)


def offset(tensor: Tensor) -> int:
    """Tell how many elements of its storage come before a tensor."""
    return int(tensor.storage_offset())


def version(tensor: Tensor) -> int:
    """Read how often a tensor was changed in place. Inference tensors do not count."""
    return 0 if tensor.is_inference() else tensor._version


def copied(tensor: Tensor) -> Tensor:
    """Copy a tensor, strides and all."""
    new = tensor.detach().clone()
    return new if new.stride() == tensor.stride() else _spread(tensor.detach())


def _spread(tensor: Tensor) -> Tensor:
    # Elements that lie upon one another, or apart: the stretch of memory is copied as it is.
    if tensor.numel() == 0:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device)
    begin, end = _span(tensor)
    stretch = tensor.as_strided((end - begin + 1,), (1,), begin).clone()
    return stretch.as_strided(tensor.shape, tensor.stride(), 0)


def whole(tensor: Tensor) -> Tensor:
    """Give all of a tensor's storage, as one row."""
    storage = tensor.untyped_storage()
    length = storage.nbytes() // tensor.element_size()
    return torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(storage, 0, (length,), (1,))


def is_same_memory(a: Tensor, b: Tensor) -> bool:
    """Tell whether two tensors are the very same elements."""
    alike = a.dtype == b.dtype and a.device == b.device and a.layout == b.layout == torch.strided
    return alike and (a.is_set_to(b) or (a.numel() == b.numel() == 0 and a.shape == b.shape))
