"""What to keep: seconds saved within the same bytes by GDSF, LRU, W-TinyLFU, hyperbolic caching, and with foresight.

``python bench/evict.py [--only calls --only chains] [--quick] [--json FILE]``; see README.md here.
"""

from __future__ import annotations

from figures.evict import CALLS, CHAINS
from harness.program import run

FIGURES = {"calls": CALLS, "chains": CHAINS}

if __name__ == "__main__":
    run(FIGURES, (__doc__ or "").splitlines()[0], default=["cpu"])
