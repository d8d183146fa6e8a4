"""Ray workers that share what they have computed: four workers need the same 20 results, each is computed once.

redis-server --port 6379 &
python examples/ray_shared.py redis://localhost:6379/0
"""

from __future__ import annotations

import sys
import time

import ray
import redis

from memograd import Memo

URL = sys.argv[1] if len(sys.argv) > 1 else "redis://localhost:6379/0"
WORKERS, RESULTS = 4, 20

lab = Memo(URL)


@lab
def slow_square(n: int, url: str) -> int:
    """Compute, and count in Redis that it was computed."""
    time.sleep(0.1)
    redis.Redis.from_url(url).hincrby("ray computed", str(n), 1)
    return n * n


@ray.remote
def work(worker: int) -> list[int]:
    """Ask for all results, each worker from another one on."""
    order = [(n + worker * RESULTS // WORKERS) % RESULTS for n in range(RESULTS)]
    found = {n: slow_square(n, URL) for n in order}
    return [found[n] for n in range(RESULTS)]


def main() -> None:
    """Run the workers, and show how often each result was computed."""
    client = redis.Redis.from_url(URL)
    client.delete("ray computed")
    ray.init(num_cpus=WORKERS, include_dashboard=False, configure_logging=False)
    answers = ray.get([work.remote(worker) for worker in range(WORKERS)])
    assert answers == [[n * n for n in range(RESULTS)]] * WORKERS
    counts = [int(count) for count in client.hvals("ray computed")]
    print(
        f"{WORKERS} workers asked for {RESULTS} results each; computed: {len(counts)}, at most {max(counts)} times each"
    )
    ray.shutdown()


if __name__ == "__main__":
    main()
