"""What it costs to know what a tensor is, beside the bare digest of its bytes, reading them, and what others do.

Each row is measured in turns with what it is compared with; a ratio is the median of the rounds' own ratios.

    python bench/fingerprint.py [--rounds 15] [--mib 256] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from blake3 import blake3
from xxhash import xxh3_128_digest

from memograd.fingerprint import fingerprint
from memograd.fingerprint._content import KEY, identify

if TYPE_CHECKING:
    from collections.abc import Callable


class Figure(NamedTuple):
    """Something that is measured, what it is measured beside, and what was asked of it."""

    name: str
    ours: Callable[[], object]
    beside: str
    theirs: Callable[[], object]
    calls: int
    asked: str = ""
    microseconds_at_most: float = float("inf")
    times_at_most: float = float("inf")


def bare(value: torch.Tensor) -> bytes:
    return xxh3_128_digest(value.numpy())


def figures(mib: int) -> list[Figure]:
    small, middle = torch.randn(256), torch.randn(25_600)
    large = torch.randn(mib << 18)
    several = [torch.randn(1024) for _ in range(16)]
    words = large.view(torch.int64)
    model = torch.nn.Sequential(*(torch.nn.Linear(512, 512) for _ in range(24)))
    weights = [parameter.detach() for parameter in model.parameters()]
    quick = quick_of(small)
    found = [
        Figure("tensor of 1 KiB", lambda: fingerprint(small), "bare xxh3", lambda: bare(small), 3000, "< 6 us", 6),
        Figure(
            "tensor of 100 KiB", lambda: fingerprint(middle), "bare xxh3", lambda: bare(middle), 3000, "< 12 us", 12
        ),
        Figure("its part of a key, 1 KiB", lambda: identify(small), "bare xxh3", lambda: bare(small), 3000),
        Figure(
            "16 tensors of 4 KiB, parts of a key",
            lambda: [quick(value) for value in several],
            "bare xxh3",
            lambda: [bare(value) for value in several],
            500,
            "< 1.6x",
            times_at_most=1.6,
        ),
        Figure("a list of them", lambda: identify(several), "bare xxh3", lambda: [bare(v) for v in several], 500),
        Figure(
            f"tensor of {mib} MiB",
            lambda: fingerprint(large),
            "bare xxh3",
            lambda: bare(large),
            1,
            "< 1.11x",
            times_at_most=1 / 0.9,
        ),
        Figure(f"tensor of {mib} MiB", lambda: fingerprint(large), "reading it", words.sum, 1),
        Figure(
            f"tensor of {mib} MiB, blake3",
            lambda: fingerprint(large, digest="blake3"),
            "blake3 itself",
            lambda: blake3(large.view(torch.uint8).numpy(), max_threads=blake3.AUTO).digest(),
            1,
            "< 1.11x",
            times_at_most=1 / 0.9,
        ),
        Figure(
            f"module of {sum(w.nbytes for w in weights) >> 20} MiB",
            lambda: identify(model),
            "bare xxh3",
            lambda: [bare(weight) for weight in weights],
            3,
        ),
    ]
    return found + joblibs(large, several)


def joblibs(large: torch.Tensor, several: list[torch.Tensor]) -> list[Figure]:
    try:
        from joblib import hash as joblib_hash
    except ModuleNotFoundError:
        return []
    array = large.numpy()
    return [
        Figure("the large one", lambda: fingerprint(large), "joblib.hash of the array", lambda: joblib_hash(array), 1),
        Figure("the list of 16", lambda: identify(several), "joblib.hash", lambda: joblib_hash(several), 50),
    ]


def quick_of(value: torch.Tensor) -> Callable[[Any], bytes | None]:
    """Give what writes a tensor into a key when nothing about it is out of the ordinary."""
    identify(value)
    return KEY.quick[type(value)]


def seconds(call: Callable[[], object], calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - began) / calls


def measure(figure: Figure, rounds: int) -> tuple[float, float, float]:
    """Give the medians of both sides, and of the rounds' ratios, after a round that is not timed."""
    pairs: list[tuple[float, float]] = []
    for turn in range(rounds + 1):
        sides = [(0, figure.ours), (1, figure.theirs)]
        times = {side: seconds(call, figure.calls) for side, call in (sides if turn % 2 else sides[::-1])}
        pairs.append((times[0], times[1]))
    pairs = pairs[1:]
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    return ours, theirs, statistics.median(first / second for first, second in pairs)


def show(figure: Figure, ours: float, theirs: float, ratio: float) -> None:
    reached = 1e6 * ours < figure.microseconds_at_most and ratio < figure.times_at_most
    asked = f"{figure.asked} {'✓' if reached else '✗'}" if figure.asked else ""
    print(
        f"{figure.name:<38}{1e6 * ours:>12,.1f} us{1e6 * theirs:>12,.1f} us{ratio:>8.2f}x  {figure.beside:<26}{asked}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each figure (default 15)")
    parser.add_argument("--mib", type=int, default=256, help="size of the large tensor (default 256)")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print(f"{'':<38}{'ours':>15}{'beside':>15}{'ratio':>9}")
    data: dict[str, dict[str, float]] = {}
    for figure in figures(options.mib):
        ours, theirs, ratio = measure(figure, options.rounds)
        show(figure, ours, theirs, ratio)
        data[f"{figure.name} / {figure.beside}"] = {"seconds": ours, "beside": theirs, "ratio": ratio}
    if options.json:
        options.json.write_text(json.dumps(data, indent=2) + "\n")


if __name__ == "__main__":
    main()
