"""Stretches of a trie in which nothing branches and nothing ends, through the kernel that the plain module uses.

This is the radix form of a trie: unbranched segments between branch points, all segments of a stretch side by side,
their first states the last states of their parents. Where the kernel is fused (oneDNN's LSTM on a CPU, cuDNN on CUDA)
and a stretch long and narrow, it beats a loop of own steps, whose time goes into calls.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from memograd._scan._directions import Direction
from memograd._scan._layer import layer, once_differentiable
from memograd._scan._torch import kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memograd._scan._cells import Cell
    from memograd._scan._weights import Weights
    from memograd._share._trie import Ints, Trie

_LONG = 8  # levels from which a call of the fused kernel pays for rearranging the weights
_CALL = 5.0  # what a level costs besides its nodes, in nodes (measured: H = 256, two CPU cores)
_OWN = 1.5  # a node's cost by own steps where the plain module's kernel is fused, against that kernel
_MARGIN = 1.05  # of the plain call's cost, for what arranging costs besides


def run_direction(
    cell: type[Cell], mode: str, w: Weights, direction: Direction, x: Tensor, source: Ints | None,
    h: Tensor, c: Tensor | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Run a layer over a trie, stretch by stretch, each as it runs best.

    Args:
        cell: the recurrent step.
        mode: its name.
        w: the weights.
        direction: the trie.
        x: (rows, E) inputs.
        source: (nodes,) the row of each node, None where row k is node k's.
        h: (roots, R) first states.
        c: (roots, H) first memories, None for a cell without one.

    Returns:
        Outputs (nodes, R) and memories of ``direction.ends`` (k, H).
    """
    if not len(direction.trie):
        return h.new_empty(0, h.shape[1]), h.new_empty(0, w.hh.shape[0] // cell.gates)
    ys: list[Tensor] = []
    memories: list[Tensor] = []
    for begin, stop, straight in stretches(direction, fuses(cell, w, x)):
        levels = direction.levels(source, begin, stop)
        if source is None:
            a, b = int(direction.trie.starts[begin]), int(direction.trie.starts[stop])
            read = x[a:b]
        else:
            read = x
        if straight:
            parents = levels.parent[: levels.starts[1]]
            inputs = read if levels.source is None else read.index_select(0, levels.source)
            first = [s.index_select(0, parents) for s in (h, c) if s is not None]
            y, c_last = _fused(mode, w, torch.unflatten(inputs, 0, (stop - begin, -1)), first)
        else:
            y, c_last = layer(cell, w, levels, read, h, c)
        width = levels.starts[-1] - levels.starts[-2]
        ys.append(y)
        h = y[len(y) - width :]
        if c is not None:
            c = c_last[len(c_last) - width :]
            memories.append(c_last.index_select(0, direction.tensor(levels.row_ends)))
    y = ys[0] if len(ys) == 1 else torch.cat(ys)
    return y, torch.cat(memories) if memories else y.new_empty(0, w.hh.shape[0] // cell.gates)


def stretches(direction: Direction, fuses: bool) -> Iterator[tuple[int, int, bool]]:
    """Cut a trie's levels into ranges: straight ones for the fused kernel, and what lies between.

    Within a straight range every node has one child and no row ends before the last level.
    """
    trie = direction.trie
    if not fuses or trie.levels < _LONG:
        yield 0, trie.levels, False
        return
    widths = np.diff(trie.starts)
    ending = np.zeros(trie.levels + 1, bool)
    ending[np.searchsorted(trie.starts, direction.ends, side="right")] = True  # a row ends one level before
    breaks = ~trie.straight | ending[:-1] | np.concatenate([[True], widths[1:] != widths[:-1]])
    cuts = [*np.flatnonzero(breaks | (np.arange(trie.levels) == 0)).tolist(), trie.levels]
    pending = 0
    for begin, stop in pairwise(cuts):
        if stop - begin >= _LONG:
            if pending < begin:
                yield pending, begin, False
            yield begin, stop, True
            pending = stop
    if pending < trie.levels:
        yield pending, trie.levels, False


def pays(trie: Trie, fused: bool) -> bool:
    """Say whether running over a trie beats the plain call, by counting levels and nodes.

    The weights of the count are measured ones (``bench/scan_train.py``) and fixed, so that a program chooses alike in
    every run.

    Args:
        trie: the prefixes.
        fused: whether the plain module would run this batch by a fused kernel.
    """
    plain = trie.rows.horizon * _CALL + trie.rows.steps
    by_kernel = sum(
        int(trie.starts[stop] - trie.starts[begin])
        for begin, stop, straight in stretches(Direction.of(trie), fused)
        if straight
    )
    own = len(trie) - by_kernel
    return _MARGIN * (trie.levels * _CALL + by_kernel + own * (_OWN if fused else 1.0)) < plain


def fuses(cell: type[Cell], w: Weights, x: Tensor) -> bool:
    """Say whether the plain module's kernel is a fused one here."""
    if torch.is_autocast_enabled(x.device.type) or w.hr is not None:
        return False
    if x.device.type == "cuda":
        return torch.backends.cudnn.is_acceptable(x)
    return (
        cell.has_memory
        and x.dtype == torch.float32
        and bool(torch.backends.mkldnn.enabled)
        and torch.backends.mkldnn.is_available()
    )


def _fused(mode: str, w: Weights, x: Tensor, first: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Run (T, n, E) inputs through PyTorch's kernel; give (T n, R) outputs and the last memories."""
    flat = [t for t in (w.ih, w.hh, w.b_ih, w.b_hh) if t is not None]
    states = [s.unsqueeze(0) for s in first]
    hx = tuple(states) if len(states) > 1 else states[0]
    y, *last = kernel(mode)(x, hx, flat, w.b_ih is not None, 1, 0.0, False, False, False)
    y, c = once_differentiable(y.flatten(0, 1), last[-1][0])
    return y, c
