"""A hit in memory, where a disk stands behind it."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import torch
from harness.calls import many, remembered
from harness.figure import Figure, Line, Quantity, us
from harness.timing import race

from memograd import Memo
from memograd.store import Disk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.setting import Setting
    from torch import Tensor

FLOATS = 256


def doubled(x: Tensor) -> Tensor:
    return 2 * x


def lines(setting: Setting) -> Iterator[Line]:
    """Race a memory in front of a disk against one that has nothing behind it."""
    calls, x = 20 if setting.quick else 2000, torch.randn(FLOATS)
    with tempfile.TemporaryDirectory() as folder, Disk(folder) as disk:
        programs = {"disk": remembered(Memo(disk)(doubled, always=True), x)}
        programs["alone"] = remembered(Memo()(doubled, always=True), x)
        runs = {name: many(f, (x,), calls) for name, f in programs.items()}
        times = race(runs, setting.rounds(21, 51), setting.device)
    yield {
        "argument and result": f"a tensor of {FLOATS} floats",
        "a hit": Quantity(1e6 * times.median("disk") / calls, "us", at_most=20.0),
        "with nothing behind": us(times.median("alone") / calls),
    }


MEMORY_HIT = Figure(
    "a hit in memory, with a disk behind", "hashing the argument, and copying the result, counted", lines
)
