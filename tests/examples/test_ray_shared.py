"""On a real Ray cluster, workers over one Redis compute each result once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.servers import redis_server

__all__ = ["redis_server"]
EXAMPLE = Path(__file__).parents[2] / "examples" / "ray_shared.py"


@pytest.mark.slow
def test_ray_workers_compute_each_result_once(redis_server):
    done = subprocess.run(
        [sys.executable, EXAMPLE, redis_server.url], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "4 workers asked for 20 results each; computed: 20, at most 1 times each" in done.stdout
    assert "MemogradWarning" not in done.stderr
    counts = redis_server.client.hgetall("ray computed")
    assert (len(counts), set(counts.values())) == (20, {b"1"})
