"""Train a recurrent network with shared prefixes computed once: every figure, side by side with the plain program.

``python bench/scan_train.py [--only words --only rl] [--device cpu] [--quick] [--json FILE]``; see README.md here.
"""

from __future__ import annotations

import os

os.environ["OMP_WAIT_POLICY"] = "passive"  # read when torch loads: threads that wait must not burn the other's core
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from figures.dense_grad import DENSE_GRAD
from figures.engine import ENGINE
from figures.memory import MEMORY
from figures.nothing_shared import NOTHING_SHARED
from figures.rl import RL
from figures.trie import TRIE
from figures.words import WORDS
from harness.figure import Figure, Line, as_json, table
from harness.setting import Setting, machine, use_all_cores
from rich.console import Console

FIGURES: dict[str, Figure] = {
    "engine": ENGINE,
    "words": WORDS,
    "rl": RL,
    "nothing-shared": NOTHING_SHARED,
    "memory": MEMORY,
    "trie": TRIE,
    "dense-grad": DENSE_GRAD,
}
WIDTH = 140


def main() -> None:
    asked = _arguments()
    use_all_cores()
    console = Console(width=None if Console().is_terminal else WIDTH)
    results = []
    for device in asked.device or ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        setting = Setting(torch.device(device), asked.quick)
        results.append(_run(setting, asked.only or list(FIGURES), console))
        if asked.json:
            asked.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", action="append", choices=FIGURES, help="a figure; may be given again (all of them)")
    parser.add_argument("--device", action="append", help="cpu or cuda; may be given again (what there is)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, once: shows that it runs, and nothing else")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the lines there, too")
    return parser.parse_args()


def _run(setting: Setting, names: list[str], console: Console) -> dict[str, Any]:
    """Measure the figures on one device; print each as soon as it stands."""
    about = machine(setting.device)
    console.print(" · ".join(f"{name} {value}" for name, value in about.items()), highlight=False)
    figures: dict[str, Any] = {}
    for name in names:
        torch.manual_seed(0)
        lines = _lines(FIGURES[name], setting, Console(stderr=True))
        console.print()
        console.print(table(FIGURES[name], lines), highlight=False)
        figures[name] = as_json(FIGURES[name], lines)
    if setting.quick:
        console.print("\nquick: tiny sizes, run once; the numbers mean nothing", style="dim")
    return {"machine": about, "quick": setting.quick, "figures": figures}


def _lines(figure: Figure, setting: Setting, console: Console) -> list[Line]:
    found: list[Line] = []
    with console.status(figure.title) as status:
        for line in figure.lines(setting):
            found.append(line)
            status.update(f"{figure.title}: {len(found)} lines")
    return found


if __name__ == "__main__":
    main()
