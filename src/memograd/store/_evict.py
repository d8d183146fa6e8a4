"""What to keep: the entries that save the most seconds per byte, by GreedyDual-Size-Frequency.

Cherkasova, "Improving WWW proxies performance with Greedy-Dual-Size-Frequency caching policy" (HP Labs, 1998): each
entry has the priority ``clock + uses * seconds / bytes``, the least goes first, and its priority becomes the clock. So
what is not used any more is overtaken in time by what is. What comes and would be the first to go is not taken at all
(but counts for the clock as if it had): on traces of calls with costs over six orders of magnitude that saves more than
the policy as published, than hyperbolic caching, and than to remember the uses of what went (`bench/evict.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

# Keys that went are remembered up to so many, for those that continue them and come later.
GONE = 10_000


def priority(clock: float, uses: int, seconds: float, nbytes: int, read: float = 0.0) -> float:
    """Rank an entry among others; the least is evicted first.

    Args:
        clock: the priority of the last that was evicted.
        uses: how often it was used, the put counted.
        seconds: what it takes to compute again; of a chained key, from the nearest ancestor that remains.
        nbytes: what it takes in the store.
        read: seconds to read it from the tier below, if it is there: all that it saves is the difference.
    """
    # The least that counts is not nothing: among entries that cost nothing, the small and often used stay.
    return clock + max(uses, 1) * max((seconds if read <= 0 else min(seconds, read)), 1e-9) / max(nbytes, 1)


class Family:
    """Which keys continue which: a key whose parent goes has to be computed from its grandparent on."""

    def __init__(self) -> None:
        self._children: dict[bytes, dict[bytes, None]] = {}
        self._parents: dict[bytes, bytes] = {}
        # The seconds and the parents of keys that went lately, or never came in.
        self._gone: dict[bytes, tuple[float, bytes | None]] = {}

    def add(self, key: bytes, parent: bytes | None) -> None:
        """Note a key that came, and what it continues."""
        if parent is not None:
            self._parents[key] = parent
            self._children.setdefault(parent, {})[key] = None

    def keep(self, key: bytes) -> None:
        """Note that a key goes, perhaps to come again at once: what continues it is as near as before."""
        parent = self._parents.pop(key, None)
        if parent is not None:
            children = self._children[parent]
            del children[key]
            if not children:
                del self._children[parent]

    def lose(self, key: bytes, parent: bytes | None, seconds: float) -> list[bytes]:
        """Note that a key will not come again; give those that continued it, and that continue `parent` from now on."""
        self._gone.pop(key, None)
        self._gone[key] = seconds, parent
        if len(self._gone) > GONE:
            del self._gone[next(iter(self._gone))]
        children = list(self._children.get(key, ()))
        for child in children:
            self.keep(child)
            self.add(child, parent)
        return children

    def nearest(self, parent: bytes, there: Container[bytes]) -> tuple[float, bytes | None]:
        """Find the nearest ancestor that remains, as far as is known; give it and the seconds from it to `parent`."""
        seconds, at = 0.0, parent
        for _ in range(len(self._gone)):
            if at in there or at not in self._gone:
                break
            more, before = self._gone[at]
            seconds += more
            if before is None:
                return seconds, None
            at = before
        return seconds, at
