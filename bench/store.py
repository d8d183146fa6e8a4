"""Keep results: what a store costs beside what it is made of and beside its peers, and what it survives.

``python bench/store.py [--only small --only load] [--device cpu] [--quick] [--json FILE]``; see README.md here.
"""

from __future__ import annotations

import os

os.environ["OMP_WAIT_POLICY"] = "passive"  # read when torch loads: threads that wait must not burn the other's core

from typing import TYPE_CHECKING

from figures.bits import BITS
from figures.kills import KILLED
from figures.load import LOAD, SAVE
from figures.memory_hit import MEMORY_HIT
from figures.million import MILLION
from figures.single_flight import SINGLE_FLIGHT
from figures.small import SMALL
from harness.program import run

if TYPE_CHECKING:
    from harness.figure import Figure

FIGURES: dict[str, Figure] = {
    "load": LOAD,
    "save": SAVE,
    "small": SMALL,
    "memory-hit": MEMORY_HIT,
    "single-flight": SINGLE_FLIGHT,
    "kills": KILLED,
    "bits": BITS,
    "million": MILLION,
}

if __name__ == "__main__":
    run(FIGURES, (__doc__ or "").splitlines()[0], default=["cpu"])
