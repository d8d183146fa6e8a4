"""Results of rows, compared to the bit, and by how far they are apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from memograd._replay._trees import is_plain
from memograd._share._rows import bits_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memograd._rows._structure import Column, Parsed


def same_bits(one: object, other: object) -> bool:
    """Tell whether two tensors are equal to the bit, NaN and the sign of zero too."""
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return one == other
    if one.shape != other.shape or one.dtype != other.dtype or one.device != other.device:
        return False
    return not one.numel() or torch.equal(bits_of(one), bits_of(other))


def difference(found: Parsed, reference: Parsed) -> float:
    """Give the greatest difference of two results as a part of the greatest number in the second."""
    pairs = zip(found.columns, reference.columns, strict=True)
    return max((_apart(a.data, b.data) for a, b in pairs), default=0.0)


def _apart(one: object, other: object) -> float:
    if same_bits(one, other):
        return 0.0
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)) or one.shape != other.shape:
        return float("inf")
    wide = torch.complex128 if one.is_complex() else torch.float64
    a, b = one.detach().to(wide), other.detach().to(wide)
    far = (a - b).abs().masked_fill((a == b) | (a.isnan() & b.isnan()), 0.0)
    size = b.abs().nan_to_num(0.0, posinf=0.0).max()
    return float((far / size.clamp_min(1e-300)).nan_to_num(float("inf"), posinf=float("inf")).max())


def alias(results: Sequence[Column], arguments: Sequence[Column]) -> bool:
    """Tell whether a result looks at the memory of an argument."""
    tensors = [column.data for column in arguments if isinstance(column.data, Tensor)]
    memory = {tensor.untyped_storage().data_ptr() for tensor in tensors if tensor.numel()}
    found = [column.data for column in results if isinstance(column.data, Tensor)]
    return any(tensor.untyped_storage().data_ptr() in memory for tensor in found if tensor.numel())


def constants_differ(found: Parsed, frame: Parsed) -> bool:
    """Tell whether what two results have beside their rows differs, or is more than plain values."""
    pairs = zip(found.constants, frame.constants, strict=True)
    return any(not is_plain(a) or type(a) is not type(b) or a != b for (_, a), (_, b) in pairs)
