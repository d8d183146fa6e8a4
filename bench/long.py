"""Long sequences within a budget of bytes: what is kept, and what it costs, beside the plain module.

``python bench/long.py [--only budget --only plan] [--device cpu] [--quick] [--json FILE]``; see README.md here.
"""

from __future__ import annotations

import os

os.environ["OMP_WAIT_POLICY"] = "passive"  # read when torch loads: threads that wait must not burn the other's core
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

from typing import TYPE_CHECKING

from figures.adherence import ADHERENCE
from figures.any_cell import ANY_CELL
from figures.budget import BUDGET
from figures.plan import PLAN
from figures.resume import RESUME
from figures.streamed import STREAMED
from harness.program import run

if TYPE_CHECKING:
    from harness.figure import Figure

FIGURES: dict[str, Figure] = {
    "budget": BUDGET,
    "adherence": ADHERENCE,
    "plan": PLAN,
    "any_cell": ANY_CELL,
    "streamed": STREAMED,
    "resume": RESUME,
}

if __name__ == "__main__":
    run(FIGURES, (__doc__ or "").splitlines()[0])
