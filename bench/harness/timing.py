"""Interleaved medians: what is compared runs in turns, so that the machine's moods strike all alike.

A ratio is the median of the rounds' own ratios: of two medians each may come from a mood of its own.
"""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Rounds:
    """How often to run: at least `least` rounds, then on to `most` while fewer than `seconds` have passed."""

    least: int = 5
    most: int = 15
    seconds: float = 30.0


@dataclass(frozen=True)
class Times:
    """Seconds of every run, round by round."""

    seconds: Mapping[Hashable, Sequence[float]]

    def median(self, *keys: Hashable) -> float:
        """Give the median seconds of a run; of several runs, the sum of their medians."""
        return sum(float(np.median(self.seconds[key])) for key in keys)

    def faster(self, *keys: Hashable) -> Hashable:
        """Give the run with the least median."""
        return min(keys, key=self.median)

    def ratio(self, over: Iterable[Hashable], under: Iterable[Hashable]) -> float:
        """Give the time of some runs over that of others, as the median round has it."""
        return float(np.median(self._rounds(over) / self._rounds(under)))

    def noise(self, over: Iterable[Hashable], under: Iterable[Hashable]) -> float:
        """Give half the middle half of the rounds' own ratios, as a part of their median."""
        low, middle, high = np.quantile(self._rounds(over) / self._rounds(under), [0.25, 0.5, 0.75])
        return float((high - low) / middle / 2)

    def _rounds(self, keys: Iterable[Hashable]) -> NDArray[np.float64]:
        return np.sum([self.seconds[key] for key in keys], axis=0)


def race(runs: Mapping[Any, Callable[[], object]], rounds: Rounds, device: torch.device) -> Times:
    """Time runs against each other.

    Every round runs each of them once, in an order that moves by one a round. One round before goes untimed: it
    fills caches, the allocator and what a program sets up at its first call.

    Args:
        runs: what to time, by name.
        rounds: how often.
        device: waited for before every reading of the clock.
    """
    seconds: dict[Hashable, list[float]] = {key: [] for key in runs}
    keys = list(runs)
    for run in runs.values():
        run()
    begin = time.perf_counter()
    for turn in range(rounds.most):
        if turn >= rounds.least and time.perf_counter() - begin > rounds.seconds:
            break
        gc.collect()
        for key in keys[turn % len(keys) :] + keys[: turn % len(keys)]:
            seconds[key].append(_timed(runs[key], device))
    return Times(seconds)


def _timed(run: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    begin = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - begin


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
