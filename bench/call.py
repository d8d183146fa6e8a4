"""Remember calls: what a hit costs, what a miss costs, and what one backward for three uses saves.

``python bench/call.py [--only hit --only never] [--device cpu] [--quick] [--json FILE]``; see README.md here.
"""

from __future__ import annotations

import os

os.environ["OMP_WAIT_POLICY"] = "passive"  # read when torch loads: threads that wait must not burn the other's core

from typing import TYPE_CHECKING

from figures.hit import HIT
from figures.never import NEVER
from figures.tensors import TENSORS
from figures.thrice import RESIDENT, THRICE
from figures.weights import WEIGHTS
from harness.program import run

if TYPE_CHECKING:
    from harness.figure import Figure

FIGURES: dict[str, Figure] = {
    "hit": HIT,
    "tensors": TENSORS,
    "weights": WEIGHTS,
    "never": NEVER,
    "thrice": THRICE,
    "resident": RESIDENT,
}

if __name__ == "__main__":
    run(FIGURES, (__doc__ or "").splitlines()[0], default=["cpu"])
