"""Fibonacci three times: by naive recursion, with a dictionary by hand, and with `@memo`.

The recursion computes the same numbers again and again: F(n) takes 2 F(n + 1) - 1 calls. Remembered, each number is
computed once, and nothing else changes.

    python examples/fibonacci.py
"""

from __future__ import annotations

import math
import time
from collections import Counter

from memograd import memo

calls = Counter[str]()


def naive(n: int) -> int:
    """Follow the definition, and compute everything again and again."""
    calls["naive"] += 1
    return n if n < 2 else naive(n - 1) + naive(n - 2)


def by_hand(n: int, known: dict[int, int]) -> int:
    """Look it up; if it is not there, compute and store it; return it."""
    calls["dictionary"] += 1
    if n not in known:
        known[n] = n if n < 2 else by_hand(n - 1, known) + by_hand(n - 2, known)
    return known[n]


@memo
def fibonacci(n: int) -> int:
    """Follow the definition, and compute everything once."""
    calls["@memo"] += 1
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


def row(n: int) -> str:
    """Compute F(n) three times, each time from nothing, and count how often the functions were entered."""
    calls.clear()
    fibonacci.cache_clear()
    value = fibonacci(n)
    assert value == by_hand(n, known={})
    assert n > 30 or value == naive(n)
    # The naive calls grow as the numbers themselves do: there are 2 F(n + 1) - 1 of them.
    naively = f"{calls['naive']:,}" if n <= 30 else f"not run: {2 * (value + fibonacci(n - 1)) - 1:,}"
    return f"{n:>3}  {value:>14}  {naively:>24}  {calls['dictionary']:>10}  {calls['@memo']:>5}"


def main() -> None:
    """Print the table, then a number that no recursion in plain Python reaches."""
    print(f"{'n':>3}  {'F(n)':>14}  {'naive calls':>24}  {'dictionary':>10}  {'@memo':>5}")
    for n in (6, 10, 15, 20, 25, 30, 50):
        print(row(n))

    began = time.perf_counter()
    value = fibonacci(100_000)
    seconds = time.perf_counter() - began
    print(f"\nfibonacci(100_000) has {int(math.log10(value)) + 1:,} digits: {seconds:.2f} s, recursion limit untouched")


if __name__ == "__main__":
    main()
