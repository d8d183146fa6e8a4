"""A training step over a long sequence: bytes kept, and time, against the plain module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from figures.rl import INPUTS, step
from harness.figure import Figure, Line, Quantity, megabytes, ms, noise
from harness.memory import peak
from harness.timing import race
from torch import nn

from memograd import memo
from memograd._replay._meter import Meter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.setting import Setting

SHAPES = ((16, 256), (64, 512))
# Of what the plain module saves, the part that may be kept, and the time that it may take against plain.
ASKED = {nn.LSTM: ((0.025, 1.25), (0.01, 1.6)), nn.GRU: ((0.035, 1.25), (0.01, 1.6))}


def lines(setting: Setting) -> Iterator[Line]:
    """Race the plain module and ours within two budgets."""
    steps = 48 if setting.quick else 1_000
    for kind, asked in ASKED.items():
        for width, hidden in ((2, 16),) if setting.quick else SHAPES:
            plain = kind(INPUTS, hidden).to(setting.device)
            x = torch.randn(steps, width, INPUTS, device=setting.device)
            dy = torch.randn(steps, width, hidden, device=setting.device)
            saved = saved_by(plain, x)
            for part, times in asked:
                yield _line(plain, (x, dy), saved, (0.4 if setting.quick else part, times), setting)


def saved_by(plain: nn.RNNBase, x: torch.Tensor) -> int:
    """Count the bytes that a call leaves for backward, beside its outputs."""
    with Meter() as meter:
        y, last = plain(x)
    return meter.now - sum(t.nbytes for t in (y, *(last if isinstance(last, tuple) else (last,))))


def _line(
    plain: nn.RNNBase, data: tuple[torch.Tensor, torch.Tensor], saved: int, asked: tuple[float, float], setting: Setting
) -> Line:
    (x, dy), (part, most) = data, asked
    # Besides: a piece's gradients of the weights, the sums of these, and, of an LSTM, weights as the kernel wants them.
    weights = sum(p.nbytes for p in plain.parameters()) * (3 if isinstance(plain, nn.LSTM) else 2)
    ours = memo.scan(plain, budget=weights + int(part * saved))
    ours(x)
    within = ours.receipt.within
    runs = {"plain": step(plain, x, dy), "ours": step(ours, x, dy)}
    times = race(runs, setting.rounds(3, 7), setting.device)
    given = dy.nbytes + sum(p.nbytes for p in plain.parameters())
    taken = peak(runs["ours"], setting.device) - given
    return {
        "cell": f"{type(plain).__name__}, B={x.shape[1]}, H={dy.shape[2]}",
        "plain saves": megabytes(saved),
        "kept": Quantity(100 * (within.peak - weights) / saved, "%", at_most=100 * part * 1.001),
        "with them": Quantity(100 * within.peak / saved, "%"),
        "plain": ms(times.median("plain")),
        "time ÷ plain": Quantity(times.ratio(["ours"], ["plain"]), "x", at_most=most),
        "ahead": Quantity(within.ahead),
        "pieces": Quantity(within.pieces, "n"),
        "budget": megabytes(within.budget),
        "measured ÷ budget": Quantity(taken / within.budget, at_most=1.05),
        "±": noise(times.noise(["ours"], ["plain"])),
    }


BUDGET = Figure(
    "budget: T=1,000, forward and backward of weights",
    f"E={INPUTS}; kept: states and the piece at work, of what the plain module saves for backward; the budget has "
    "besides what is of the weights' size: a piece's gradients of them, their sums and, of an LSTM, the weights as "
    "oneDNN wants them (with them)",
    lines,
)
