"""The weights of one layer and direction: as PyTorch has them, and as the products over a trie want them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from memograd._scan._cells import Cell


class Weights(NamedTuple):
    """The weights of one layer and direction, in PyTorch's names and shapes."""

    ih: Tensor
    hh: Tensor
    b_ih: Tensor | None
    b_hh: Tensor | None
    hr: Tensor | None


class Arranged:
    """Weights as the products want them: rows in the order of ``Cell.x_columns``, biases that only add up as one.

    Attributes:
        size: H.
        ih, hh, hr: weights of the input, of the hidden state, and of the projection where there is one.
        b_x, b_h: biases of the products with the input and with the hidden state; where the cell merges the two
            products, ``b_x`` is the sum of both.
        x_columns, h_columns: see ``Cell``.
    """

    def __init__(self, cell: type[Cell], w: Weights) -> None:
        self.cell, self.size = cell, w.hh.shape[0] // cell.gates
        self.ih, self.hh, self.hr = cell.arrange(w.ih), w.hh, w.hr
        self.b_x, self.b_h = None if w.b_ih is None else cell.arrange(w.b_ih), w.b_hh
        if cell.merged and self.b_x is not None and self.b_h is not None:
            self.b_x, self.b_h = self.b_x + self.b_h, None
        self.x_columns, self.h_columns = cell.x_columns(self.size), cell.h_columns(self.size)

    def input_product(self, x: Tensor, out: Tensor) -> Tensor:
        return _affine(self.b_x, x, self.ih, out)

    def hidden_product(self, h: Tensor, out: Tensor) -> Tensor:
        return _affine(self.b_h, h, self.hh, out)


def _affine(bias: Tensor | None, x: Tensor, w: Tensor, out: Tensor) -> Tensor:
    if bias is None:
        return torch.mm(x, w.t(), out=out)
    return torch.addmm(bias, x, w.t(), out=out)
