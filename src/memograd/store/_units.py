"""Sizes and times as people write them: "2GiB", "10 MB", "7d"; read here, and written."""

from __future__ import annotations

import math
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


def parse_bytes(size: object, name: str = "max_bytes", *, who: str = "", at_least: int = 1) -> int:
    """Read a size: 2_000_000, "2MB", "2GiB".

    Args:
        size: bytes as a number, or text with a unit (kB, MB, GB, or k, M, G, of 1000; KiB, MiB, GiB of 1024).
        name: what it is the value of, for messages.
        who: is asked, for messages.
        at_least: the fewest bytes that make sense, 0 or 1.

    Raises:
        TypeError, ValueError: it is none; the message says what to write.
    """
    bytes_ = "bytes as an int above 0" if at_least else "0 or more bytes as an int"
    said = f'{_got(who, name, size)}, expected {bytes_} or text such as "2GiB" or "500MB"; write {name}="2GiB"'
    if isinstance(size, bool) or not isinstance(size, (int, str)):
        raise TypeError(said)
    number = size if isinstance(size, int) else read(size, SIZES)
    if number is None or not at_least <= number < math.inf:
        raise ValueError(said)
    return int(number)


def parse_seconds(seconds: object, name: str = "ttl", *, who: str = "") -> float:
    """Read a length of time: 3600, "90s", "7d". The arguments, and what it raises, are as of `parse_bytes`."""
    said = f'{_got(who, name, seconds)}, expected seconds above 0 or text such as "90s" or "7d"; write {name}="7d"'
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float, str)):
        raise TypeError(said)
    number = read(seconds, TIMES) if isinstance(seconds, str) else seconds
    if number is None or not 0 < number < math.inf:
        raise ValueError(said)
    return float(number)


def _got(who: str, name: str, value: object) -> str:
    return f"{who}() got {name}={value!r}" if who else f"{name} got {value!r}"


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
