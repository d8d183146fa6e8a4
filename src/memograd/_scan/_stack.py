"""All layers and directions of a recurrent module over one trie."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from memograd._scan._cells import CELLS, Cell
from memograd._scan._choice import fuses
from memograd._scan._directions import Direction, suffixes, whole_rows
from memograd._scan._layer import layer
from memograd._scan._states import Last, States
from memograd._scan._straight import fused, stretches
from memograd._scan._torch import kernel
from memograd._scan._weights import Weights
from memograd._share._arrays import on
from memograd._share._trie import chains

if TYPE_CHECKING:
    from memograd._share._trie import Ints, Trie


@dataclass(frozen=True)
class Stack:
    """A recurrent module as data: what PyTorch's kernels take.

    Attributes:
        mode: ``LSTM``, ``GRU``, ``RNN_TANH`` or ``RNN_RELU``.
        weights: for each layer, for each direction, in PyTorch's order.
        dropout: probability between layers, 0 where it does not apply (evaluation, one layer).
        bias, bidirectional, training: as the module has them.
    """

    mode: str
    weights: list[list[list[Tensor]]]
    dropout: float
    bias: bool
    bidirectional: bool
    training: bool

    @property
    def cell(self) -> type[Cell]:
        return CELLS[self.mode]

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    def at(self, depth: int, direction: int) -> Weights:
        """Give the weights of one layer and direction."""
        w = self.weights[depth][direction]
        biases = (w[2], w[3]) if self.bias else (None, None)
        projected = len(w) == (5 if self.bias else 3)
        return Weights(w[0], w[1], *biases, w[-1] if projected else None)

    def by_kernel(self, x: Tensor, widths: Tensor | None, states: list[Tensor], depth: int = 0) -> tuple[Tensor, ...]:
        """Run the layers from ``depth`` on by the plain module's kernel; give outputs, then last states.

        Args:
            x: (T, B, E) inputs, or (positions, E) of a packed batch.
            widths: a packed batch's sizes.
            states: first states of these layers, h or h and c.
            depth: the lowest layer.
        """
        flat = [w for of_layer in self.weights[depth:] for of_direction in of_layer for w in of_direction]
        options = (flat, self.bias, len(self.weights) - depth, self.dropout, self.training, self.bidirectional)
        hx = tuple(states) if self.cell.has_memory else states[0]
        if widths is None:
            return kernel(self.mode)(x, hx, *options, False)
        return kernel(self.mode)(x, widths, hx, *options)


@dataclass
class Outcome:
    """What a stack gives.

    Attributes:
        y: (nodes, R), or (positions, R) where every row has gradients of its own.
        trie: whose nodes or positions ``y`` stands for.
        last: the rows' last states.
    """

    y: Tensor
    trie: Trie
    last: States


def run_shared(stack: Stack, x: Tensor, source: Ints | None, trie: Trie, first: States) -> Outcome:
    """Run a stack over a trie: values and gradients once per node.

    Args:
        stack: the module.
        x: (k, E) input rows.
        source: (nodes,) the input row of each node; None where row k is node k's.
        trie: the prefixes.
        first: the first states of the trie's roots.
    """
    last, x = Last(first), _savable(x)
    for depth in range(len(stack.weights)):
        directions, sources = _both(stack, trie, source, x.device)
        parts: list[Tensor] = []
        for d, direction in enumerate(directions):
            k = depth * len(directions) + d
            y, c = run_direction(stack, stack.at(depth, d), direction, x, sources[d], *first.at(k))
            last.take(k, direction, y, c)
            parts.append(y)
        x, trie = _joined(directions, parts)
        source = None
        if stack.dropout and len(trie) and depth + 1 < len(stack.weights):
            y, trie = _rest(stack, depth + 1, directions[0], x, trie, first, last)
            return Outcome(y, trie, last.states())
    return Outcome(x, trie, last.states())


def run_spread(stack: Stack, x: Tensor, trie: Trie, first: States) -> Outcome:
    """Run a stack over a trie with gradients of its own for every row.

    Args:
        stack: the module.
        x: (positions, E) inputs.
        trie: the prefixes.
        first: the first states of all rows.
    """
    last, x = Last(first), _savable(x)
    for depth in range(len(stack.weights)):
        directions, _ = _both(stack, trie, trie.first, x.device)
        parts: list[Tensor] = []
        for d, direction in enumerate(directions):
            k = depth * len(directions) + d
            flip = None if direction.flip is None else direction.tensor(direction.flip)
            read = x if flip is None else x.index_select(0, flip)
            spread = direction.spread()
            levels = direction.levels(direction.trie.first)
            y, c = layer(stack.cell, stack.at(depth, d), levels, read, *first.at(k), spread)
            last.take_rows(k, direction, y, c)
            parts.append(y if flip is None else y.index_select(0, flip))
        x = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        trie = trie if len(parts) == 1 else whole_rows(trie)
        if stack.dropout and depth + 1 < len(stack.weights):
            y = _plain_layers(stack, depth + 1, x, trie, first, last)
            return Outcome(y, trie, last.states())
    return Outcome(x, trie, last.states())


def run_direction(
    stack: Stack, w: Weights, direction: Direction, x: Tensor, source: Ints | None, h: Tensor, c: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Run a layer over a trie, stretch by stretch, each as it runs best.

    Args:
        stack: the module.
        w: the weights of this layer and direction.
        direction: the trie.
        x: (rows, E) inputs.
        source: (nodes,) the row of each node, None where row k is node k's.
        h: (roots, R) first states.
        c: (roots, H) first memories, None for a cell without one.

    Returns:
        Outputs (nodes, R) and memories of ``direction.ends`` (k, H).
    """
    size = w.hh.shape[0] // stack.cell.gates
    if not len(direction.trie):
        return h.new_empty(0, h.shape[1]), h.new_empty(0, size)
    ys: list[Tensor] = []
    memories: list[Tensor] = []
    for begin, stop, straight in stretches(direction, fuses(stack.cell, w, x)):
        levels = direction.levels(source, begin, stop)
        read = x if source is not None else x[int(direction.trie.starts[begin]) :][: levels.nodes]
        way = partial(fused, stack.mode) if straight else partial(layer, stack.cell)
        y, given = way(w, levels, read, h, c)
        ys.append(y)
        width = levels.width(len(levels) - 1)
        h = y[len(y) - width :]
        if c is not None:
            c = given[len(given) - width :]
            memories.append(given.index_select(0, direction.tensor(levels.row_ends)))
    y = ys[0] if len(ys) == 1 else torch.cat(ys)
    return y, torch.cat(memories) if memories else y.new_empty(0, size)


