"""Rows of groups: read one of a group for each of its members, and sum the members' gradients onto it.

Sums over groups are taken as an embedding bag takes them, every group by one thread and in order: the result does not
depend on how many threads there are, and on CPUs it takes a fraction of the time of ``index_add_``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._C import _dispatch_keys  # pyright: ignore[reportPrivateUsage]


def bags(group: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Order members by group.

    Args:
        group: (n,) the group of each member.
        groups: how many there are.

    Returns:
        Members in the order of their groups (n,), and where each group begins among them (groups,).
    """
    count = torch.bincount(group, minlength=groups)
    return torch.argsort(group, stable=True), count.cumsum(0) - count


def summed(values: Tensor, members: Tensor, begins: Tensor) -> Tensor:
    """Sum the members of each group.

    Args:
        values: (n, k) a row for each member.
        members, begins: as ``bags`` gives them.
    """
    return torch.embedding_bag(values, members, begins)[0]


def sum_of_groups(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """Sum the rows of each group: (n, k) of ``values`` onto (groups, k)."""
    if values.dtype not in (torch.float32, torch.float64) or values.is_cuda or not len(values):
        return values.new_zeros(groups, values.shape[1]).index_add(0, group, values)
    return summed(values, *bags(group, groups))


def check_one_backward(*grads: Tensor | None) -> None:
    """Raise where many backward passes are taken at once: sums onto groups are formed in place, for one of them."""
    if any(g is not None and "Batched" in str(_dispatch_keys(g)) for g in grads):
        raise RuntimeError(
            "memograd: got a batch of backward passes (is_grads_batched=True, or jacobian(vectorize=True)) through a "
            "memoized module; expected one. Take them one by one, or differentiate the plain module, scan.__wrapped__."
        )


def spread(values: Tensor, group: Tensor, rows_first: tuple[int, int] | None = None) -> Tensor:
    """Give each member the row of its group; backward sums what comes back onto the group.

    Args:
        values: (groups, ...) a row for each group.
        group: (n,) the group of each member.
        rows_first: (T, B) where the members are the steps of B rows, time by time: then (B, T, ...) is given, laid out
            in memory time by time, and gradients are read in whichever order they come.
    """
    if values.dim() != 2:
        return values.index_select(0, group)
    function: Any = _Spread
    return function.apply(values, group, rows_first)


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, group: Tensor, rows_first: tuple[int, int] | None) -> Tensor:
        ctx.groups, ctx.rows_first = len(values), rows_first
        ctx.save_for_backward(group)
        if rows_first is None:
            return values.index_select(0, group)
        # Not a transposed view, which may not be changed in place as the plain module's outputs may.
        (steps, rows), size = rows_first, values.shape[1]
        out = values.new_empty_strided((rows, steps, size), (size, rows * size, 1))
        torch.index_select(values, 0, group, out=out.transpose(0, 1).flatten(0, 1))
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        check_one_backward(*grad_outputs)
        grad, group = grad_outputs[0], ctx.saved_tensors[0]
        if ctx.rows_first is not None:
            if grad.is_contiguous():
                group = group.view(ctx.rows_first).t().reshape(-1)
            else:
                grad = grad.transpose(0, 1)
            grad = grad.flatten(0, 1)
        return sum_of_groups(grad, group, ctx.groups), None, None
