"""What a caller hands in: how messages name it, and what is refused."""

from __future__ import annotations

import torch
from torch import Tensor


def described(x: object) -> str:
    """Name a value in a message."""
    return f"a tensor of shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"


def checked_integers(x: object, what: str, expected: str) -> Tensor:
    """Give a value that is to be a tensor of integers.

    Args:
        x: the value.
        what: who got it, and its name: ``"Shared.prefixes: got ids"``.
        expected: what to hand in instead.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(x, Tensor) or x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{what} of {got}; expected {expected}.")
    return x