def _savable(x: Tensor) -> Tensor:
    """Copy what was made in inference mode, of which no graph may keep hold."""
    return x.clone() if x.is_inference() and not torch.is_inference_mode_enabled() else x


def _both(
    stack: Stack, trie: Trie, source: Ints | None, device: torch.device
) -> tuple[list[Direction], list[Ints | None]]:
    """Give the directions of a layer and which input row each of their nodes reads."""
    onward = Direction(trie, None, device)
    if not stack.bidirectional:
        return [onward], [source]
    keys = (np.arange(len(trie)) if source is None else source)[trie.node]
    backward, flip = suffixes(keys, trie.rows, trie.root)
    return [onward, Direction(backward, flip, device)], [source, keys[flip][backward.first]]


def _joined(directions: list[Direction], parts: list[Tensor]) -> tuple[Tensor, Trie]:
    """Join the outputs of a layer's directions: where there are two, a node is a step of a distinct row."""
    trie = directions[0].trie
    if len(parts) == 1:
        return parts[0], trie
    onward, backward = directions
    assert backward.flip is not None
    both = whole_rows(trie)
    ahead = parts[0].index_select(0, onward.tensor(trie.node[both.first]))
    behind = parts[1].index_select(0, onward.tensor(backward.trie.node[backward.flip[both.first]]))
    return torch.cat([ahead, behind], 1), both


def _rest(
    stack: Stack, depth: int, onward: Direction, x: Tensor, trie: Trie, first: States, last: Last
) -> tuple[Tensor, Trie]:
    """Run the layers above a dropout, which tells apart what was equal."""
    of_rows = first.rows(onward.tensor(trie.root))
    y = _plain_layers(stack, depth, x.index_select(0, onward.tensor(trie.node)), trie, of_rows, last)
    return y, chains(trie.rows, trie.root)


def _plain_layers(stack: Stack, depth: int, x: Tensor, trie: Trie, first: States, last: Last) -> Tensor:
    """Run layers from ``depth`` on as PyTorch does, drawing the dropouts that it draws.

    Args:
        x: (positions, R) what the layer below gave, before its dropout.
        first: the first states of all rows.
    """
    rows, below = trie.rows, depth * stack.directions
    order = on(x.device, rows.order)
    states = [s[below:].index_select(1, order) for s in first.tensors]
    alive = int(rows.widths[0]) if rows.horizon else 0
    begun = [s[:, :alive].contiguous() for s in states]
    if rows.steps == rows.horizon * len(rows):
        dropped = functional.dropout(x.view(rows.horizon, len(rows), -1), stack.dropout)
        y, *ends = stack.by_kernel(dropped, None, begun, depth)
    else:
        dropped = functional.dropout(x, stack.dropout)
        y, *ends = stack.by_kernel(dropped, torch.from_numpy(rows.widths), begun, depth)
    back = on(x.device, rows.rank)
    ends = [torch.cat([e, s[:, alive:]], 1).index_select(1, back) for e, s in zip(ends, states, strict=True)]
    for k in range(len(ends[0])):
        last.put(below + k, ends[0][k], ends[1][k] if len(ends) > 1 else None)
    return y.reshape(rows.steps, -1)
