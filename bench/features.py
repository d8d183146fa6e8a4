"""Features of frozen models: fine-tuning, gathers by index, the mutation suite; each beside what a user would write.

``python bench/features.py [--only finetune --only gather] [--quick] [--json FILE]``; see README.md here.
"""

from __future__ import annotations

import os

os.environ["OMP_WAIT_POLICY"] = "passive"  # read when torch loads: threads that wait must not burn the other's core

from typing import TYPE_CHECKING

from figures.finetune import FINETUNE
from figures.gather import GATHER
from figures.mutations import MUTATIONS
from harness.program import run

if TYPE_CHECKING:
    from harness.figure import Figure

FIGURES: dict[str, Figure] = {"finetune": FINETUNE, "gather": GATHER, "mutations": MUTATIONS}

if __name__ == "__main__":
    run(FIGURES, (__doc__ or "").splitlines()[0], default=("cpu",))
