"""Whether budgets are kept: the bytes that a training step takes, by the allocator's events, against its budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from figures.rl import step
from harness.figure import Figure, Line, Quantity
from harness.memory import peak
from torch import nn

from memograd import memo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.setting import Setting


def lines(setting: Setting) -> Iterator[Line]:
    """Try budgets from the smallest to an ample one, for three cells."""
    steps, width, inputs, hidden = (40, 2, 4, 8) if setting.quick else (400, 8, 32, 128)
    for kind in (nn.LSTM, nn.GRU, nn.RNN):
        module = kind(inputs, hidden).to(setting.device)
        x = torch.randn(steps, width, inputs, device=setting.device)
        dy = torch.randn(steps, width, hidden, device=setting.device)
        given = dy.nbytes + sum(p.nbytes for p in module.parameters())  # outputs, and gradients of weights
        least, ample = _range(module, x)
        budgets = np.geomspace(least, ample, 3 if setting.quick else 50).astype(int).tolist()
        found: list[float] = []
        for budget in budgets:
            ours = memo.scan(module, budget=budget)
            ours(x)  # trials are made at the first call
            found.append((peak(step(ours, x, dy), setting.device) - given) / budget)
        yield {
            "cell": kind.__name__,
            "budgets": Quantity(len(budgets), "n"),
            "least": f"{least:,}",
            "most": f"{ample:,}",
            "worst: measured ÷ budget": Quantity(max(found), at_most=1.05),
            "median": Quantity(float(np.median(found))),
            "least: measured ÷ budget": Quantity(min(found)),
        }


def _range(module: nn.RNNBase, x: torch.Tensor) -> tuple[int, int]:
    """Give the smallest budget, as the message says it, and one that holds all."""
    ample = memo.scan(module, budget=1 << 40)
    ample(x)
    try:
        memo.scan(module, budget=1)(x)
    except ValueError as error:
        return int(str(error).rpartition("budget=")[2]), ample.receipt.within.peak
    raise AssertionError("a budget of one byte was taken")


ADHERENCE = Figure(
    "adherence: 50 budgets, from the smallest to an ample one",
    "T=400, B=8, H=128; measured: allocation events, less outputs and the gradients of weights",
    lines,
)
