"""Time that passes when it is told to."""

from __future__ import annotations


class FakeClock:
    """A clock that stands still until it is told to move on. Call it for the time, in seconds.

    Example:
        >>> clock = FakeClock()
        >>> clock.advance(1.5)
        >>> clock()
        1.5
    """

    __slots__ = ("now",)

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Give the time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass. Raises `ValueError` for less than none."""
        if seconds < 0:
            raise ValueError(f"FakeClock.advance() got {seconds}, expected 0 or more; a clock does not run backwards")
        self.now += seconds
