"""Names of a row's prefixes: a chain of digests over blocks of a grid."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Container

GRID = 64  # steps of a block

Hash = "Callable[[bytes | memoryview], bytes]"


class Chain:
    """The names of one row's prefixes.

    Args:
        base: what all of them depend on besides the inputs.
        data: the bytes of the inputs, step by step.
        steps: T.
        hash: digests bytes.

    Attributes:
        blocks: the name of each prefix that ends on the grid, the empty one first.
    """

    __slots__ = ("_data", "_hash", "_size", "blocks", "steps")

    def __init__(self, base: bytes, data: memoryview, steps: int, hash: Callable[..., bytes]) -> None:
        self.steps, self._data, self._hash = steps, data, hash
        self._size = size = len(data) // max(steps, 1)
        self.blocks = [base]
        for begin in range(0, steps - steps % GRID, GRID):
            block = hash(data[begin * size : (begin + GRID) * size])
            self.blocks.append(hash(self.blocks[-1] + block))

    def at(self, steps: int) -> bytes:
        """Name the prefix of so many steps."""
        k, rest = divmod(steps, GRID)
        if not rest:
            return self.blocks[k]
        # A length of its own in front: what is no whole block is never taken for one.
        tail = self._hash(self._data[k * GRID * self._size : steps * self._size])
        return self._hash(rest.to_bytes(2, "little") + self.blocks[k] + tail)

    def shared_with(self, seen: Container[bytes]) -> int:
        """Count the steps, on the grid, of the longest prefix among those that were seen."""
        # Of a chain: whose block was seen, whose blocks before were seen as well.
        found = bisect_left(self.blocks, True, 1, key=lambda name: name not in seen)
        return (found - 1) * GRID
