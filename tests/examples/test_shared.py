"""On real clusters of Ray and of Dask, workers over one Redis compute each result once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.servers import redis_server

__all__ = ["redis_server"]
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["ray", "dask"])
def test_workers_compute_each_result_once(cluster, redis_server):
    run = [sys.executable, EXAMPLES / f"{cluster}_shared.py", redis_server.url]
    done = subprocess.run(run, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert "4 workers asked for 20 results each; computed: 20, at most 1 times each" in done.stdout
    assert "MemogradWarning" not in done.stderr
    counts = redis_server.client.hgetall(f"{cluster} computed")
    assert (len(counts), set(counts.values())) == (20, {b"1"})
