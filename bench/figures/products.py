"""The bare matrix products of a recurrent layer over a trie: what no engine can do without."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from memograd._share._trie import Trie

_CHUNK = 4096  # rows of one product with the input or for the weights' gradients


class Products:
    """Forward and backward products of one layer, into memory of their own.

    Per node: with the input, its gradient, and the input weight's. Per *parent*, of which there are fewer: with the
    hidden state, its gradient, and the hidden weight's; one product a level, but for the weight's.

    Args:
        trie: the nodes.
        gates: of the cell: 4 (LSTM) or 3 (GRU).
        size, inputs: H and E.
        device: of the tensors.
    """

    def __init__(self, trie: Trie, gates: int, size: int, inputs: int, device: torch.device) -> None:
        widths = (trie.starts[1:] - trie.starts[:-1]).tolist()
        self.parents = [1, *(min(a, b) for a, b in pairwise(widths))]
        self.nodes, columns = len(trie), gates * size
        rows = max(_CHUNK, *self.parents)
        self.x, self.dx = (torch.randn(self.nodes, inputs, device=device) for _ in range(2))
        self.h = torch.randn(self.nodes, size, device=device)
        self.gates, self.through = (torch.randn(rows, columns, device=device) for _ in range(2))
        self.dh = torch.empty(rows, size, device=device)
        self.ih, self.d_ih = (torch.randn(columns, inputs, device=device) for _ in range(2))
        self.hh, self.d_hh = (torch.randn(columns, size, device=device) for _ in range(2))

    def __call__(self) -> None:
        self._in_chunks(self.nodes, self._with_input)
        for width in self.parents:
            torch.mm(self.h[:width], self.hh.t(), out=self.gates[:width])
            torch.mm(self.through[:width], self.hh, out=self.dh[:width])
        self._in_chunks(sum(self.parents), self._hidden_weight)

    def _with_input(self, a: int, b: int) -> None:
        torch.mm(self.x[a:b], self.ih.t(), out=self.gates[: b - a])
        torch.mm(self.through[: b - a].t(), self.x[a:b], out=self.d_ih)
        torch.mm(self.through[: b - a], self.ih, out=self.dx[a:b])

    def _hidden_weight(self, a: int, b: int) -> None:
        torch.mm(self.through[: b - a].t(), self.h[a:b], out=self.d_hh)

    @staticmethod
    def _in_chunks(rows: int, product: Callable[[int, int], None]) -> None:
        for a in range(0, rows, _CHUNK):
            product(a, min(a + _CHUNK, rows))
