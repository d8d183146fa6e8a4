"""A million steps, streamed from a file: exact gradients in a thousandth of plain's bytes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from figures import streamed_run
from figures.budget import saved_by
from harness.figure import Figure, Line, Quantity, megabytes
from harness.timing import race
from torch import nn
from torch.nn import functional

from memograd import memo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.setting import Setting

INPUTS, WIDTH, HIDDEN = 16, 4, 128
PART = 0.001  # of what the plain module would save


def lines(setting: Setting) -> Iterator[Line]:
    """Run ever longer sequences in processes of their own."""
    short, lengths = (200, (400, 800)) if setting.quick else (10_000, (100_000, 1_000_000))
    hidden = 8 if setting.quick else HIDDEN
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "signal.npy"
        _write(file, lengths[-1] + 1)
        lstm, head = nn.LSTM(INPUTS, hidden), nn.Linear(hidden, INPUTS)
        x = torch.from_numpy(np.load(file, mmap_mode="r")[: short + 1].copy())
        saved = saved_by(lstm, x[:-1]) / short
        # What is of the weights' size comes besides, as in the figure of budgets.
        weights = 3 * sum(p.nbytes for p in (*lstm.parameters(), *head.parameters()))
        plain = _plain(lstm, head, x)
        per_step = race({"plain": plain}, setting.rounds(3, 5), torch.device("cpu")).median("plain") / short
        marks: dict[int, float] = {}
        for steps in lengths:
            part = 0.4 if setting.quick else PART * lengths[-1] / steps
            budget = int(weights + part * saved * steps)
            _, floor = _run("floor", file, steps, budget, hidden)
            took, high = _run("ours", file, steps, budget, hidden)
            marks[steps] = high - floor - budget
            first = marks[lengths[0]]
            longest = steps == lengths[-1]
            yield {
                "steps": f"{steps:,}",
                "plain would save": megabytes(saved * steps),
                "budget": megabytes(budget),
                "without weights": Quantity(100 * part, "%"),
                "a step, µs": Quantity(1e6 * took),
                "÷ plain's": Quantity(took / per_step, "x", at_most=1.35 if longest else None),
                "resident above floor": megabytes(high - floor),
                "resident set outside the budget, MB": Quantity((high - budget) / 1e6),
                "÷ shortest's": Quantity(
                    (high - budget) / (first + floor) if longest else 1.0, at_most=1.05 if longest else None
                ),
                "gradient's distance": Quantity(1e6 * _distance(lstm, head, x, setting), at_most=10.0),
            }


def _write(file: Path, steps: int) -> None:
    signal = np.lib.format.open_memmap(file, "w+", np.float32, (steps, WIDTH, INPUTS))
    generator = np.random.default_rng(0)
    for k in range(0, steps, 10_000):
        part = signal[k : k + 10_000]
        part[:] = generator.standard_normal(part.shape, dtype=np.float32)
    signal.flush()


def _plain(lstm: nn.LSTM, head: nn.Linear, x: torch.Tensor):  # noqa: ANN202 - a step
    def step() -> None:
        for p in (*lstm.parameters(), *head.parameters()):
            p.grad = None
        functional.mse_loss(head(lstm(x[:-1])[0]), x[1:]).backward()

    return step


def _distance(lstm: nn.LSTM, head: nn.Linear, x: torch.Tensor, setting: Setting) -> float:
    """Give the largest difference of a streamed gradient from the plain one, in millionths of the largest entry."""
    of = [*lstm.parameters(), *head.parameters()]
    budget = 100_000 if setting.quick else 4 << 20
    scan = memo.scan(lstm, budget=budget)
    found = torch.autograd.grad(scan.loss(x[:-1], x[1:], lambda y, t: functional.mse_loss(head(y), t)), of)
    plain = torch.autograd.grad(functional.mse_loss(head(lstm(x[:-1])[0]), x[1:]), of)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, plain, strict=True))


def _run(who: str, file: Path, steps: int, budget: int, hidden: int) -> tuple[float, int]:
    command = [sys.executable, streamed_run.__file__, who, file, *map(str, (steps, budget, hidden))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    took, high = done.stdout.split()
    return float(took), int(high)


STREAMED = Figure(
    "streamed: an LSTM's exact gradient over a sequence in a file",
    f"B={WIDTH}, E={INPUTS}, H={HIDDEN}; plain's time a step at T=10,000; the budget is 0.1 % of what plain would save "
    "for the longest, and what is of the weights' size besides; floor: the same file read without the network; "
    "gradient: largest difference from plain's at T=10,000, in millionths",
    lines,
)
