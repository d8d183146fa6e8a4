"""A figure: lines of quantities, some of which were asked to reach a number. Prints as a table, and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.setting import Setting

_FORMATS: dict[str, Callable[[float], str]] = {
    "ms": lambda v: f"{v:,.0f} ms" if v >= 10 else f"{v:.2g} ms",
    "us": lambda v: f"{v:,.1f} µs",
    "ns": lambda v: f"{v:,.0f} ns",
    "MB": lambda v: f"{v:,.0f} MB" if v >= 10 else f"{v:.2g} MB",
    "x": lambda v: f"{v:.2f}x",
    "s": lambda v: f"{v:,.1f} s",
    "n": lambda v: f"{v:,.0f}",
    "%": lambda v: f"{v:.1f} %",
    "": lambda v: f"{v:.2f}",
}


@dataclass(frozen=True)
class Quantity:
    """A measured number.

    Attributes:
        value: in its unit.
        unit: s, ms, us, ns, MB, x, %, n (a count) or none.
        at_least, at_most: what was asked for; None where nothing was.
    """

    value: float
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def asked(self) -> str:
        """What was asked for, as a condition; empty where nothing was."""
        if self.at_least is not None:
            return f"≥ {self.at_least:.3g}"
        return "" if self.at_most is None else f"≤ {self.at_most:.3g}"

    @property
    def met(self) -> bool | None:
        """Whether the number is what was asked for; None where nothing was."""
        if not self.asked:
            return None
        high = self.at_most is None or self.value <= self.at_most
        return high and (self.at_least is None or self.value >= self.at_least)

    def __str__(self) -> str:
        text = _FORMATS[self.unit](self.value)
        if self.met is None:
            return text
        colour, sign = ("green", "✓") if self.met else ("red", "✗")
        return f"[{colour}]{text} {sign}[/] [dim]{self.asked}[/]"


def ms(seconds: float) -> Quantity:
    return Quantity(1000 * seconds, "ms")


def us(seconds: float) -> Quantity:
    return Quantity(1e6 * seconds, "us")


def ns(seconds: float) -> Quantity:
    return Quantity(1e9 * seconds, "ns")


def megabytes(nbytes: float) -> Quantity:
    return Quantity(nbytes / 1e6, "MB")


def noise(part: float) -> Quantity:
    return Quantity(100 * part, "%")


Line = dict[str, "str | Quantity"]


class Figure(NamedTuple):
    """What a figure shows, and the program that measures its lines one after the other."""

    title: str
    note: str
    lines: Callable[[Setting], Iterator[Line]]


def table(figure: Figure, lines: list[Line]) -> Table:
    """Lay the lines out, quantities to the right."""
    made = Table(title=figure.title, caption=figure.note, title_justify="left", caption_justify="left", box=None)
    made.title_style, made.caption_style, made.pad_edge = "bold", "dim", False
    for name, cell in lines[0].items():
        made.add_column(name, justify="left" if isinstance(cell, str) else "right", no_wrap=True)
    for line in lines:
        made.add_row(*map(str, line.values()))
    return made


def as_json(figure: Figure, lines: list[Line]) -> dict[str, Any]:
    """Give the same as data."""
    return {"title": figure.title, "lines": [{name: _plain(cell) for name, cell in line.items()} for line in lines]}


def _plain(cell: str | Quantity) -> Any:
    if isinstance(cell, str):
        return cell
    asked = {"asked": cell.asked, "met": cell.met} if cell.asked else {}
    return {"value": cell.value, "unit": cell.unit, **asked}
