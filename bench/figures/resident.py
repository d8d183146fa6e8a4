"""Take one training step on the word list in this process, and print the high-water mark of its resident set.

Run by the memory figure: ``resident.py sampled|sorted floor|packed|shared [quick]``.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from figures.words import batches, program
from harness.memory import high_water
from harness.setting import Setting, use_all_cores


def main(order: str, who: str, *size: str) -> None:
    use_all_cores()
    setting = Setting(torch.device("cpu"), quick="quick" in size)
    model, corpus = program(setting)
    batch = batches(setting, corpus, "sorted" if order == "sorted" else "sampled")[0]
    tiny = next(corpus.batches(8, "sampled", (0, 0)))
    for name in ("packed", "shared"):
        model.step(name, tiny)  # loads what the first step loads
    if who != "floor":
        model.step(who, batch)
    print(high_water())


if __name__ == "__main__":
    main(*sys.argv[1:])
