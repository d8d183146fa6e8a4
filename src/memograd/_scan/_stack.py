"""All layers and directions of a recurrent module over one trie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from memograd._scan._cells import CELLS, Cell
from memograd._scan._directions import Direction, suffixes, whole_rows
from memograd._scan._layer import layer
from memograd._scan._straight import run_direction
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

    def at(self, depth: int, direction: int) -> Weights:
        """Give the weights of one layer and direction."""
        w = self.weights[depth][direction]
        biases = (w[2], w[3]) if self.bias else (None, None)
        projected = len(w) == (5 if self.bias else 3)
        return Weights(w[0], w[1], *biases, w[-1] if projected else None)


@dataclass(frozen=True)
class States:
    """States (layers x directions, rows, size): first ones, or last ones; ``c`` for an LSTM."""

    h: Tensor
    c: Tensor | None

    def rows(self, index: Tensor) -> States:
        """Give the states of some rows."""
        return States(self.h.index_select(1, index), None if self.c is None else self.c.index_select(1, index))

    @property
    def require_grad(self) -> bool:
        return self.h.requires_grad or (self.c is not None and self.c.requires_grad)


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
    last, x = _Last(first), _savable(x)
    for depth in range(len(stack.weights)):
        directions, sources = _both(stack, trie, source, x.device)
        parts: list[Tensor] = []
        for d, direction in enumerate(directions):
            k = depth * len(directions) + d
            w = stack.at(depth, d)
            y, c = run_direction(stack.cell, stack.mode, w, direction, x, sources[d], first.h[k], _row(first.c, k))
            last.take(k, direction, y, c)
            parts.append(y)
        x, trie = _joined(directions, parts)
        source = None
        if stack.dropout and depth + 1 < len(stack.weights):
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
    last, x = _Last(first), _savable(x)
    for depth in range(len(stack.weights)):
        directions, _ = _both(stack, trie, trie.first, x.device)
        parts: list[Tensor] = []
        for d, direction in enumerate(directions):
            k = depth * len(directions) + d
            flip = None if direction.flip is None else direction.tensor(direction.flip)
            read = x if flip is None else x.index_select(0, flip)
            spread = direction.spread()
            levels = direction.levels(direction.trie.first)
            y, c = layer(stack.cell, stack.at(depth, d), levels, read, first.h[k], _row(first.c, k), spread)
            last.take_rows(k, direction, y, c)
            parts.append(y if flip is None else y.index_select(0, flip))
        x = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        trie = trie if len(parts) == 1 else whole_rows(trie)
        if stack.dropout and depth + 1 < len(stack.weights):
            y = _plain_layers(stack, depth + 1, x, trie, first, last)
            return Outcome(y, trie, last.states())
    return Outcome(x, trie, last.states())


class _Last:
    """Collects the rows' last states, layer by layer."""

    def __init__(self, first: States) -> None:
        self.first = first
        self.h: dict[int, Tensor] = {}
        self.c: dict[int, Tensor] = {}

    def take(self, k: int, direction: Direction, y: Tensor, c: Tensor) -> None:
        """Read the states off the nodes at which rows end."""
        at = direction.trie.last
        self.h[k] = _or_first(y, at, self.first.h[k], direction)
        if self.first.c is not None:
            self.c[k] = _or_first(c, _ends_of(direction), self.first.c[k], direction)

    def take_rows(self, k: int, direction: Direction, y: Tensor, c: Tensor) -> None:
        """Read the states off the positions at which rows end."""
        at = direction.trie.rows.last
        self.h[k] = y.index_select(0, direction.tensor(at))
        if self.first.c is not None:
            self.c[k] = c.index_select(0, direction.tensor(np.argsort(np.argsort(at))))

    def put(self, k: int, h: Tensor, c: Tensor | None) -> None:
        self.h[k] = h
        if c is not None:
            self.c[k] = c

    def states(self) -> States:
        h = torch.stack([self.h[k] for k in sorted(self.h)])
        return States(h, torch.stack([self.c[k] for k in sorted(self.c)]) if self.c else None)


def _ends_of(direction: Direction) -> Ints:
    """(B,) where each row's last node stands among the ends, -1 for an empty row."""
    last = direction.trie.last
    return np.where(last >= 0, np.searchsorted(direction.ends, last), -1)


def _or_first(values: Tensor, at: Ints, first: Tensor, direction: Direction) -> Tensor:
    """Take rows of ``values``; a row that took no step keeps its first state."""
    if len(at) and at.min() < 0:
        values, at = torch.cat([values, first]), np.where(at < 0, len(values) + direction.trie.root, at)
    return values.index_select(0, direction.tensor(at))


def _savable(x: Tensor) -> Tensor:
    """Copy what was made in inference mode, of which no graph may keep hold."""
    return x.clone() if x.is_inference() and not torch.is_inference_mode_enabled() else x


def _row(states: Tensor | None, k: int) -> Tensor | None:
    return None if states is None else states[k]


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
    stack: Stack, depth: int, onward: Direction, x: Tensor, trie: Trie, first: States, last: _Last
) -> tuple[Tensor, Trie]:
    """Run the layers above a dropout, which tells apart what was equal."""
    of_rows = first.rows(onward.tensor(trie.root))
    y = _plain_layers(stack, depth, x.index_select(0, onward.tensor(trie.node)), trie, of_rows, last)
    return y, chains(trie.rows, trie.root)


def _plain_layers(stack: Stack, depth: int, x: Tensor, trie: Trie, first: States, last: _Last) -> Tensor:
    """Run layers from ``depth`` on as PyTorch does, drawing the dropouts that it draws.

    Args:
        x: (positions, R) what the layer below gave, before its dropout.
        first: the first states of all rows.
    """
    rows, directions = trie.rows, 2 if stack.bidirectional else 1
    order = on(x.device, rows.order)
    states = [s[depth * directions :].index_select(1, order) for s in (first.h, first.c) if s is not None]
    flat = [w for of_layer in stack.weights[depth:] for of_direction in of_layer for w in of_direction]
    run = kernel(stack.mode)
    options = (flat, stack.bias, len(stack.weights) - depth, stack.dropout, stack.training, stack.bidirectional)
    alive = int(rows.widths[0]) if rows.horizon else 0
    begun = [s[:, :alive].contiguous() for s in states]
    hx = tuple(begun) if stack.cell.has_memory else begun[0]
    if rows.steps == rows.horizon * len(rows):
        dropped = functional.dropout(x.view(rows.horizon, len(rows), -1), stack.dropout)
        y, *ends = run(dropped, hx, *options, False)
    else:
        y, *ends = run(functional.dropout(x, stack.dropout), torch.from_numpy(rows.widths), hx, *options)
    back = on(x.device, rows.rank)
    ends = [torch.cat([e, s[:, alive:]], 1).index_select(1, back) for e, s in zip(ends, states, strict=True)]
    for k in range(len(ends[0])):
        last.put(depth * directions + k, ends[0][k], ends[1][k] if len(ends) > 1 else None)
    return y.reshape(rows.steps, -1)
