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
_BY_ROW = 1.6  # what a row's own way back costs against a node's: the node's factors are gathered for each row
_MARGIN = 1.05  # of the plain call's cost, for what arranging costs besides


def not_worth_a_look(rows: Rows, hidden_size: int, input_size: int) -> str | None:
    """Say why a batch is not searched for shared prefixes; None where it is."""
    if len(rows) == 1:
        return "one row shares nothing"
    work = rows.steps * hidden_size * (hidden_size + input_size)
    return "too small to look for shared prefixes" if work < _WORK else None


def pays(trie: Trie, fused: bool, by_row: bool = False) -> bool:
    """Say whether running over a trie beats the plain call, by counting levels and nodes.

    Args:
        trie: the prefixes.
        fused: whether the plain module would run this batch by a fused kernel.
        by_row: whether every row is to have gradients of its own. Then of the three parts of a step, which are alike,
            the forward pass and the weights' products are shared; the way back through the recurrence is not, and
            nothing runs by the fused kernel.
    """
    steps, levels = trie.rows.steps, trie.levels * _CALL
    plain = trie.rows.horizon * _CALL + steps
    if by_row:
        own = _BY_ROW * _own(steps / max(trie.rows.horizon, 1)) if fused else 1.0
        return _MARGIN * (levels + own * (2 * len(trie) + steps) / 3) < plain
    by_kernel = sum(
        int(trie.starts[stop] - trie.starts[begin])
        for begin, stop, straight in stretches(Direction.of(trie), fused)
        if straight
    )
    own = _own(len(trie) / max(trie.levels, 1)) if fused else 1.0
    return _MARGIN * (levels + by_kernel + (len(trie) - by_kernel) * own) < plain


def _own(width: float) -> float:
    """Give a node's cost by own steps against the fused kernel's, levels being so wide: 2.7 at 16, 1.8 at 64."""
    return 1.2 + 48 / (width + 16)


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
