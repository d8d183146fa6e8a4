"""Weights as part of a key: read again at every outermost call, once in a block that freezes them."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from harness.calls import many, remembered
from harness.figure import Figure, Line, Quantity, ms, us
from harness.timing import race
from torch import nn

from memograd import Memo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.setting import Setting


def size_of(module: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in module.parameters())


def lines(setting: Setting) -> Iterator[Line]:
    """Time hits of a function whose argument is a module, by the module's size."""
    for width in (16,) if setting.quick else (256, 1024, 2048):
        module = (
            nn.Sequential(nn.Linear(width, width), nn.Linear(width, width)).to(setting.device).requires_grad_(False)
        )
        module.requires_grad_(requires_grad=False)
        memo = Memo()
        f = remembered(memo(_norm), module)
        frozen = getattr(memo, "frozen", None)
        with torch.no_grad():
            seconds = _seconds(f, module, setting)
            with nullcontext() if frozen is None else frozen(module):
                within = _seconds(f, module, setting)
        line: Line = {"weights": f"{size_of(module) / 1e6:.1f} MB", "hit": ms(seconds)}
        line["ms a MB"] = Quantity(1e9 * seconds / size_of(module), at_most=0.1 if width > 1000 else None)
        line["hit, frozen"] = us(within) if frozen is not None else "not there"
        yield line


def _seconds(f: Callable[..., object], module: nn.Module, setting: Setting) -> float:
    return race({"hit": many(f, (module,), 10)}, setting.rounds(15), setting.device).median("hit") / 10


def _norm(module: Any) -> float:
    return float(sum(parameter.sum() for parameter in module.parameters()))


WEIGHTS = Figure("weights as part of a key", "about 0.08 ms a MB asked for; frozen: `with memo.frozen(module):`", lines)
