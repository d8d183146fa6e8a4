"""A script of figures: what may be asked of it, what it prints, what it writes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from harness.figure import Figure, Line, as_json, table
from harness.setting import Setting, machine, use_all_cores
from rich.console import Console
from rich.live import Live

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WIDTH = 140


def run(figures: Mapping[str, Figure], about: str, default: Sequence[str] = ()) -> None:
    """Measure the figures that are asked for on the command line.

    Args:
        figures: by the names that ``--only`` takes.
        about: a line for ``--help``.
        default: the devices where none is named; without it those that there are.
    """
    asked = _arguments(figures, about, default)
    use_all_cores()
    console = Console(width=None if Console().is_terminal else WIDTH)
    results = []
    for device in asked.device or default or ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        setting = Setting(torch.device(device), asked.quick)
        results.append(_run(figures, setting, asked.only or list(figures), console))
        if asked.json:
            asked.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _arguments(figures: Mapping[str, Figure], about: str, default: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--only", action="append", choices=figures, help="a figure; may be given again (all of them)")
    there = ", ".join(default) or "what there is"
    parser.add_argument("--device", action="append", help=f"cpu or cuda; may be given again ({there})")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, once: shows that it runs, and nothing else")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the lines there, too")
    return parser.parse_args()


def _run(figures: Mapping[str, Figure], setting: Setting, names: list[str], console: Console) -> dict[str, Any]:
    """Measure the figures on one device; print each as soon as it stands."""
    about = machine(setting.device)
    console.print(" · ".join(f"{name} {value}" for name, value in about.items()), highlight=False)
    found: dict[str, Any] = {}
    for name in names:
        torch.manual_seed(0)
        lines = _lines(figures[name], setting)
        console.print()
        console.print(table(figures[name], lines), highlight=False)
        found[name] = as_json(figures[name], lines)
    if setting.quick:
        console.print("\nquick: tiny sizes, run once; the numbers mean nothing", style="dim")
    return {"machine": about, "quick": setting.quick, "figures": found}


def _lines(figure: Figure, setting: Setting) -> list[Line]:
    """Measure a figure, and say on a terminal how far it is: between its lines, so that nothing runs beside them."""
    found: list[Line] = []
    with Live(figure.title, console=Console(stderr=True), auto_refresh=False, transient=True) as status:
        for line in figure.lines(setting):
            found.append(line)
            status.update(f"{figure.title}: {len(found)} lines", refresh=True)
    return found
