"""Whether sharing pays, and which way a stretch of a trie runs.

All is decided by counting, with weights that are measured ones (``bench/scan_train.py``) and fixed, so that a program
chooses alike in every run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from memograd._scan._directions import Direction
from memograd._scan._straight import stretches

if TYPE_CHECKING:
    from torch import Tensor

    from memograd._scan._cells import Cell
    from memograd._scan._weights import Weights
    from memograd._share._trie import Rows, Trie

_WORK = 50_000_000  # multiplications a gate below which the plain call takes no longer than a look at its input
_CALL = 5.0  # what a level costs besides its nodes, in nodes (measured: H = 256, two CPU cores)
_OWN = 1.5  # a node's cost by own steps where the plain module's kernel is fused, against that kernel
_MARGIN = 1.05  # of the plain call's cost, for what arranging costs besides


def not_worth_a_look(rows: Rows, hidden_size: int, input_size: int) -> str | None:
    """Say why a batch is not searched for shared prefixes; None where it is."""
    if len(rows) == 1:
        return "one row shares nothing"
    work = rows.steps * hidden_size * (hidden_size + input_size)
    return "too small to look for shared prefixes" if work < _WORK else None


def pays(trie: Trie, fused: bool) -> bool:
    """Say whether running over a trie beats the plain call, by counting levels and nodes.

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
