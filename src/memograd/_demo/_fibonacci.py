"""Fibonacci three times: by naive recursion, with a dictionary by hand, and with `@memo`.

The recursion computes the same numbers again and again: F(n) takes 2 F(n + 1) - 1 calls. Remembered, each number is
computed once, and nothing else changes.

    python examples/fibonacci.py
"""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass

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
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


@dataclass(frozen=True)
class Row:
    """F(n), and how often each of the three functions was entered for it; `naive` is None where that never ends."""

    n: int
    value: int
    naive: int | None
    dictionary: int
    memo: int

    @property
    def naive_calls(self) -> str:
        """The naive calls; where they were not made, 2 F(n + 1) - 1 of them would have been."""
        return f"{self.naive:,}" if self.naive else f"not run: {2 * (self.value + fibonacci(self.n - 1)) - 1:,}"


def row(n: int) -> Row:
    """Compute F(n) three times, each time from nothing, and count."""
    calls.clear()
    fibonacci.cache_clear()
    value = fibonacci(n)
    computed = fibonacci.cache_info().misses
    assert value == by_hand(n, known={})
    assert n > 30 or value == naive(n)
    return Row(n, value, calls["naive"] or None, calls["dictionary"], computed)


def table() -> list[Row]:
    """Count for some n."""
    return [row(n) for n in (6, 10, 15, 20, 25, 30, 50)]


def main() -> None:
    """Print the table, then a number that no recursion in plain Python reaches."""
    print(f"{'n':>3}  {'F(n)':>14}  {'naive calls':>24}  {'dictionary':>10}  {'@memo':>5}")
    for line in table():
        print(f"{line.n:>3}  {line.value:>14}  {line.naive_calls:>24}  {line.dictionary:>10}  {line.memo:>5}")

    began = time.perf_counter()
    value = fibonacci(100_000)
    seconds = time.perf_counter() - began
    print(f"\nfibonacci(100_000) has {int(math.log10(value)) + 1:,} digits: {seconds:.2f} s, recursion limit untouched")


if __name__ == "__main__":
    main()
