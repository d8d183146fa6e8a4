"""One network used three times with the same input in a training step: the forward and backward pass of one."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from harness.agreement import agree
from harness.figure import Figure, Line, Quantity, megabytes, ms, noise
from harness.timing import race
from torch import Tensor, nn

from memograd import Memo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.setting import Setting


def network() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(1024, 64)),
    )


def lines(setting: Setting) -> Iterator[Line]:
    """Race one use and three plain ones against three remembered."""
    net = network().to(setting.device)
    x = torch.randn(2 if setting.quick else 64, 3, 32, 32, device=setting.device)
    features = _features(net)
    ours = Memo()(features)
    runs = {"thrice": _step(net, features, x, 3), "ours": _step(net, ours, x, 3)}
    agree(runs, net.parameters())
    times = race({**runs, "once": _step(net, features, x, 1)}, setting.rounds(11), setting.device)
    yield {
        "plain, 1 use": ms(times.median("once")),
        "plain, 3 uses": ms(times.median("thrice")),
        "memo, 3 uses": ms(times.median("ours")),
        "speed-up": Quantity(times.ratio(["thrice"], ["ours"]), "x"),
        "memo ÷ 1 use": Quantity(times.ratio(["ours"], ["once"]), "x", at_most=1.15),
        "±": noise(times.noise(["ours"], ["once"])),
    }


def _features(net: nn.Module) -> Callable[[Tensor], Tensor]:
    def features(batch: Tensor) -> Tensor:
        return net(batch)

    return features


def _step(net: nn.Module, f: Callable[[Tensor], Tensor], x: Tensor, uses: int) -> Callable[[], None]:
    def run() -> None:
        net.zero_grad(set_to_none=True)
        loss = torch.stack([f(x).square().mean() * (use + 1) for use in range(uses)]).sum()
        loss.backward()

    return run


def growth(setting: Setting) -> Iterator[Line]:
    """Train over new inputs and see what stays."""
    net = network().to(setting.device)
    ours = Memo()(_features(net))
    rows, steps = (2, 3) if setting.quick else (64, 100)

    def train(count: int) -> None:
        for _ in range(count):
            _step(net, ours, torch.randn(rows, 3, 32, 32, device=setting.device), 3)()

    train(steps // 2)
    before = _resident()
    train(steps)
    grown = _resident() - before
    yield {
        "steps": f"{steps}",
        "resident before": megabytes(before),
        "grown by": Quantity(max(0.0, grown / 1e6), "MB", at_most=8.0),
    }


def _resident() -> int:
    # What is free must have been given back, or it would be taken for something that is kept.
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


THRICE = Figure("a CNN used 3 times with one input in a step", "forward and backward; the weights unchanged", lines)
RESIDENT = Figure("memory over a training loop with new inputs", "the same CNN, 3 uses a step", growth)
