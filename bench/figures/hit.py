"""A hit on plain arguments, beside functools' own."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from harness.calls import many, remembered
from harness.figure import Figure, Line, Quantity, noise, ns
from harness.timing import race

from memograd import Memo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.setting import Setting

SCALE = 3
OFFSET = 1


def _double(n: int) -> int:
    return 2 * n


def _shift(n: int) -> int:
    return _double(n) + OFFSET


def alone(n: int) -> int:
    return n * n


def one(n: int) -> int:
    return _shift(n) * SCALE


def two(n: int, m: int) -> int:
    return _shift(n) * SCALE + _double(m)


def through_torch(n: int) -> float:
    return float(torch.full((), n).sin())


CASES: tuple[tuple[str, Callable[..., object], tuple[Any, ...], float], ...] = (
    ("f(int), nothing reached", alone, (7,), 2.0),
    ("f(int), 2 functions and 2 globals reached", one, (7,), 2.0),
    ("f(int, int), 2 functions and 2 globals reached", two, (7, 8), 2.0),
    ("f(int) that can reach torch", through_torch, (7,), 6.0),
)


def lines(setting: Setting) -> Iterator[Line]:
    """Race hits of one function remembered by functools and by memograd."""
    # Runs so short that most of them end before another program has its turn.
    calls = 100 if setting.quick else 2_000
    for name, f, args, asked in CASES:
        theirs, ours = functools.lru_cache(None, typed=True)(f), Memo()(f)
        runs = {"lru": many(theirs, args, calls), "ours": many(remembered(ours, *args), args, calls)}
        times = race(runs, setting.rounds(101, 101), setting.device)
        yield {
            "hit of": name,
            "lru_cache(typed=True)": ns(times.median("lru") / calls),
            "memo": ns(times.median("ours") / calls),
            "memo ÷ lru": Quantity(times.ratio(["ours"], ["lru"]), "x", at_most=asked),
            "±": noise(times.noise(["ours"], ["lru"])),
        }


HIT = Figure("a hit on plain arguments", "reached code and globals are looked at on every hit", lines)
