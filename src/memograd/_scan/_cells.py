"""One recurrent step for many nodes at once, with its derivative kept as factors.

A cell's forward step keeps, instead of its activations, the *factors* by which the backward step multiplies an
incoming gradient: where autograd would save i, f, g, o, c and tanh(c) of an LSTM and multiply them anew, the
products are formed once while everything is in cache. They take as many bytes, and the backward step is left with
one multiplication a gate and one matrix product. What the recurrence itself does not wait for is done for many
steps at once (``finish``). Gates: Hochreiter & Schmidhuber 1997 (LSTM), Cho et al. 2014 (GRU),
in PyTorch's order and form.

NOTE [ Columns ] ``grads`` of a step is one matrix whose columns ``x_columns`` belong to the input's product and
``h_columns`` to the hidden state's. They differ for the GRU alone, whose candidate n reads the hidden state through
the reset gate: its columns are n, r, z, h_n, so that (n, r, z) and (r, z, h_n) are both contiguous.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from memograd._scan._torch import split

_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input


class Cell:
    """A recurrent step. Sizes are counted in hidden sizes H.

    Attributes:
        gates: columns of the input's (and the hidden state's) product.
        notes: columns of what ``step`` leaves for ``finish``.
        saved: columns of the factors.
        grads: columns of the gradients before the products. See NOTE [ Columns ].
        merged: the two products are only ever added.
        has_memory: the state is (h, c) and not h alone.
    """

    gates: ClassVar[int]
    notes: ClassVar[int]
    saved: ClassVar[int]
    grads: ClassVar[int]
    merged: ClassVar[bool] = True
    has_memory: ClassVar[bool] = False

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
    def step(gx: Tensor, gh: Tensor, state: Tensor, out: Tensor, notes: Tensor) -> Tensor | None:
        """Take one step.

        Args:
            gx: (n, gates H) the input's product, overwritten; the hidden state's is in it where ``merged``.
            gh: (n, gates H) the hidden state's product (not read where ``merged``).
            state: (n, H) the state that the step starts from: c where ``has_memory``, else h.
            out: (n, H) receives the output h.
            notes: (n, notes H) receives what ``finish`` needs besides.

        Returns:
            (n, H) the new c where ``has_memory``, a view of ``notes``.
        """
        raise AssertionError("a cell without a step")

    @staticmethod
    def finish(gx: Tensor, gh: Tensor, out: Tensor, notes: Tensor, factors: Tensor) -> None:
        """Form the factors of many steps.

        Args:
            gx, gh, out, notes: as ``step`` left them; ``gx``, ``gh`` and ``notes`` are overwritten.
            factors: (n, saved H) receives the factors.
        """
        raise AssertionError("a cell without a derivative")

    @staticmethod
    def back(dh: Tensor, dc: Tensor | None, factors: Tensor, grads: Tensor) -> Tensor | None:
        """Turn the gradient of the output into that of the products.

        Args:
            dh: (n, H) gradient of h.
            dc: (n, H) gradient of the new c, overwritten by that of the state before.
            factors: (n, saved H) what ``finish`` formed.
            grads: (n, grads H) receives the gradients before the products.

        Returns:
            (n, H) the factor by which ``dh`` reaches the hidden state before past the products, or None.
        """
        raise AssertionError("a cell without a derivative")


class LSTM(Cell):
    """Gates i, f, g, o; c' = f c + i g; h = o tanh(c')."""

    gates, notes, saved, grads = 4, 3, 6, 4
    has_memory = True

    @staticmethod
    def step(gx: Tensor, gh: Tensor, state: Tensor, out: Tensor, notes: Tensor) -> Tensor:
        size = out.shape[1]
        gx[:, : 2 * size].sigmoid_()
        i, f, g, o = split(gx, size, 1)
        g.tanh_()
        o.sigmoid_()
        before, memory, bounded = split(notes, size, 1)
        before.copy_(state)  # which may lie where ``memory`` is about to
        torch.mul(f, before, out=memory).addcmul_(i, g)
        torch.mul(o, torch.tanh(memory, out=bounded), out=out)
        return memory

    @staticmethod
    def finish(gx: Tensor, gh: Tensor, out: Tensor, notes: Tensor, factors: Tensor) -> None:
        size = out.shape[1]
        i, f, g, o = split(gx, size, 1)
        before, _, bounded = split(notes, size, 1)
        di, df, dg, do, dc, keep = split(factors, size, 1)
        _sigmoid_backward(g, i, grad_input=di)
        _sigmoid_backward(before, f, grad_input=df)
        _tanh_backward(i, g, grad_input=dg)
        _sigmoid_backward(bounded, o, grad_input=do)
        _tanh_backward(o, bounded, grad_input=dc)
        keep.copy_(f)

    @staticmethod
    def back(dh: Tensor, dc: Tensor | None, factors: Tensor, grads: Tensor) -> None:
        assert dc is not None
        size = dh.shape[1]
        gates = torch.unflatten(factors[:, : 3 * size], 1, (3, size))
        _, _, _, do, through, keep = split(factors, size, 1)
        torch.mul(dh, do, out=grads[:, 3 * size :])
        dc.addcmul_(dh, through)
        torch.mul(gates, dc.unsqueeze(1), out=torch.unflatten(grads[:, : 3 * size], 1, (3, size)))
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
    def step(gx: Tensor, gh: Tensor, state: Tensor, out: Tensor, notes: Tensor) -> None:
        size = out.shape[1]
        gx[:, size:].add_(gh[:, : 2 * size]).sigmoid_()
        n, r, z = split(gx, size, 1)
        n.addcmul_(r, gh[:, 2 * size :]).tanh_()
        torch.addcmul(n, z, torch.sub(state, n, out=notes), out=out)

    @staticmethod
    def finish(gx: Tensor, gh: Tensor, out: Tensor, notes: Tensor, factors: Tensor) -> None:
        size = out.shape[1]
        n, r, z = split(gx, size, 1)
        dn, dr, dz, dhn, keep = split(factors, size, 1)
        _sigmoid_backward(notes, z, grad_input=dz)
        keep.copy_(z)
        _tanh_backward(torch.sub(1, z, out=notes), n, grad_input=dn)
        _sigmoid_backward(torch.mul(dn, gh[:, 2 * size :], out=notes), r, grad_input=dr)
        torch.mul(dn, r, out=dhn)

    @staticmethod
    def back(dh: Tensor, dc: Tensor | None, factors: Tensor, grads: Tensor) -> Tensor:
        size = dh.shape[1]
        into = torch.unflatten(grads, 1, (4, size))
        torch.mul(torch.unflatten(factors[:, : 4 * size], 1, (4, size)), dh.unsqueeze(1), out=into)
        return factors[:, 4 * size :]


class Tanh(Cell):
    """h' = tanh(x + h)."""

    gates, notes, saved, grads = 1, 0, 1, 1

    @staticmethod
    def step(gx: Tensor, gh: Tensor, state: Tensor, out: Tensor, notes: Tensor) -> None:
        torch.tanh(gx, out=out)

    @staticmethod
    def finish(gx: Tensor, gh: Tensor, out: Tensor, notes: Tensor, factors: Tensor) -> None:
        _tanh_backward(gx.fill_(1), out, grad_input=factors)

    @staticmethod
    def back(dh: Tensor, dc: Tensor | None, factors: Tensor, grads: Tensor) -> None:
        torch.mul(dh, factors, out=grads)


class Relu(Tanh):
    """h' = max(x + h, 0)."""

    @staticmethod
    def step(gx: Tensor, gh: Tensor, state: Tensor, out: Tensor, notes: Tensor) -> None:
        torch.clamp_min(gx, 0, out=out)

    @staticmethod
    def finish(gx: Tensor, gh: Tensor, out: Tensor, notes: Tensor, factors: Tensor) -> None:
        factors.copy_(out > 0)


CELLS: dict[str, type[Cell]] = {"LSTM": LSTM, "GRU": GRU, "RNN_TANH": Tanh, "RNN_RELU": Relu}
