"""A function that never hits: what it costs to have looked, at first and after the step aside."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from harness.figure import Figure, Line, Quantity, us

from memograd import Memo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.setting import Setting
    from torch import Tensor

MILLISECOND = 1e-3


def spin(x: Tensor) -> int:
    """Take a millisecond of processor time, to the microsecond, whatever else runs on the machine."""
    until = time.process_time() + MILLISECOND
    while time.process_time() < until:
        pass
    return x.numel()


def lines(setting: Setting) -> Iterator[Line]:
    """Time calls with ever new tensors, one by one, by the tensors' size."""
    first, later, counted = (2, 2, 2) if setting.quick else (200, 4000, 2000)
    for floats in (1 << 10, 1 << 14, 1 << 18, 1 << 20):
        x = torch.zeros(floats)
        f = Memo()(spin)
        plain = _seconds(spin, x, counted)
        at_first = _seconds(f, x, first)
        _seconds(f, x, later)
        after = _seconds(f, x, counted)
        yield {
            "argument": f"{4 * floats >> 10:,} KiB",
            "plain": us(plain),
            "first calls": us(at_first),
            "later": us(after),
            "overhead at first": Quantity(100 * max(0.0, at_first / plain - 1), "%"),
            "overhead later": Quantity(100 * max(0.0, after / plain - 1), "%", at_most=3.0),
        }


def _seconds(f: Callable[[Tensor], object], x: Tensor, calls: int) -> float:
    """Give the mean processor time of a call. A mean, since looks now and then are what is asked about."""
    spent = 0.0
    for _ in range(calls):
        x[0] += 1
        begin = time.process_time()
        f(x)
        spent += time.process_time() - begin
    return spent / calls


NEVER = Figure(
    "a function that never hits",
    "1 ms of computing a call, every call with another tensor; processor time, means",
    lines,
)
