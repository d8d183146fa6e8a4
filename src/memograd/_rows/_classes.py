"""Sizes of batches that give a row the same bits, and how a number of rows is computed in batches of such sizes.

A matrix product rounds by how its kernel cuts the matrix, and which kernel runs depends on the size of the batch. So
sizes fall into classes; a number of rows is padded to the next size of the class that was settled on, and computed in
several batches only where that class has no size so large.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

ANCHORS = 128, 16  # the sizes that classes are named after: of what is computed soon, and of all else
SOON = 1 << 28  # multiplications a row, by estimate


class Piece(NamedTuple):
    """Rows that are computed in one batch: those from `begin` to `stop`, padded to `size`."""

    begin: int
    stop: int
    size: int


def ladder(n: int) -> int:
    """Give the next of the sizes that are tried: 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, ..."""
    step = 1 << max(0, (n - 1).bit_length() - 3)
    return -(-n // step) * step


def anchor_for(work: int) -> int:
    """Give the size after which the class is named, by what a row takes: multiplications, by estimate.

    It depends on nothing else, and least of all on the batch that comes first: so no row's bits do.
    """
    soon, late = ANCHORS
    return soon if work <= SOON else late


def anchors_after(anchor: int) -> list[int]:
    """List the sizes to settle on where a row's bits depend on its place in batches of size `anchor`, best first."""
    greater = [2**k for k in range(4, 8) if 2**k > anchor]
    return [*greater, *[2**k for k in range(6, 0, -1) if 2**k < anchor], 1]


def planned(rows: int, anchor: int, member: Callable[[int], bool]) -> list[Piece]:
    """Cut rows into batches whose sizes are members of a class.

    Args:
        rows: how many there are.
        anchor: a member.
        member: tells whether a size is one; each size costs a trial when it is asked for first.
    """
    pieces: list[Piece] = []
    begin = 0
    while begin < rows:
        size = _size_for(rows - begin, anchor, member)
        pieces.append(Piece(begin, min(rows, begin + size), size))
        begin += size
    return pieces


def _size_for(rows: int, anchor: int, member: Callable[[int], bool]) -> int:
    """Give the least member that holds so many rows, or the greatest of few others that does not."""
    size = ladder(rows)
    if rows <= anchor:
        while size < anchor and not member(size):
            size = ladder(size + 1)
        return min(size, anchor)
    while size > anchor and not member(size):
        size = ladder(max(anchor, size // 2))
    return size
