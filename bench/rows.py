"""Rows of batches: equal ones once, known ones not at all: every figure, side by side with the plain program.

``python bench/rows.py [--only share --only recall] [--device cpu] [--quick] [--json FILE]``; see README.md here.
"""

from __future__ import annotations

import os

os.environ["OMP_WAIT_POLICY"] = "passive"  # read when torch loads: threads that wait must not burn the other's core

from typing import TYPE_CHECKING

from figures.row_mutations import MUTATED
from figures.row_nothing import NOTHING
from figures.row_recall import RECALL
from figures.row_share import SHARE
from harness.program import run

if TYPE_CHECKING:
    from harness.figure import Figure

FIGURES: dict[str, Figure] = {"share": SHARE, "nothing": NOTHING, "recall": RECALL, "mutations": MUTATED}

if __name__ == "__main__":
    run(FIGURES, (__doc__ or "").splitlines()[0], default=["cpu"])
