"""One recurrent step for many nodes at once, with its derivative kept as factors.

A cell's forward step keeps, instead of its activations, the *factors* by which the backward step multiplies an
incoming gradient: where autograd would save i, f, g, o, c and tanh(c) of an LSTM and multiply them anew, the
products are formed once while everything is in cache. They take as many bytes, and the backward step is left with
one multiplication a gate and one matrix product. What the recurrence itself does not wait for is done for many
steps at once: cutting matrices into gates (``ahead``, ``behind``), forming the factors (``finish``). Gates: Hochreiter
& Schmidhuber 1997 (LSTM), Cho et al. 2014 (GRU), in PyTorch's order and form.

NOTE [ Columns ] ``grads`` of a step is one matrix whose columns ``x_columns`` belong to the input's product and
``h_columns`` to the hidden state's. They differ for the GRU alone, whose candidate n reads the hidden state through
the reset gate: its columns are n, r, z, h_n, so that (n, r, z) and (r, z, h_n) are both contiguous.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, TypeAlias

import torch
from torch import Tensor

from memograd._scan._torch import split

if TYPE_CHECKING:
    from collections.abc import Callable

_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input


Views: TypeAlias = tuple[Tensor, ...]


class Cell:
    """A recurrent step. Sizes are counted in hidden sizes H.

    Attributes:
        gates: columns of the input's (and the hidden state's) product.
        notes: columns of what ``step`` leaves for ``finish``.
        saved: columns of the factors.
        grads: columns of the gradients before the products. See NOTE [ Columns ].
        merged: the two products are only ever added.
        has_memory: the state is (h, c) and not h alone.
        output_is_enough: the factors are functions of the output.
    """

    gates: ClassVar[int]
    notes: ClassVar[int]
    saved: ClassVar[int]
    grads: ClassVar[int]
    merged: ClassVar[bool] = True
    has_memory: ClassVar[bool] = False
    output_is_enough: ClassVar[bool] = False

    @classmethod
    def x_columns(cls, size: int) -> slice:
        """Columns of ``grads`` that the input's product is answerable for."""
        return slice(0, cls.gates * size)

    @classmethod
    def h_columns(cls, size: int) -> slice:
        """Columns of ``grads`` that the hidden state's product is answerable for."""
        return slice((cls.grads - cls.gates) * size, cls.grads * size)

    @staticmethod
    def arrange(w: Tensor) -> Tensor:
        """Bring the rows of the input's weight or bias into the order of ``x_columns``."""
        return w

    @staticmethod
    def restore(w: Tensor) -> Tensor:
        """Undo ``arrange``."""
        return w

    @staticmethod
    def ahead(gx: Tensor, gh: Tensor, notes: Tensor) -> Views:
        """Cut what steps write into the views, (n, k H) each, that ``step`` and ``finish`` take.

        Args:
            gx: (n, gates H) the input's product; the hidden state's is in it where ``merged``.
            gh: (n, gates H) the hidden state's product (not read where ``merged``).
            notes: (n, notes H) for what ``finish`` needs besides.
        """
        raise AssertionError("a cell without a step")

    @staticmethod
    def step(views: Views, state: Tensor, out: Tensor) -> Tensor | None:
        """Take one step.

        Args:
            views: of the step, overwritten.
            state: (n, H) the state that the step starts from: c where ``has_memory``, else h.
            out: (n, H) receives the output h.

        Returns:
            (n, H) the new c where ``has_memory``, one of ``views``.
        """
        raise AssertionError("a cell without a step")

    @staticmethod
    def known(views: Views, before: Tensor, chain: Callable[[], None]) -> None:
        """Leave what ``step`` leaves, for many steps at once whose outputs are known.

        Args:
            views: of the steps, with the products complete; overwritten.
            before: (n, H) the outputs that they start from.
            chain: calls ``remember`` step by step.
        """
        raise AssertionError("a cell without a step")

    @staticmethod
    def remember(views: Views, state: Tensor) -> Tensor:
        """Take the memory through one step, from (n, H) ``state``; give the new one."""
        raise AssertionError("a cell without a memory")

    @staticmethod
    def finish(views: Views, out: Tensor, factors: Tensor) -> None:
        """Form the factors of many steps.

        Args:
            views: of the steps as ``step`` left them, overwritten.
            out: (n, H) their outputs.
            factors: (n, saved H) receives the factors.
        """
        raise AssertionError("a cell without a derivative")

    @staticmethod
    def behind(factors: Tensor, grads: Tensor) -> Views:
        """Cut what steps back read and write into the views, (..., n, k H) each, that ``back`` takes.

        Args:
            factors: (n, saved H) what ``finish`` formed.
            grads: (n, grads H) receives the gradients before the products.
        """
        raise AssertionError("a cell without a derivative")

    @staticmethod
    def back(views: Views, dh: Tensor, dc: Tensor | None) -> Tensor | None:
        """Turn the gradient of the output into that of the products.

        Args:
            views: of the step.
            dh: (n, H) gradient of h.
            dc: (n, H) gradient of the new c, overwritten by that of the state before.

        Returns:
            (n, H) the factor by which ``dh`` reaches the hidden state before past the products, or None.
        """
        raise AssertionError("a cell without a derivative")


