"""The steps of a plan, as levels: of a trie, or of rows of one length that share nothing.

A plan takes its steps to be of one size. Where levels differ in width, a step of the plan is as many nodes as the
widest level has, and ends where a level does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from memograd._scan._levels import CHUNK, Levels
from memograd._scan._straight import stretches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from memograd._scan._directions import Direction
    from memograd._share._trie import Ints


_LONG = 2  # levels from which a call of the fused kernel pays where its weights are laid out for it already


class Course(Protocol):
    """What a layer runs over, in steps of one size."""

    @property
    def steps(self) -> int:
        """Give how many steps there are."""
        ...

    @property
    def width(self) -> int:
        """Count the nodes of the widest level."""
        ...

    @property
    def even(self) -> bool:
        """Tell whether each step is one level of that width."""
        ...

    @property
    def ends(self) -> int:
        """Count the nodes at which a row ends."""
        ...

    def stretches(self, begin: int, end: int, fuses: bool) -> Iterator[tuple[Levels, slice, bool]]:
        """Give the ranges of levels in which steps run: levels, their nodes within the piece, whether by the kernel."""
        ...

    def ends_of(self, begin: int, end: int) -> slice:
        """Give which of the ends lie in steps."""
        ...

    def cut(self, values: Tensor, begin: int, end: int) -> Tensor:
        """Give the rows of steps from a value for each node."""
        ...

    def paste(self, values: Tensor, begin: int, end: int, rows: Tensor) -> None:
        """Put the rows of steps into a value for each node."""
        ...


@dataclass(frozen=True)
class Lanes:
    """Rows of one length, side by side: values are (T, B, k), and a step is one time.

    Attributes:
        steps: T.
        width: B.
        device: where the tensors are.
    """

    steps: int
    width: int
    device: torch.device
    even: bool = True

    @property
    def ends(self) -> int:
        """All rows end with the last step."""
        return self.width

    def stretches(self, begin: int, end: int, fuses: bool) -> Iterator[tuple[Levels, slice, bool]]:
        """Give one range: nothing branches."""
        levels = _lanes(end - begin, self.width, self.device, end == self.steps)
        yield levels, slice(0, levels.nodes), fuses and end - begin >= _LONG

    def ends_of(self, begin: int, end: int) -> slice:
        """Give all of them for the last step."""
        return slice(0, self.width if end == self.steps else 0)

    def cut(self, values: Tensor, begin: int, end: int) -> Tensor:
        """Give (n B, k) of (T, B, k)."""
        return values[begin:end].flatten(0, 1)

    def paste(self, values: Tensor, begin: int, end: int, rows: Tensor) -> None:
        """Put (n B, k) into (T, B, k)."""
        values[begin:end] = rows.view(end - begin, self.width, -1)


@lru_cache(maxsize=64)
def _lanes(steps: int, width: int, device: torch.device, last: bool) -> Levels:
    nodes = torch.arange(steps * width, device=device)
    return Levels(
        starts=tuple(range(0, (steps + 1) * width, width)),
        straight=(True,) * steps,
        parent=nodes % width,
        above=nodes - width,
        source=None,
        ends=nodes[-width:],
        ends_starts=(*[0] * steps, width),
        row_ends=np.arange(width if last else 0),
        roots=width,
        # What a chunk takes for the moment is more than what a step leaves: it is to be a part of the piece.
        chunk=min(CHUNK, max(CHUNK // 4, steps * width // 4)),
    )


class Branches:
    """A trie: values are (nodes, k).

    Attributes:
        width, even: see `Course`.
        steps: so many of `width` nodes.
    """

    def __init__(self, direction: Direction) -> None:
        widths = np.diff(direction.trie.starts)
        self.direction = direction
        self.width = int(widths.max(initial=1))
        self.even = bool((widths == self.width).all())
        self._at = self._begins()
        self.steps = len(self._at) - 1

    def _begins(self) -> Ints:
        """(steps + 1,) the level at which each step begins."""
        trie = self.direction.trie
        if self.even:
            return np.arange(trie.levels + 1)
        marks = np.arange(0, len(trie), self.width)
        return np.concatenate([np.searchsorted(trie.starts[1:], marks, side="right"), [trie.levels]])

    @property
    def ends(self) -> int:
        """Nodes at which a row ends."""
        return len(self.direction.ends)

    def stretches(self, begin: int, end: int, fuses: bool) -> Iterator[tuple[Levels, slice, bool]]:
        """Cut those of the whole trie at the ends of the piece."""
        first, stop = int(self._at[begin]), int(self._at[end])
        starts = self.direction.trie.starts
        for low, high, straight in self._stretches[fuses]:
            a, b = max(low, first), min(high, stop)
            if a < b:
                nodes = slice(int(starts[a] - starts[first]), int(starts[b] - starts[first]))
                yield self.direction.levels(None, a, b), nodes, straight and b - a >= _LONG

    @cached_property
    def _stretches(self) -> dict[bool, list[tuple[int, int, bool]]]:
        return {fuses: list(stretches(self.direction, fuses)) for fuses in (False, True)}

    def nodes(self, begin: int, end: int) -> slice:
        """Give the nodes of steps."""
        starts = self.direction.trie.starts
        return slice(int(starts[self._at[begin]]), int(starts[self._at[end]]))

    def ends_of(self, begin: int, end: int) -> slice:
        """Give which of the ends lie among the nodes of steps."""
        nodes = self.nodes(begin, end)
        first, last = np.searchsorted(self.direction.ends, [nodes.start, nodes.stop])
        return slice(int(first), int(last))

    def cut(self, values: Tensor, begin: int, end: int) -> Tensor:
        """Give the rows of the nodes of steps."""
        return values[self.nodes(begin, end)]

    def paste(self, values: Tensor, begin: int, end: int, rows: Tensor) -> None:
        """Put the rows of the nodes of steps where they belong."""
        values[self.nodes(begin, end)] = rows
