"""Arrays of the host as tensors on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

    from memograd._share._trie import Ints


def on(device: torch.device, array: Ints) -> Tensor:
    """Give an array as a tensor on ``device``; on a CPU the two share memory."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)