class LSTM(Cell):
    """Gates i, f, g, o; c' = f c + i g; h = o tanh(c')."""

    gates, notes, saved, grads = 4, 3, 6, 4
    has_memory = True

    @staticmethod
    def ahead(gx: Tensor, gh: Tensor, notes: Tensor) -> Views:
        size = gx.shape[1] // 4
        return gx[:, : 2 * size], *split(gx, size, 1), *split(notes, size, 1)

    @staticmethod
    def step(views: Views, state: Tensor, out: Tensor) -> Tensor:
        i_f, i, f, g, o, before, memory, bounded = views
        i_f.sigmoid_()
        g.tanh_()
        o.sigmoid_()
        before.copy_(state)  # which may lie where ``memory`` is about to
        torch.mul(f, before, out=memory).addcmul_(i, g)
        torch.mul(o, torch.tanh(memory, out=bounded), out=out)
        return memory

    @staticmethod
    def known(views: Views, before: Tensor, chain: Callable[[], None]) -> None:
        i_f, _, _, g, o, _, memory, bounded = views
        i_f.sigmoid_()
        g.tanh_()
        o.sigmoid_()
        chain()
        torch.tanh(memory, out=bounded)

    @staticmethod
    def remember(views: Views, state: Tensor) -> Tensor:
        _, i, f, g, _, before, memory, _ = views
        before.copy_(state)
        return torch.mul(f, before, out=memory).addcmul_(i, g)

    @staticmethod
    def finish(views: Views, out: Tensor, factors: Tensor) -> None:
        _, i, f, g, o, before, _, bounded = views
        di, df, dg, do, dc, keep = split(factors, out.shape[1], 1)
        _sigmoid_backward(g, i, grad_input=di)
        _sigmoid_backward(before, f, grad_input=df)
        _tanh_backward(i, g, grad_input=dg)
        _sigmoid_backward(bounded, o, grad_input=do)
        _tanh_backward(o, bounded, grad_input=dc)
        keep.copy_(f)

    @staticmethod
    def behind(factors: Tensor, grads: Tensor) -> Views:
        size = grads.shape[1] // 4
        _, _, _, do, through, keep = split(factors, size, 1)
        return do, through, keep, _gates(factors, 3, size), _gates(grads, 3, size), grads[:, 3 * size :]

    @staticmethod
    def back(views: Views, dh: Tensor, dc: Tensor | None) -> None:
        assert dc is not None
        do, through, keep, i_f_g, into, into_o = views
        torch.mul(dh, do, out=into_o)
        dc.addcmul_(dh, through)
        torch.mul(i_f_g, dc, out=into)
        dc.mul_(keep)


