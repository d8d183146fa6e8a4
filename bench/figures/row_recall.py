"""Nine rows in ten known: a batch against the tenth alone, and what it takes to digest the rows."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import cycle
from typing import TYPE_CHECKING, Any

import torch
from figures.row_models import cases
from harness.figure import Figure, Line, Quantity, ms, noise
from harness.timing import race
from xxhash import xxh3_128_digest

from memograd import Memo, memo
from memograd._share._rows import digests_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.setting import Setting
    from torch import Tensor, nn


def lines(setting: Setting) -> Iterator[Line]:
    """Race batches of which a tenth is new each time."""
    size, new = (40, 4) if setting.quick else (1024, 102)
    for name, case in cases(quick=setting.quick, device=setting.device).items():
        module = case.make().to(setting.device).eval().requires_grad_(False)
        known = case.rows(size - new)
        batches = [torch.cat([known, case.rows(new)]) for _ in range(2 if setting.quick else 40)]
        for weights in ("hashed in each call", "memo.frozen(model)"):
            mine: Any = Memo().rows(module, always=True)
            with memo.frozen(module) if weights.startswith("memo") else nullcontext():
                mine(known)
                mine(batches[0])
                size_alone = new + mine.receipt.padded
                times = race(_runs(module, mine, batches[1:], size_alone), setting.rounds(9, 21), setting.device)
            yield {
                "model": name,
                "weights": weights,
                "plain": ms(times.median("plain")),
                "ours": ms(times.median("ours")),
                "the tenth alone": ms(times.median("alone")),
                "digests": ms(times.median("digests")),
                "ours over both": Quantity(times.ratio(["ours"], ["alone", "digests"]), "x", at_most=1.35),
                "±": noise(times.noise(["ours"], ["alone", "digests"])),
                "speed-up": Quantity(times.ratio(["plain"], ["ours"]), "x"),
            }


def _runs(module: nn.Module, mine: nn.Module, batches: list[Tensor], alone: int) -> dict[str, Callable[[], object]]:
    turn = {name: cycle(batches) for name in ("plain", "ours", "alone", "digests")}
    return {
        "plain": lambda: module(next(turn["plain"])),
        "ours": lambda: mine(next(turn["ours"])),
        "alone": lambda: module(next(turn["alone"])[-alone:]),
        "digests": lambda: digests_of([next(turn["digests"])], xxh3_128_digest),
    }


RECALL = Figure(
    "nine rows in ten known, in memory",
    "1,024 rows, of which 102 are new in each call; the tenth alone: padded to the size of the class, as ours is",
    lines,
)
