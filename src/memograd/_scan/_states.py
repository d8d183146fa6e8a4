"""States of a recurrent module: the first ones as its caller has them, the last ones as it gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from memograd._scan._torch import is_readable
from memograd._share._arrays import on
from memograd._share._bits import exact_keys
from memograd._share._trie import rerooted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from memograd._scan._directions import Direction
    from memograd._share._shared import Shared
    from memograd._share._trie import Ints, Trie


@dataclass(frozen=True)
class States:
    """States (layers x directions, rows, size): first ones, or last ones; ``c`` for an LSTM."""

    h: Tensor
    c: Tensor | None

    @staticmethod
    def of(tensors: Sequence[Tensor]) -> States:
        """Name the one or two tensors that a module's state is made of."""
        return States(tensors[0], tensors[1] if len(tensors) > 1 else None)

    @staticmethod
    def zeros(shapes: list[tuple[int, int, int]], like: Tensor) -> States:
        """Give the states that a module begins from when it is given none."""
        return States.of([torch.zeros(shape, dtype=like.dtype, device=like.device) for shape in shapes])

    @property
    def tensors(self) -> list[Tensor]:
        return [self.h] if self.c is None else [self.h, self.c]

    @property
    def require_grad(self) -> bool:
        return any(s.requires_grad for s in self.tensors)

    def rows(self, index: Tensor) -> States:
        """Give the states of some rows."""
        return States.of([s.index_select(1, index) for s in self.tensors])

    def at(self, k: int) -> tuple[Tensor, Tensor | None]:
        """Give h and c of one layer and direction."""
        return self.h[k], None if self.c is None else self.c[k]

    def to(self, dtypes: Sequence[torch.dtype]) -> States:
        """Round h, and c where there is one, to types of their own."""
        return States.of([s.to(dtype) for s, dtype in zip(self.tensors, dtypes, strict=False)])

    def as_plain(self) -> Tensor | tuple[Tensor, Tensor]:
        """Give them as the plain module does."""
        return self.h if self.c is None else (self.h, self.c)


@dataclass(frozen=True)
class First:
    """First states of a batch's rows.

    Attributes:
        states: (layers x directions, B, size), rows in the batch's order.
        root: (B,) equal numbers where a row's states are equal to the bit; None where all are zero.
    """

    states: States
    root: Ints | None


def first_states(module: nn.RNNBase, x: Tensor, rows: int, hx: Any) -> First | None:
    """Give the first states of rows of inputs ``x``, None where ``hx`` is for the plain module to judge."""
    shapes = state_shapes(module, rows)
    if hx is None:
        return First(States.zeros(shapes, x), None)
    given: Sequence[Any] = hx if module.mode == "LSTM" else (hx,)
    if not isinstance(given, tuple) or len(given) != len(shapes):
        return None
    for state, shape in zip(given, shapes, strict=True):
        if not is_readable(state) or state.shape != shape or state.device != x.device:
            return None
        if state.dtype != x.dtype and not torch.is_autocast_enabled(x.device.type):
            return None
    bits = [exact_keys(state.transpose(0, 1)) for state in given]
    root = bits[0] * (int(bits[-1].max()) + 1) + bits[-1]
    return First(States.of(given), root)


def shared_first_states(module: nn.RNNBase, s: Shared, hx: Any) -> tuple[Trie, States]:
    """Give a ``Shared``'s trie and the first states of its roots.

    Raises:
        ValueError: the shapes do not fit, or rows that share a prefix have different states.
    """
    if hx is None:
        return s.trie, States.zeros(state_shapes(module, len(s.trie.root_row)), s.distinct)
    given = _as_tuple(hx)
    states = [state for state in given if isinstance(state, Tensor)]
    shapes = state_shapes(module, len(s.trie.rows))
    if not len(given) == len(states) == len(shapes):
        raise ValueError(f"memo.scan: got states of {type(hx).__name__}; expected {_expected(module, s)}.")
    others = {state.dtype for state in states} - {s.distinct.dtype}
    if others and not torch.is_autocast_enabled(s.distinct.device.type):
        raise ValueError(
            f"memo.scan: got states of {others.pop()}; expected {s.distinct.dtype}, the type of the values."
        )
    labels = np.zeros(len(s.trie.rows), np.int64)
    for state, (depth, rows, size) in zip(states, shapes, strict=True):
        if state.shape == (depth, rows, size) and rows != 1:
            labels = labels * rows + _label(module, s, state)
        elif state.shape != (depth, 1, size):
            raise ValueError(f"memo.scan: got states of shape {tuple(state.shape)}; expected {_expected(module, s)}.")
    trie = rerooted(s.trie, labels)
    if trie is None:
        raise _unshareable(module, s, "that differ between rows that share a prefix")
    at = on(s.distinct.device, trie.root_row)
    found = [state.index_select(1, at if state.shape[1] > 1 else torch.zeros_like(at)) for state in states]
    return trie, States.of(found)


def _label(module: nn.RNNBase, s: Shared, state: Tensor) -> Ints:
    """Number the rows' states so that equal numbers mean equal bits."""
    if state.requires_grad:
        raise _unshareable(module, s, "that require grad, one a row,")
    return exact_keys(state.transpose(0, 1))


def _unshareable(module: nn.RNNBase, s: Shared, what: str) -> ValueError:
    return ValueError(
        f"memo.scan: got states {what} with a Shared input; expected {_expected(module, s)}. "
        "Pass one state of shape (layers, 1, H), or the dense input with keys=ids."
    )


def each_of(hx: Any, act: Callable[[Any], Any]) -> Any:
    """Do something to a state, or to each of h and c; what is neither is left to the plain module to judge."""
    if isinstance(hx, tuple):
        return tuple(act(s) if isinstance(s, Tensor) else s for s in cast("tuple[object, ...]", hx))
    return act(hx) if isinstance(hx, Tensor) else hx


def _as_tuple(hx: object) -> tuple[object, ...]:
    return cast("tuple[object, ...]", hx) if isinstance(hx, tuple) else (hx,)


def _expected(module: nn.RNNBase, s: Shared) -> str:
    shapes = [f"({d}, 1 or {len(s.trie.rows)}, {size})" for d, _, size in state_shapes(module, 1)]
    return shapes[0] if len(shapes) == 1 else f"a tuple of {shapes[0]} and {shapes[1]}"


def state_shapes(module: nn.RNNBase, rows: int) -> list[tuple[int, int, int]]:
    """Give the shapes of the states of a batch: (layers x directions, rows, size)."""
    depth = module.num_layers * (2 if module.bidirectional else 1)
    shapes = [(depth, rows, module.proj_size or module.hidden_size)]
    return [*shapes, (depth, rows, module.hidden_size)] if module.mode == "LSTM" else shapes


class Last:
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

    def take_ends(self, k: int, direction: Direction, h: Tensor, c: Tensor | None) -> None:
        """Read the states off values for each of the direction's ends."""
        at = _ends_of(direction)
        self.h[k] = _or_first(h, at, self.first.h[k], direction)
        if self.first.c is not None and c is not None:
            self.c[k] = _or_first(c, at, self.first.c[k], direction)

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
