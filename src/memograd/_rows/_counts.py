"""What all calls of a wrapper did, counted."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memograd._rows._receipt import Receipt


class Counts:
    """Sums over receipts."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.calls = self.plain = self.rows = self.hits = self.shared = self.computed = self.padded = 0

    def note(self, receipt: Receipt) -> None:
        """Add what a call did."""
        with self._lock:
            self.calls += 1
            self.plain += receipt.engine == "plain"
            self.rows += receipt.rows
            self.hits += receipt.hits
            self.shared += receipt.rows - receipt.hits - receipt.computed
            self.computed += receipt.computed
            self.padded += receipt.padded
