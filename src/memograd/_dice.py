"""Chance without a trace: throws from a stream of our own, so that the program's streams stay where they are."""

from __future__ import annotations


class Dice:
    """A stream of even throws."""

    __slots__ = ("state",)

    def __init__(self, seed: int = 0) -> None:
        self.state = seed

    def below(self, bound: float) -> float:
        """Throw a number from 0 up to `bound`, which is left out."""
        # Knuth's MMIX generator; its high bits are the good ones.
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) & 0xFFFF_FFFF_FFFF_FFFF
        return bound * (self.state >> 11) / 2.0**53
