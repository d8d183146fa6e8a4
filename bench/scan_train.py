"""Train a recurrent network with shared prefixes computed once: every figure, side by side with the plain program.

``python bench/scan_train.py [--only words --only rl] [--device cpu] [--quick] [--json FILE]``; see README.md here.
"""

from __future__ import annotations

import os

os.environ["OMP_WAIT_POLICY"] = "passive"  # read when torch loads: threads that wait must not burn the other's core
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

from typing import TYPE_CHECKING

from figures.dense_grad import DENSE_GRAD
from figures.engine import ENGINE
from figures.memory import MEMORY
from figures.nothing_shared import NOTHING_SHARED
from figures.rl import RL
from figures.trie import TRIE
from figures.words import WORDS
from harness.program import run

if TYPE_CHECKING:
    from harness.figure import Figure

FIGURES: dict[str, Figure] = {
    "engine": ENGINE,
    "words": WORDS,
    "rl": RL,
    "nothing-shared": NOTHING_SHARED,
    "memory": MEMORY,
    "trie": TRIE,
    "dense-grad": DENSE_GRAD,
}

if __name__ == "__main__":
    run(FIGURES, (__doc__ or "").splitlines()[0])