class GRU(Cell):
    """r, z; n = tanh(x_n + r h_n); h' = n + z (h - n)."""

    gates, notes, saved, grads = 3, 1, 5, 4
    merged = False

    @staticmethod
    def arrange(w: Tensor) -> Tensor:
        return w.roll(w.shape[0] // 3, 0)  # (r, z, n) -> (n, r, z)

    @staticmethod
    def restore(w: Tensor) -> Tensor:
        return w.roll(-(w.shape[0] // 3), 0)

    @staticmethod
    def ahead(gx: Tensor, gh: Tensor, notes: Tensor) -> Views:
        size = notes.shape[1]
        return gx[:, size:], *split(gx, size, 1), gh[:, : 2 * size], gh[:, 2 * size :], notes

    @staticmethod
    def step(views: Views, state: Tensor, out: Tensor) -> None:
        r_z, n, r, z, h_r_z, h_n, less = views
        r_z.add_(h_r_z).sigmoid_()
        n.addcmul_(r, h_n).tanh_()
        torch.addcmul(n, z, torch.sub(state, n, out=less), out=out)

    @staticmethod
    def known(views: Views, before: Tensor, chain: Callable[[], None]) -> None:
        GRU.step(views, before, torch.empty_like(before))

    @staticmethod
    def finish(views: Views, out: Tensor, factors: Tensor) -> None:
        _, n, r, z, _, h_n, less = views
        dn, dr, dz, dhn, keep = split(factors, out.shape[1], 1)
        _sigmoid_backward(less, z, grad_input=dz)
        keep.copy_(z)
        _tanh_backward(torch.sub(1, z, out=less), n, grad_input=dn)
        _sigmoid_backward(torch.mul(dn, h_n, out=less), r, grad_input=dr)
        torch.mul(dn, r, out=dhn)

    @staticmethod
    def behind(factors: Tensor, grads: Tensor) -> Views:
        size = grads.shape[1] // 4
        return _gates(factors, 4, size), factors[:, 4 * size :], _gates(grads, 4, size)

    @staticmethod
    def back(views: Views, dh: Tensor, dc: Tensor | None) -> Tensor:
        gates, keep, into = views
        torch.mul(gates, dh, out=into)
        return keep


class Tanh(Cell):
    """h' = tanh(x + h)."""

    gates, notes, saved, grads = 1, 0, 1, 1
    output_is_enough = True

    @staticmethod
    def ahead(gx: Tensor, gh: Tensor, notes: Tensor) -> Views:
        return (gx,)

    @staticmethod
    def step(views: Views, state: Tensor, out: Tensor) -> None:
        torch.tanh(views[0], out=out)

    @staticmethod
    def finish(views: Views, out: Tensor, factors: Tensor) -> None:
        _tanh_backward(views[0].fill_(1), out, grad_input=factors)

    @staticmethod
    def behind(factors: Tensor, grads: Tensor) -> Views:
        return factors, grads

    @staticmethod
    def back(views: Views, dh: Tensor, dc: Tensor | None) -> None:
        factors, into = views
        torch.mul(dh, factors, out=into)


class Relu(Tanh):
    """h' = max(x + h, 0)."""

    @staticmethod
    def step(views: Views, state: Tensor, out: Tensor) -> None:
        torch.clamp_min(views[0], 0, out=out)

    @staticmethod
    def finish(views: Views, out: Tensor, factors: Tensor) -> None:
        factors.copy_(out > 0)


def _gates(columns: Tensor, gates: int, size: int) -> Tensor:
    """Give the first ``gates`` gates of (n, k H) as (gates, n, H)."""
    return torch.unflatten(columns[:, : gates * size], 1, (gates, size)).transpose(0, 1)


CELLS: dict[str, type[Cell]] = {"LSTM": LSTM, "GRU": GRU, "RNN_TANH": Tanh, "RNN_RELU": Relu}
