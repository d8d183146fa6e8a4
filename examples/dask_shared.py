"""Dask workers that share what they have computed: four workers need the same 20 results, each is computed once.

redis-server --port 6379 &
python examples/dask_shared.py redis://localhost:6379/0
"""

from __future__ import annotations

import sys
import time

import redis
from distributed import Client, LocalCluster

from memograd import Memo

URL = sys.argv[1] if len(sys.argv) > 1 else "redis://localhost:6379/0"
WORKERS, RESULTS = 4, 20

lab = Memo(URL)


# Threads of a Dask worker draw from Python's random stream meanwhile; "freeze" says that this function does not.
@lab(rng="freeze")
def slow_square(n: int, url: str) -> int:
    """Compute, and count in Redis that it was computed."""
    time.sleep(0.1)
    redis.Redis.from_url(url).hincrby("dask computed", str(n), 1)
    return n * n


def work(worker: int) -> list[int]:
    """Ask for all results, each worker from another one on."""
    order = [(n + worker * RESULTS // WORKERS) % RESULTS for n in range(RESULTS)]
    found = {n: slow_square(n, URL) for n in order}
    return [found[n] for n in range(RESULTS)]


def main() -> None:
    """Run the workers, and show how often each result was computed."""
    counter = redis.Redis.from_url(URL)
    counter.delete("dask computed")
    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        answers = client.gather(client.map(work, range(WORKERS), pure=False))
    assert answers == [[n * n for n in range(RESULTS)]] * WORKERS
    counts = [int(count) for count in counter.hvals("dask computed")]
    print(
        f"{WORKERS} workers asked for {RESULTS} results each; computed: {len(counts)}, at most {max(counts)} times each"
    )


if __name__ == "__main__":
    main()
