"""The picture of a race: the same losses, reached sooner."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.typing import RcKeyType

    from memograd._demo._race import Tick

MANY = 60
COLOURS = {"plain": "#8a8f98", "memoized": "#c2410c"}
STYLE: dict[RcKeyType, Any] = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#c9ccd1",
    "axes.labelcolor": "#4b5563",
    "xtick.color": "#6b7280",
    "ytick.color": "#6b7280",
    "axes.grid": True,
    "grid.color": "#eceef1",
}


def plot(ticks: list[Tick], title: str, subtitle: str, path: Path) -> None:
    """Draw loss against each side's own seconds of training, and save it as a PNG."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.5, 5.2))
        figure.subplots_adjust(left=0.09, right=0.96, top=0.82, bottom=0.12)
        figure.text(0.09, 0.935, title, fontsize=16, color="#111827")
        figure.text(0.09, 0.875, subtitle, fontsize=10, color="#6b7280")
        _curves(figure.add_subplot(), ticks)
        figure.savefig(path, dpi=150, format="png")


def _curves(axes: Axes, ticks: list[Tick]) -> None:
    for who, colour in COLOURS.items():
        _curve(axes, who, colour, [tick for tick in ticks if tick.who == who])
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds of training")
    axes.set_ylabel("loss, nats per character")
    axes.legend(loc="upper right", frameon=False, labelcolor="linecolor", prop={"weight": "bold", "size": 12})


def _curve(axes: Axes, who: str, colour: str, ticks: list[Tick]) -> None:
    seconds = list(accumulate(tick.seconds for tick in ticks))
    marker = "o" if len(ticks) <= MANY else None
    label = f"{who}: {seconds[-1]:.3g} s"
    losses = [tick.loss for tick in ticks]
    axes.plot(seconds, losses, color=colour, linewidth=2, marker=marker, markersize=4.5, clip_on=False, label=label)
