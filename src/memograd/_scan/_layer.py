"""One recurrent layer over a trie as one node of the autograd graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from memograd._scan._backward import Backward
from memograd._scan._forward import Run, forward
from memograd._scan._torch import apply
from memograd._scan._weights import Arranged, Weights
from memograd._share._sums import check_one_backward

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.autograd.function import FunctionCtx

    from memograd._scan._cells import Cell
    from memograd._scan._levels import Levels, Spread


def layer(
    cell: type[Cell], w: Weights, levels: Levels, x: Tensor, h0: Tensor, c0: Tensor | None, spread: Spread | None = None
) -> tuple[Tensor, Tensor]:
    """Run a layer over a trie, differentiably.

    Gradients are exact for what there is one of per node (weights, ``x`` and ``h0`` of a trie). Where each row is to
    have a gradient of its own, ``spread`` is given and ``x``, ``h0``, ``c0`` and the results are those of the rows.

    Args:
        cell: the recurrent step.
        w: its weights.
        levels: the trie; ``levels.source`` points into ``x``.
        x: (rows, E) inputs; with ``spread`` (positions, E).
        h0: (roots, R) first states; with ``spread`` (B, R).
        c0: (roots, H) first memories likewise, None for a cell without one.
        spread: the rows.

    Halves are computed in float32, whatever autocast says: what is rounded is the result.

    Returns:
        Outputs (n, R) and memories of ``levels.ends`` (k, H); with ``spread`` those of its positions and ends.
    """
    dtype = torch.float64 if w.hh.dtype == torch.float64 else torch.float32
    given = (x, h0, c0, *w)
    if not torch.is_grad_enabled():  # else the weights would ask for factors that no one reads
        given = (None if t is None else t.detach() for t in given)
    wide = [None if t is None else t.to(dtype) for t in given]
    y, c = apply(_Layer, cell, levels, spread, *wide)
    return y.to(x.dtype), c.to(x.dtype)


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, cell: type[Cell], levels: Levels, spread: Spread | None, x: Tensor, h0: Tensor, c0: Tensor | None,
        *w: Any,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        roots = (h0, c0) if spread is None else (h0[spread.root], None if c0 is None else c0[spread.root])
        keep = any(ctx.needs_input_grad)
        with torch.autocast(x.device.type, enabled=False):
            run = forward(cell, Arranged(cell, Weights(*w)), levels, x, *roots, keep=keep)
        keep_for_backward(ctx, run, spread, w)
        if spread is None:
            return run.y, run.c
        return run.y.index_select(0, spread.node), run.c.index_select(0, spread.end) if cell.has_memory else run.c

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Any, ...]:
        return layer_backward(ctx, *grad_outputs)


def keep_for_backward(ctx: Any, run: Run, spread: Spread | None, w: tuple[Any, ...]) -> None:
    """Save what the way back through a layer needs: of a node whose inputs are x, h0, c0 and weights behind three."""
    ctx.cell, ctx.levels, ctx.spread, ctx.distinct = run.cell, run.levels, spread, run.distinct
    ctx.save_for_backward(run.x, run.h0, run.y, run.factors, run.inner, *_kept(w, ctx.needs_input_grad[3]))
    ctx.set_materialize_grads(False)


def layer_backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Any, ...]:
    """Take gradients of outputs and memories back through a layer."""
    check_one_backward(*grad_outputs)
    dy, dc = grad_outputs
    x, h0, y, factors, inner, *w = ctx.saved_tensors
    arranged = Arranged(ctx.cell, Weights(*w))
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        run = Run(ctx.cell, arranged, ctx.levels, x, h0, y, y, factors, inner, ctx.distinct)
        levels, node = (ctx.levels, None) if ctx.spread is None else (ctx.spread.levels, ctx.spread.node)
        got = Backward(run, levels, node, dy, dc, wants_x=ctx.needs_input_grad[3])
        grads = (got.dx, got.dh0, got.dc0, *_in_order(ctx.cell, got))
    wanted = [g if needed else None for g, needed in zip(grads, ctx.needs_input_grad[3:], strict=True)]
    return (None, None, None, *final(wanted))


def _kept(w: tuple[Tensor | None, ...], wants_x: bool) -> list[Tensor | None]:
    """Give the weights for backward; where it reads but the shape they may change before, as in the plain module."""
    ih, hh, *biases, hr = w
    shapes = [None if t is None else t.data for t in (ih, *biases)]
    return [ih if wants_x else shapes[0], hh, *shapes[1:], hr]


def _in_order(cell: type[Cell], got: Backward) -> tuple[Tensor | None, ...]:
    """Give the weights' gradients in the order of ``Weights``."""
    b_x = None if got.b_x is None else cell.restore(got.b_x)
    b_h = b_x.clone() if cell.merged and b_x is not None else got.b_h  # two gradients never share memory
    return cell.restore(got.ih), got.hh, b_x, b_h, got.hr


def final(grads: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
    """Pass on gradients that were formed without a graph; differentiated again, they would pass for constants."""
    if not torch.is_grad_enabled():
        return grads
    return apply(_FinalGradients, *(None if g is None else g.requires_grad_() for g in grads))


class _FinalGradients(torch.autograd.Function):
    """Gradients that cannot be differentiated again."""

    @staticmethod
    def forward(ctx: FunctionCtx, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        return tuple(None if g is None else g.view_as(g) for g in grads)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor | None) -> Any:
        raise RuntimeError(
            "memo.scan: double backward is not supported: the gradients of a memoized recurrent layer were "
            "differentiated again. Run that part on the plain module, which shares the weights: scan.__wrapped__(x)."
        )


class _OnceDifferentiable(torch.autograd.Function):
    """Values whose gradients cannot be differentiated again."""

    @staticmethod
    def forward(ctx: Any, *values: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        return tuple(v.view_as(v) for v in values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        return apply(_FinalGradients, *grads) if torch.is_grad_enabled() else grads


def once_differentiable(*values: Tensor) -> tuple[Tensor, ...]:
    """Pass values on, so that differentiating their gradients again says clearly that it cannot be done."""
    return apply(_OnceDifferentiable, *values)
