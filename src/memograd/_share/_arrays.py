"""Arrays of the host as tensors on a device, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

    from memograd._share._trie import Ints


def on(device: torch.device, array: Ints) -> Tensor:
    """Give an array as a tensor on ``device``; on a CPU the two share memory."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)


def off(tensor: Tensor) -> Any:
    """Give what a tensor of the user's holds as an array of its own.

    An array that torch lends by ``numpy()`` would be the end of ``resize_`` for the tensor.
    """
    return tensor.detach().to("cpu", copy=True).numpy()
