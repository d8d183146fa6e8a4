"""Models whose rows are by themselves, and batches for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable


class Pooled(nn.Module):
    """A transformer encoder and the mean of its states."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        """Give a vector for each sequence."""
        return self.encoder(x).mean(1)


class Case(NamedTuple):
    """A model, random rows for it, and how many of them a training step takes."""

    make: Callable[[], nn.Module]
    rows: Callable[[int], Tensor]
    batch: int = 512


def cases(*, quick: bool, device: torch.device) -> dict[str, Case]:
    """Give the models, tiny ones where `quick`."""
    wide, width, layers, steps, side = (32, 16, 1, 4, 8) if quick else (1024, 128, 2, 32, 32)
    mlp = [nn.Linear(784, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, 256)]
    conv = [nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return {
        "MLP": Case(lambda: nn.Sequential(*mlp), lambda n: torch.randn(n, 784, device=device), 2048),
        "convnet": Case(lambda: nn.Sequential(*conv), lambda n: torch.randn(n, 3, side, side, device=device)),
        "transformer encoder": Case(
            lambda: Pooled(width, layers), lambda n: torch.randn(n, steps, width, device=device)
        ),
    }
