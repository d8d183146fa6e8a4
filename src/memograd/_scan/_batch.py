"""A plain module's input and states, as positions and rows; its outputs, as the plain module lays them out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from memograd._scan._stack import Stack, States
from memograd._scan._torch import is_transformed, kernel, weight_names
from memograd._share._arrays import on
from memograd._share._bits import exact_keys, trie_of
from memograd._share._checks import checked_integers
from memograd._share._trie import Rows, Trie, build, rerooted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memograd._share._shared import Shared
    from memograd._share._trie import Ints


@dataclass(frozen=True)
class First:
    """First states of a batch's rows.

    Attributes:
        states: (layers x directions, B, size), rows in the batch's order.
        root: (B,) equal numbers where a row's states are equal to the bit; None where all are zero.
    """

    states: States
    root: Ints | None


@dataclass(frozen=True)
class Batch:
    """A batch that the engines can take.

    Attributes:
        input: as it was given.
        x: (places, E) its vectors.
        place: (steps,) where in ``x`` each position's vector stands.
        rows: the positions.
        batch_first: of a padded input, and of the ``Shared`` that is made of it.
    """

    input: Tensor | PackedSequence
    x: Tensor
    place: Ints
    rows: Rows
    batch_first: bool

    @staticmethod
    def of(module: nn.RNNBase, input: Any) -> Batch | None:
        """Take an input apart; None where the plain module is to judge it, or has nothing to share."""
        packed = isinstance(input, PackedSequence)
        data = input.data if packed else input
        if not _plain_tensor(data) or data.dim() != (2 if packed else 3) or data.numel() == 0:
            return None
        if data.shape[-1] != module.input_size or not _dtype_fits(module, data):
            return None
        if packed:
            rows = _packed_rows(input)
            return None if rows is None else Batch(input, data, np.arange(rows.steps), rows, False)
        size, horizon = data.shape[:2] if module.batch_first else (data.shape[1], data.shape[0])
        rows = Rows.of(np.full(size, horizon))
        place = rows.rows * horizon + rows.times if module.batch_first else np.arange(rows.steps)
        return Batch(input, data.reshape(-1, data.shape[-1]), place, rows, module.batch_first)

    @property
    def ragged(self) -> bool:
        """Whether rows differ in length, for which CPUs have no fused kernel."""
        return self.rows.steps < self.rows.horizon * len(self.rows)

    def positions(self) -> Tensor:
        """(steps, E) the vectors, position by position."""
        if isinstance(self.input, PackedSequence) or not self.batch_first:
            return self.x
        return self.input.transpose(0, 1).reshape(self.x.shape)

    def trie(self, names: Ints | None, root: Ints | None) -> Trie:
        """Merge the common prefixes of the rows."""
        if names is not None:
            return build(names, self.rows, root)
        return trie_of(self.x, self.place, self.rows, root)

    def names(self, keys: Any) -> Ints:
        """Give the keys of the positions.

        Raises:
            TypeError: keys are not integers.
            ValueError: their shape is not the input's.
        """
        data = keys.data if isinstance(keys, PackedSequence) else keys
        data = checked_integers(data, "memo.scan: got keys", "an integer tensor, such as token ids. Write ids.long()")
        expected = self.input.data.shape[:-1]
        if data.shape != expected:
            raise ValueError(
                f"memo.scan: got keys of shape {tuple(data.shape)}; expected {tuple(expected)}, one for each vector of "
                f"the input{' in its packed order' if isinstance(self.input, PackedSequence) else ''}."
            )
        return data.detach().reshape(-1).cpu().numpy().astype(np.int64)[self.place]

    def first_states(self, module: nn.RNNBase, hx: Any) -> First | None:
        """Give the rows' first states, None where ``hx`` is for the plain module to judge."""
        shapes = _state_shapes(module, len(self.rows))
        if hx is None:
            return First(_zeros(shapes, self.x), None)
        given: Sequence[Any] = hx if module.mode == "LSTM" else (hx,)
        if not isinstance(given, tuple) or len(given) != len(shapes):
            return None
        for state, shape in zip(given, shapes, strict=True):
            if not _plain_tensor(state) or state.shape != shape or state.device != self.x.device:
                return None
            if state.dtype != self.x.dtype and not torch.is_autocast_enabled(self.x.device.type):
                return None
        bits = [exact_keys(state.transpose(0, 1)) for state in given]
        root = bits[0] * (int(bits[-1].max()) + 1) + bits[-1]
        return First(_states(given), root)

    def last_states(self, last: States, dtypes: list[torch.dtype]) -> Any:
        """Give last states as the plain module does."""
        return last.h.to(dtypes[0]) if last.c is None else (last.h.to(dtypes[0]), last.c.to(dtypes[1]))

    def laid_out(self, y: Tensor) -> Tensor | PackedSequence:
        """Give (steps, R) outputs as the plain module does, strides and all."""
        if isinstance(self.input, PackedSequence):
            return PackedSequence(y, self.input.batch_sizes, self.input.sorted_indices, self.input.unsorted_indices)
        table = y.view(self.rows.horizon, len(self.rows), -1)
        return table.transpose(0, 1) if self.batch_first else table

    def result_dtypes(self, stack: Stack, first: States) -> list[torch.dtype]:
        """Give the types of the plain module's results: of the outputs, then of the last states."""
        if not torch.is_autocast_enabled(self.x.device.type):
            return [self.x.dtype] * 3
        steps = [2, 1] if self.ragged else [2]
        return _autocast_dtypes(stack, self.x, first, steps if isinstance(self.input, PackedSequence) else None)


