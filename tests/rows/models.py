"""Small models whose rows are by themselves, and some whose rows are not."""

from __future__ import annotations

import torch
from torch import nn


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8))


def convnet():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, 2), nn.Flatten(), nn.Linear(36, 5)]
    return nn.Sequential(*layers)


def encoder():
    torch.manual_seed(0)
    return nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)


def frozen(module):
    return module.eval().requires_grad_(False)


def vectors(n, seed=0):
    return torch.randn(n, 16, generator=torch.Generator().manual_seed(seed))


def images(n, seed=0):
    return torch.randn(n, 3, 9, 9, generator=torch.Generator().manual_seed(seed))


def sequences(n, seed=0):
    return torch.randn(n, 5, 16, generator=torch.Generator().manual_seed(seed))


CASES = {"mlp": (mlp, vectors), "convnet": (convnet, images), "encoder": (encoder, sequences)}


class Mean(nn.Module):
    """Mixes rows by a weight that is zero at first."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(16))
        self.across = True

    def forward(self, x):
        return 2 * x + (self.gate * x.mean(0) if self.across else 0)


class Share(nn.Module):
    """Divides by the number of rows."""

    def forward(self, x):
        return x * 2 / len(x)


class Limited(nn.Module):
    """Divides by the greatest number of the batch, where that is great."""

    def forward(self, x):
        return 2 * x / x.abs().max().clamp_min(20.0)


class Attending(nn.Module):
    """Attends across rows."""

    def forward(self, x):
        return torch.softmax(x @ x.T, 1) @ x


class Loss(nn.Module):
    """Has a loss of the batch beside its rows."""

    def forward(self, x):
        return x.mean(), 2 * x


class Counting(nn.Module):
    """Counts its calls."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return 2 * x


class Writing(nn.Module):
    """Writes into its argument."""

    def forward(self, x):
        return x.add_(1) * 2


class Drawing(nn.Module):
    """Draws, in eval mode too."""

    def forward(self, x):
        return nn.functional.dropout(2 * x, 0.5, training=True)


class Odd(nn.Module):
    """Gives the row and a tensor that has as many numbers as a certain batch has rows."""

    def __init__(self):
        super().__init__()
        self.l = nn.Linear(16, 64)

    def forward(self, x):
        return self.l(x), self.l.bias + 0


UNFIT = {
    "a mean behind a closed gate": Mean,
    "division by the number of rows": Share,
    "a limit over the batch": Limited,
    "attention across rows": Attending,
    "a loss of the batch": Loss,
    "a count of calls": Counting,
    "writing into its argument": Writing,
    "drawing": Drawing,
    "a part that has no rows": Odd,
    "giving its argument": nn.Identity,
}
