"""Synthetic tries: rows that split from the row before at a depth drawn at random, to a given ratio of sharing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from memograd import Shared

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from memograd._share._trie import Trie


def synthetic(rows: int, horizon: int, ratio: float) -> Trie:
    """Make the trie of ``rows`` rows of ``horizon`` steps that holds ``ratio`` steps a node.

    The first two levels have rows/128 and rows/32 nodes, the third rows/16 (256 of 4,096); from there on levels widen
    by a constant factor, to ``rows`` at most.
    """
    widths = _widths(rows, horizon, ratio)
    fresh = np.diff(widths, prepend=1)  # rows that split off at each step; the first row begins all of the trie
    depth = np.repeat(np.arange(horizon + 1), [*fresh, rows - widths[-1]])
    depth = np.concatenate([[0], np.random.default_rng(0).permutation(depth)])
    own = np.where(depth[:, None] <= np.arange(horizon), np.arange(rows)[:, None], 0)
    return Shared.prefixes(torch.from_numpy(np.maximum.accumulate(own, axis=0))).trie


def _widths(rows: int, horizon: int, ratio: float) -> NDArray[np.int64]:
    """Find by bisection how fast levels have to widen."""
    low, high = 1.0, float(rows)
    for _ in range(60):
        growth = (low + high) / 2
        few = _growing(rows, horizon, growth).sum() < rows * horizon / ratio
        low, high = (growth, high) if few else (low, growth)
    return _growing(rows, horizon, high)


def _growing(rows: int, horizon: int, growth: float) -> NDArray[np.int64]:
    later = np.minimum(rows / 16 * growth ** np.arange(horizon - 2), rows)
    return np.concatenate([[rows // 128, rows // 32], later]).round().astype(np.int64)
