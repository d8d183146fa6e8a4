"""What it costs to know what a tensor is, beside the bare digest of its bytes, reading them, and what others do.

``python bench/fingerprint.py [--quick] [--json FILE]``; see README.md here.
"""

from __future__ import annotations

import os

os.environ["OMP_WAIT_POLICY"] = "passive"  # read when torch loads: threads that wait must not burn the other's core

from figures.content import CONTENT
from harness.program import run

if __name__ == "__main__":
    run({"content": CONTENT}, (__doc__ or "").splitlines()[0], default=["cpu"])
