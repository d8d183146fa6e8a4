"""Nothing to share: what it costs to have looked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from harness.agreement import agree
from harness.figure import Figure, Line, Quantity, ms, noise
from harness.timing import race
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from memograd import memo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.setting import Setting

INPUTS = 64


def lines(setting: Setting) -> Iterator[Line]:
    """Race the plain module against ours on random batches, some of which begin with equal steps."""
    rows, horizon, size = (64, 6, 16) if setting.quick else (4096, 24, 256)
    for kind in (nn.LSTM, nn.GRU):
        plain = kind(INPUTS, size, batch_first=True).to(setting.device)
        for name, x in _inputs(rows, horizon, setting.device).items():
            runs = {"plain": _step(plain, x), "ours": _step(memo.scan(plain), x)}
            agree(runs, plain.parameters())
            times = race(runs, setting.rounds(), setting.device)
            yield {
                "cell": kind.__name__,
                "input": name,
                "plain": ms(times.median("plain")),
                "ours": ms(times.median("ours")),
                "speed-up": Quantity(times.ratio(["plain"], ["ours"]), "x", at_least=0.97),
                "±": noise(times.noise(["plain"], ["ours"])),
            }


def _inputs(rows: int, horizon: int, device: torch.device) -> dict[str, Tensor | PackedSequence]:
    x = torch.randn(rows, horizon, INPUTS, device=device)
    lengths = torch.randint(1, horizon + 1, (rows,))
    return {
        "dense": x,
        "packed, ragged": pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False),
        "first step alike": _alike(x, 1),
        "first 3 steps alike": _alike(x, 3),
    }


def _alike(x: Tensor, steps: int) -> Tensor:
    x = x.clone()
    x[:, :steps] = x[:1, :steps]
    return x


def _step(rnn: nn.Module, x: Tensor | PackedSequence) -> Callable[[], None]:
    def data(y: Any) -> Tensor:
        return y.data if isinstance(y, PackedSequence) else y

    with torch.no_grad():
        dy = torch.ones_like(data(rnn(x)[0]))

    def run() -> None:
        rnn.zero_grad(set_to_none=True)
        data(rnn(x)[0]).backward(dy)

    return run


NOTHING_SHARED = Figure(
    "nothing shared: what it costs to have looked",
    f"forward and backward of 4,096 random rows x 24 steps, E={INPUTS}, H=256, input without gradient",
    lines,
)
