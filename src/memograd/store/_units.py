"""Sizes and times as people write them: "2GiB", "10 MB", "7d"; read here, and written."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SIZES: Mapping[str, float] = {
    "": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
    "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12,
    "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}  # fmt: skip
TIMES: Mapping[str, float] = {
    "": 1, "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400,
    "w": 604_800,
}  # fmt: skip
# Times up to here are shown in this unit, which has so many seconds.
_SHOWN = (
    (999.5e-9, "ns", 1e-9), (999.5e-6, "µs", 1e-6), (0.9995, "ms", 1e-3), (120, "s", 1), (7200, "min", 60),
    (172_800, "h", 3600), (8_640_000, "d", 86_400),
)  # fmt: skip
_NUMBER = re.compile(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?|\.[0-9]+)\s*([a-zµ]*)\s*", re.IGNORECASE)


def parse_bytes(size: int | str, name: str = "max_bytes") -> int:
    """Read a size: 2_000_000, "2MB", "2GiB".

    Args:
        size: bytes as a number, or text with a unit (kB, MB, GB, or k, M, G, of 1000; KiB, MiB, GiB of 1024).
        name: what it is the value of, for messages.
    """
    expected = f'expected bytes as an int above 0 or text such as "2GiB" or "500MB"; write {name}="2GiB"'
    if isinstance(size, bool) or not isinstance(size, (int, str)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{name} got {size!r}, {expected}")
    number = size if isinstance(size, int) else read(size, SIZES)
    if number is None or int(number) <= 0:
        raise ValueError(f"{name} got {size!r}, {expected}")
    return int(number)


def read(text: str, units: Mapping[str, float]) -> float | None:
    """Read a number with a unit; None if it is none."""
    found = _NUMBER.fullmatch(text)
    unit = units.get(found[2].lower()) if found else None
    return None if found is None or unit is None else float(found[1].replace("_", "")) * unit


def show_bytes(nbytes: float) -> str:
    """Write a size: "512 B", "1.5 MiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(nbytes) < (1024 if unit == "B" else 999.5):
            return f"{nbytes:.0f} B" if unit == "B" else f"{nbytes:.3g} {unit}"
        nbytes /= 1024
    return f"{nbytes:,.3g} TiB" if nbytes < 1000 else f"{nbytes:,.0f} TiB"


def show_seconds(seconds: float) -> str:
    """Write a time: "85 µs", "3.2 s", "2.5 h"."""
    size = abs(seconds)
    if not size:
        return "0 s"
    for limit, unit, length in _SHOWN:
        if size < limit:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds / 86_400:,.0f} d"
