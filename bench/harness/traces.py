"""Made-up requests to a store: what is asked for, what it takes to compute, and what it takes to keep."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Trace:
    """Requests for things by number.

    Attributes:
        name: what it is.
        asked: the number of what is asked for, request by request.
        seconds: what each takes to compute; of one with a parent, from that on.
        nbytes: what each takes in a store.
        parent: what each continues, -1 for nothing; None where nothing continues another.
    """

    name: str
    asked: Ints
    seconds: Floats
    nbytes: Ints
    parent: Ints | None = None


def zipf(things: int, exponent: float) -> Floats:
    """Give the popularity of things by rank."""
    weights = 1.0 / np.arange(1, things + 1) ** exponent
    return weights / weights.sum()


def calls(requests: int, things: int, seed: int, drift: float = 0.02, exponent: float = 0.9) -> Trace:
    """Ask for independent results, some often and most seldom; what is popular changes as time goes by.

    Costs are lognormal over six orders of magnitude (99.7 % of them within), sizes over four.
    """
    rng = np.random.default_rng(seed)
    seconds = 10.0 ** rng.normal(0.0, 1.0, things)
    nbytes = (10.0 ** rng.normal(4.5, 2 / 3, things)).astype(np.int64) + 1
    ranks = rng.choice(things, requests, p=zipf(things, exponent))
    order, asked, phase = rng.permutation(things), np.empty(requests, np.int64), max(requests // 50, 1)
    for start in range(0, requests, phase):
        asked[start : start + phase] = order[ranks[start : start + phase]]
        moved = rng.choice(things, max(int(drift * things), 2), replace=False)
        order[moved] = order[np.roll(moved, 1)]
    return Trace(f"calls, drift {100 * drift:.0f} %", asked, seconds, nbytes)


def chains(requests: int, roots: int, seed: int, depth: int = 24) -> Trace:
    """Ask for states along sequences: trees of prefixes, each of a model with its own pace and size of states."""
    rng = np.random.default_rng(seed)
    parent, seconds, nbytes, leaves = [], [], [], []
    for _ in range(roots):
        pace, size = 10.0 ** rng.normal(-1.0, 1.0), int(10.0 ** rng.normal(4.5, 0.5))
        nodes = [-1]
        for _ in range(rng.integers(2, 8)):
            node = nodes[rng.integers(len(nodes))]
            for _ in range(rng.integers(2, depth)):
                parent.append(node)
                seconds.append(pace * rng.uniform(0.5, 2.0))
                nbytes.append(size)
                node = len(parent) - 1
                nodes.append(node)
            leaves.append(node)
    popular = rng.permutation(len(leaves))[rng.choice(len(leaves), requests, p=zipf(len(leaves), 0.9))]
    asked = np.array(leaves)[popular]
    return Trace("prefix chains", asked, np.array(seconds), np.array(nbytes), np.array(parent))