def shared_first_states(module: nn.RNNBase, s: Shared, hx: Any) -> tuple[Trie, States]:
    """Give a ``Shared``'s trie and the first states of its roots.

    Raises:
        ValueError: the shapes do not fit, or rows that share a prefix have different states.
    """
    if hx is None:
        return s.trie, _zeros(_state_shapes(module, len(s.trie.root_row)), s.distinct)
    given = _as_tuple(hx)
    states = [state for state in given if isinstance(state, Tensor)]
    shapes = _state_shapes(module, len(s.trie.rows))
    if not len(given) == len(states) == len(shapes):
        raise ValueError(f"memo.scan: got states of {type(hx).__name__}; expected {_expected(module, s)}.")
    others = {state.dtype for state in states} - {s.distinct.dtype}
    if others and not torch.is_autocast_enabled(s.distinct.device.type):
        raise ValueError(
            f"memo.scan: got states of {others.pop()}; expected {s.distinct.dtype}, the type of the values."
        )
    labels = np.zeros(len(s.trie.rows), np.int64)
    for state, (depth, rows, size) in zip(states, shapes, strict=True):
        if state.shape == (depth, rows, size) and rows > 1:
            labels = labels * rows + _label(module, s, state)
        elif state.shape != (depth, 1, size):
            raise ValueError(f"memo.scan: got states of shape {tuple(state.shape)}; expected {_expected(module, s)}.")
    trie = rerooted(s.trie, labels)
    if trie is None:
        raise _unshareable(module, s, "that differ between rows that share a prefix")
    at = on(s.distinct.device, trie.root_row)
    found = [state.index_select(1, at if state.shape[1] > 1 else torch.zeros_like(at)) for state in states]
    return trie, _states(found)


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


def _as_tuple(hx: object) -> tuple[object, ...]:
    return cast("tuple[object, ...]", hx) if isinstance(hx, tuple) else (hx,)


def _expected(module: nn.RNNBase, s: Shared) -> str:
    shapes = [f"({d}, 1 or {len(s.trie.rows)}, {size})" for d, _, size in _state_shapes(module, 1)]
    return shapes[0] if len(shapes) == 1 else f"a tuple of {shapes[0]} and {shapes[1]}"


def _state_shapes(module: nn.RNNBase, rows: int) -> list[tuple[int, int, int]]:
    depth = module.num_layers * (2 if module.bidirectional else 1)
    shapes = [(depth, rows, module.proj_size or module.hidden_size)]
    return [*shapes, (depth, rows, module.hidden_size)] if module.mode == "LSTM" else shapes


def _zeros(shapes: list[tuple[int, int, int]], like: Tensor) -> States:
    return _states([torch.zeros(shape, dtype=like.dtype, device=like.device) for shape in shapes])


def _states(tensors: Sequence[Tensor]) -> States:
    """Name the one or two tensors that a module's state is made of."""
    return States(tensors[0], tensors[1] if len(tensors) > 1 else None)


def _plain_tensor(x: Any) -> bool:
    """Say whether a value is a tensor whose content can be read: no subclass, no transform, nothing traced."""
    return (
        type(x) in (Tensor, nn.Parameter)
        and x.device.type in ("cpu", "cuda")
        and x.layout == torch.strided
        and not x.is_nested
        and x.is_floating_point()
        and not is_transformed()
    )


def _dtype_fits(module: nn.RNNBase, x: Tensor) -> bool:
    autocast = torch.is_autocast_enabled(x.device.type)
    weights = [getattr(module, name) for name in weight_names(module)]
    return all(_plain_tensor(w) and w.device == x.device and (w.dtype == x.dtype or autocast) for w in weights)


def _packed_rows(packed: PackedSequence) -> Rows | None:
    widths, order = packed.batch_sizes, packed.sorted_indices
    if widths.dtype != torch.int64 or widths.device.type != "cpu" or widths.dim() != 1 or not len(widths):
        return None
    if (widths[1:] > widths[:-1]).any() or widths[-1] < 0 or int(widths.sum()) != len(packed.data):
        return None
    size = int(widths[0])
    rows = np.arange(size) if order is None else order.cpu().numpy()
    back = np.arange(size) if packed.unsorted_indices is None else packed.unsorted_indices.cpu().numpy()
    if not _inverse(rows, back, size):
        return None
    lengths = np.empty(size, np.int64)
    lengths[rows] = np.searchsorted(-widths.numpy(), -np.arange(size), side="left")  # the k-th longest row: widths > k
    return Rows.of(lengths, rows)


def _inverse(order: Ints, back: Ints, size: int) -> bool:
    """Say whether two arrays are permutations of the rows, each the other's inverse."""
    if order.shape != (size,) or back.shape != (size,) or order.dtype != np.int64 or back.dtype != np.int64:
        return False
    every = np.arange(size)
    return bool((np.sort(order) == every).all() and (order[back.clip(0, size - 1)] == every).all())


def _autocast_dtypes(stack: Stack, x: Tensor, first: States, widths: list[int] | None) -> list[torch.dtype]:
    """Ask the plain kernel what it would give, on a batch of two rows (packed where ``widths`` are given)."""
    flat = [w for of_layer in stack.weights for of_direction in of_layer for w in of_direction]
    given = [s.new_zeros(s.shape[0], 2, s.shape[2]) for s in (first.h, first.c) if s is not None]
    options = (flat, stack.bias, len(stack.weights), 0.0, False, stack.bidirectional)
    state = tuple(given) if stack.cell.has_memory else given[0]
    run = kernel(stack.mode)
    with torch.no_grad():
        if widths is None:
            found = run(x.new_zeros(1, 2, x.shape[1]), state, *options, False)
        else:
            found = run(x.new_zeros(sum(widths), x.shape[1]), torch.tensor(widths), state, *options)
    return [t.dtype for t in found]
