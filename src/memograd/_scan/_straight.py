"""Stretches of a trie in which nothing branches and nothing ends, through the kernel that the plain module uses.

This is the radix form of a trie: unbranched segments between branch points, all segments of a stretch side by side,
their first states the last states of their parents. Where the kernel is fused (oneDNN's LSTM on a CPU, cuDNN on CUDA)
and a stretch long and narrow, it beats a loop of own steps, whose time goes into calls.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from memograd._scan._layer import final, once_differentiable
from memograd._scan._threads import threads_for
from memograd._scan._torch import apply, kernel
from memograd._share._sums import check_one_backward

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from memograd._scan._directions import Direction
    from memograd._scan._levels import Levels
    from memograd._scan._weights import Weights

    Packed = tuple[Tensor, ...]  # two

_LSTM = 2  # what oneDNN calls the cell; it has no other
_onednn_lstm = torch.ops.aten.mkldnn_rnn_layer.default
_onednn_lstm_backward = torch.ops.aten.mkldnn_rnn_layer_backward.default
_pack: Any = getattr(torch.ops.mkldnn, "_reorder_mkldnn_rnn_layer_weight", None)
LONG = 8  # levels from which a call of the fused kernel pays for rearranging the weights


def stretches(direction: Direction, fuses: bool) -> Iterator[tuple[int, int, bool]]:
    """Cut a trie's levels into ranges: straight ones for the fused kernel, and what lies between.

    Within a straight range every node has one child and no row ends before the last level.
    """
    trie = direction.trie
    if not fuses or trie.levels < LONG:
        yield 0, trie.levels, False
        return
    widths = np.diff(trie.starts)
    ending = np.zeros(trie.levels + 1, bool)
    ending[np.searchsorted(trie.starts, direction.ends, side="right")] = True  # a row ends one level before
    breaks = ~trie.straight | ending[:-1] | np.concatenate([[True], widths[1:] != widths[:-1]])
    cuts = [*np.flatnonzero(breaks | (np.arange(trie.levels) == 0)).tolist(), trie.levels]
    pending = 0
    for begin, stop in pairwise(cuts):
        if stop - begin >= LONG:
            if pending < begin:
                yield pending, begin, False
            yield begin, stop, True
            pending = stop
    if pending < trie.levels:
        yield pending, trie.levels, False


def packed(w: Weights, rows: int) -> Packed | None:
    """Lay an LSTM's weights out for oneDNN, which else does so at each call; None where it offers no way to.

    Args:
        w: the weights, without a projection, on a CPU.
        rows: that a step takes at once.
    """
    if _pack is None or w.ih.is_cuda or w.ih.dtype != torch.float32:
        return None
    size, inputs = w.hh.shape[1], w.ih.shape[1]
    with torch.no_grad():
        return tuple(_pack(w.ih.detach(), w.hh.detach(), size, False, True, False, [1, rows, inputs]))


def fused(
    mode: str, w: Weights, levels: Levels, x: Tensor, h: Tensor, c: Tensor | None, laid: Packed | None = None
) -> tuple[Tensor, Tensor]:
    """Run a straight range of levels through PyTorch's kernel, as ``layer`` runs any range.

    Args:
        mode: the module's mode.
        w: the weights, without a projection.
        levels: the range.
        x: (rows, E) inputs that ``levels.source`` points into.
        h: (m, R) the states of the level before.
        c: (m, H) its memories, None for a cell without one.
        laid: the weights as `packed` gives them, of a call that is one of many.

    Returns:
        Outputs (nodes, R) and, for an LSTM, the memories of the last level.
    """
    inputs = x if levels.source is None else x.index_select(0, levels.source)
    steps = torch.unflatten(inputs, 0, (len(levels), -1))
    parents = levels.parent[: levels.starts[1]]
    first = [s.index_select(0, parents) for s in (h, c) if s is not None]
    y, last = _cudnn(mode, w, steps, first) if x.is_cuda else _onednn(w, steps, first, laid)
    return y.flatten(0, 1), last


def _cudnn(mode: str, w: Weights, steps: Tensor, first: list[Tensor]) -> tuple[Tensor, Tensor]:
    states = [s.unsqueeze(0) for s in first]
    hx = tuple(states) if len(states) > 1 else states[0]
    flat = [t for t in w if t is not None]
    # cuDNN keeps what backward needs only where it is told that this is training; there is no dropout here.
    y, *last = kernel(mode)(steps, hx, flat, w.b_ih is not None, 1, 0.0, torch.is_grad_enabled(), False, False)
    y, memories = once_differentiable(y, last[-1][0])
    return y, memories


def _onednn(w: Weights, steps: Tensor, first: list[Tensor], laid: Packed | None) -> tuple[Tensor, Tensor]:
    steps = steps.contiguous()  # the kernel reads rows as if they followed one another
    zero = steps.new_zeros(w.hh.shape[0]) if w.b_ih is None else None
    biases = (zero, zero) if w.b_ih is None else (w.b_ih, w.b_hh)
    return apply(_Fused, w.b_ih is not None, laid, steps, w.ih, w.hh, *biases, *first)


class _Fused(torch.autograd.Function):
    """oneDNN's LSTM, both ways on as many threads as the width is worth."""

    @staticmethod
    def forward(
        ctx: Any, biased: bool, laid: Packed | None, steps: Tensor, *weights_and_states: Tensor
    ) -> tuple[Tensor, Tensor]:
        given = [t.detach() for t in (steps, *weights_and_states)]
        ctx.biased, ctx.rows, ctx.size = biased, steps.shape[1], given[-1].shape[1]
        keep = any(ctx.needs_input_grad)
        given[1:3] = given[1:3] if laid is None else laid
        # The kernel keeps what backward needs only in grad mode; of detached tensors nothing is recorded.
        with torch.set_grad_enabled(keep), threads_for(ctx.rows, ctx.size, steps):
            y, last_h, last_c, workspace = _onednn_lstm(
                *given, False, [], _LSTM, ctx.size, 1, biased, False, False, keep
            )
        ctx.save_for_backward(steps, *weights_and_states, y, last_h, last_c, workspace)
        return y, last_c

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        check_one_backward(*grad_outputs)
        dy, dc = grad_outputs
        *saved, workspace = ctx.saved_tensors
        with torch.no_grad(), threads_for(ctx.rows, ctx.size, dy):
            grads = _onednn_lstm_backward(
                *saved, dy, None, dc, False, _LSTM, ctx.size, 1, ctx.biased, True, False, [], False, workspace
            )
        asked = zip(grads, ctx.needs_input_grad[2:], strict=True)
        return None, None, *final([g if needed else None for g, needed in asked])
