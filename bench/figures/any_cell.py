"""A cell of one's own within a budget, against `torch.utils.checkpoint` over equal chunks of sqrt(T) steps."""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING

import torch
from harness.figure import Figure, Line, Quantity, megabytes, ms, noise
from harness.memory import peak
from harness.timing import race
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from memograd import memo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.setting import Setting

SHARES = (0.15, 0.5, 1.0)  # of the bytes that checkpoint takes


class Leaky(nn.Module):
    """A leaky recurrent cell with layer norm, which no kernel has."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.x, self.h, self.norm = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden), nn.LayerNorm(hidden)
        self.leak = nn.Parameter(torch.zeros(hidden))

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        a = torch.sigmoid(self.leak)
        h = a * h + (1 - a) * torch.tanh(self.norm(self.x(x) + self.h(h)))
        return h, h


def lines(setting: Setting) -> Iterator[Line]:
    """Race a plain loop, checkpoint and ours at some budgets."""
    steps, width, hidden = (36, 2, 8) if setting.quick else (1_024, 16, 128)
    cell = Leaky(32, hidden).to(setting.device)
    x = torch.randn(steps, width, 32, device=setting.device)
    h, dy = torch.zeros(width, hidden, device=setting.device), torch.randn(steps, width, hidden, device=setting.device)
    plain = _step(lambda: _loop(cell, x, h)[0], cell, dy)
    chunked = _step(lambda: _chunked(cell, x, h, isqrt(steps)), cell, dy)
    given = dy.nbytes + sum(p.nbytes for p in cell.parameters())
    theirs = peak(chunked, setting.device) - given
    runs: dict[str, Callable[[], object]] = {"plain loop": plain, "checkpoint": chunked}
    for share in SHARES:
        runs[f"ours, {share:.0%} of its bytes"] = _step(_scan(cell, x, h, int(share * theirs)), cell, dy)
    times = race(runs, setting.rounds(3, 7), setting.device)
    for name, run in runs.items():
        taken = peak(run, setting.device) - given
        equal = name.endswith("100% of its bytes")
        better = Quantity(times.ratio([name], ["checkpoint"]), "x", at_most=1.0 if equal or "15%" in name else None)
        yield {
            "step": name,
            "time": ms(times.median(name)),
            "÷ checkpoint": better,
            "÷ plain": Quantity(times.ratio([name], ["plain loop"]), "x"),
            "bytes": megabytes(taken),
            "bytes ÷ checkpoint's": Quantity(taken / theirs, at_most=1.0 if name.startswith("ours") else None),
            "±": noise(times.noise([name], ["checkpoint"])),
        }


def _scan(cell: nn.Module, x: Tensor, h: Tensor, budget: int) -> Callable[[], Tensor]:
    scan = memo.scan(cell, budget=budget)
    scan(x, h)  # trials are made at the first call
    return lambda: scan(x, h)[0]


def _loop(cell: nn.Module, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    ys: list[Tensor] = []
    for x_t in x.unbind(0):
        y, h = cell(x_t, h)
        ys.append(y)
    return torch.stack(ys), h


def _chunked(cell: nn.Module, x: Tensor, h: Tensor, length: int) -> Tensor:
    ys: list[Tensor] = []
    for piece in x.split(length):
        y, h = checkpoint(_loop, cell, piece, h, use_reentrant=False)
        ys.append(y)
    return torch.cat(ys)


def _step(forward: Callable[[], Tensor], cell: nn.Module, dy: Tensor) -> Callable[[], object]:
    def step() -> None:
        for p in cell.parameters():
            p.grad = None
        forward().backward(dy)

    return step


ANY_CELL = Figure(
    "any cell: T=1,024, B=16, H=128, forward and backward of weights",
    "a leaky cell with layer norm; checkpoint: 32 chunks of 32 steps; bytes: allocation events, less outputs and the "
    "gradients of weights; asked: less time at equal bytes, and fewer bytes at equal time",
    lines,
)
