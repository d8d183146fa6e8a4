"""Equal rows in a batch: a training step against the plain one, and against that of the distinct rows alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from figures.row_models import cases
from harness.agreement import agree
from harness.figure import Figure, Line, Quantity, ms, noise
from harness.timing import race

from memograd import Memo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.setting import Setting
    from torch import Tensor, nn


def lines(setting: Setting) -> Iterator[Line]:
    """Race training steps on batches in which each row is there 2, 4 and 8 times."""
    for name, case in cases(quick=setting.quick, device=setting.device).items():
        size = 32 if setting.quick else case.batch
        for times_there in (2, 4, 8):
            module = case.make().to(setting.device)
            alone = case.rows(size // times_there)
            order = torch.randperm(size, device=setting.device)
            x = alone.repeat(times_there, *[1] * (alone.dim() - 1))[order]
            mine = Memo().rows(module, always=True)
            runs = {"plain": _step(module, module, x), "ours": _step(mine, module, x)}
            agree(runs, module.parameters())
            runs["alone"] = _step(module, module, alone)
            times = race(runs, setting.rounds(), setting.device)
            speed, ideal = times.ratio(["plain"], ["ours"]), times.ratio(["plain"], ["alone"])
            assert mine.receipt is not None
            yield {
                "model": name,
                "each row": f"{times_there} times",
                "plain": ms(times.median("plain")),
                "ours": ms(times.median("ours")),
                "distinct alone": ms(times.median("alone")),
                "speed-up": Quantity(speed, "x"),
                "ideal": Quantity(ideal, "x"),
                "of the ideal": Quantity(times.ratio(["alone"], ["ours"]), "", at_least=0.85),
                "±": noise(times.noise(["alone"], ["ours"])),
                "bits": mine.receipt.exact,
            }


def _step(f: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor) -> Callable[[], None]:
    with torch.no_grad():
        dy = torch.ones_like(module(x))

    def run() -> None:
        module.zero_grad(set_to_none=True)
        f(x).backward(dy)

    return run


SHARE = Figure(
    "equal rows in a batch: forward and backward",
    "512 rows, 2,048 for the MLP; ideal: the plain step of all rows over the plain step of the distinct rows alone",
    lines,
)
