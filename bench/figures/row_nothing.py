"""Rows that never repeat: what it costs to have looked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from figures.row_models import cases
from harness.figure import Figure, Line, Quantity, ms, noise
from harness.timing import race

from memograd import Memo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.setting import Setting
    from torch import Tensor, nn

BEFORE = 60  # calls before the first that is timed: by then a wrapper knows that nothing repeats


def lines(setting: Setting) -> Iterator[Line]:
    """Race training steps, and frozen features, on batches that are new each time."""
    for name, case in cases(quick=setting.quick, device=setting.device).items():
        size = 32 if setting.quick else case.batch
        for what in ("training", "frozen"):
            module = case.make().to(setting.device)
            if what == "frozen":
                module.eval().requires_grad_(False)
            pool = case.rows(8 * size)
            runs = {"plain": _run(module, module, pool, size), "ours": _run(Memo().rows(module), module, pool, size)}
            for _ in range(1 if setting.quick else BEFORE):
                runs["ours"]()
            times = race(runs, setting.rounds(11, 31), setting.device)
            yield {
                "model": name,
                "weights": what,
                "plain": ms(times.median("plain")),
                "ours": ms(times.median("ours")),
                "ours over plain": Quantity(times.ratio(["ours"], ["plain"]), "x", at_most=1.02),
                "±": noise(times.noise(["ours"], ["plain"])),
            }


def _run(f: Callable[[Tensor], Tensor], module: nn.Module, pool: Tensor, size: int) -> Callable[[], None]:
    trains = any(p.requires_grad for p in module.parameters())
    numbers = torch.Generator().manual_seed(0)

    def run() -> None:
        at = int(torch.randint(0, len(pool) - size, (), generator=numbers))
        x = pool[at : at + size] + torch.rand((), generator=numbers).to(pool.device)
        if trains:
            module.zero_grad(set_to_none=True)
            f(x).sum().backward()
        else:
            f(x)

    return run


NOTHING = Figure(
    "rows that never repeat",
    f"512 rows, 2,048 for the MLP, new in each call; after {BEFORE} calls, in which a wrapper finds out",
    lines,
)
