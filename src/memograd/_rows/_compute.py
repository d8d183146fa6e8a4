"""Rows put through the function, and their results put where the batch has them."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch

from memograd._ambient._streams import read_streams, set_streams
from memograd._rows._compare import constants_differ
from memograd._rows._structure import Parsed, Unfit, parse
from memograd._share._sums import spread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from memograd._rows._classes import Piece
    from memograd._rows._structure import Column
    from memograd._share._trie import Ints


T = TypeVar("T")


class Computed(NamedTuple):
    """Results of rows.

    Attributes:
        leaves: for each column of the result a tensor (rows, ...).
        padded: rows that were computed besides.
        batches: in how many batches.
        seconds: that the function took.
    """

    leaves: list[Tensor]
    padded: int
    batches: int
    seconds: float


def compute(
    run: Callable[[Sequence[Column]], Any],
    columns: Sequence[Column],
    at: Ints,
    pieces: Sequence[Piece],
    frame: Parsed,
    dim: int,
) -> Computed:
    """Compute rows.

    Args:
        run: calls the function on columns.
        columns: the batch.
        at: (rows,) which rows of it.
        pieces: in which batches.
        frame: how results are put together.
        dim: where results have their rows.

    Raises:
        Unfit: the result is put together in another way, or the function is not one of its arguments after all.
    """
    streams = read_streams(("torch",))
    parts, seconds = timed(lambda: [_piece(run, columns, at, piece, frame, dim) for piece in pieces], columns)
    if read_streams(("torch",)) != streams:
        set_streams(streams)
        raise Unfit("it draws from a random stream")
    leaves = [part[0] if len(parts) == 1 else torch.cat(part) for part in zip(*parts, strict=True)]
    return Computed(leaves, sum(piece.size for piece in pieces) - len(at), len(pieces), seconds)


def timed(act: Callable[[], T], columns: Sequence[Column]) -> tuple[T, float]:
    """Do something with columns; give what it gives, and the seconds that it took, on whatever device."""
    _wait(columns)
    began = perf_counter()
    found = act()
    _wait(columns)
    return found, perf_counter() - began


def _wait(columns: Sequence[Column]) -> None:
    for column in columns:
        if not isinstance(column.data, list) and column.data.is_cuda:
            torch.cuda.synchronize(column.data.device)


def _piece(
    run: Callable[[Sequence[Column]], Any],
    columns: Sequence[Column],
    at: Ints,
    piece: Piece,
    frame: Parsed,
    dim: int,
) -> list[Tensor]:
    begin, stop, size = piece
    rows = [*at[begin:stop].tolist(), *[int(at[begin])] * (size - (stop - begin))]
    given = [column.taken(rows) for column in columns]
    versions = _versions(given)
    found = parse(run(given), dim)
    if _versions(given) != versions:
        raise Unfit("it writes into its arguments")
    if found.outline != frame.outline or constants_differ(found, frame) or found.size != size:
        raise Unfit("its result is put together in another way each time")
    return [column.data[: stop - begin] for column in found.columns if not isinstance(column.data, list)]


def _versions(columns: Sequence[Column]) -> list[int]:
    tensors = [column.data for column in columns if not isinstance(column.data, list)]
    return [tensor._version for tensor in tensors if not tensor.is_inference()]  # noqa: SLF001 - torch's only name


def spread_out(leaf: Tensor, group: Tensor) -> Tensor:
    """Give each row of a batch the result of its group; backward sums what comes back onto the group."""
    if not (leaf.requires_grad and leaf.is_floating_point()) or leaf.dim() == 1:
        return leaf.index_select(0, group)
    return spread(leaf.flatten(1), group).view(len(group), *leaf.shape[1:])


def assembled(here: Any, found: Sequence[Tensor], new: Sequence[Tensor], group: Ints) -> list[Tensor]:
    """Put results that were found and results that were computed into the order of the batch.

    Args:
        here: (rows,) which were found.
        found: their results, in order.
        new: results of the distinct rows that were computed.
        group: (rows that were not found,) which of those each is.
    """
    if not here.any():
        return [spread_out(leaf, torch.from_numpy(group).to(leaf.device)) for leaf in new]
    at, others = (torch.from_numpy(mask.nonzero()[0]) for mask in (here, ~here))
    made: list[Tensor] = []
    for old, leaf in zip(found, new, strict=True):
        whole = leaf.new_empty((len(here), *leaf.shape[1:]))
        whole.index_copy_(0, at.to(leaf.device), old)
        rows = leaf.index_select(0, torch.from_numpy(group).to(leaf.device))
        made.append(whole.index_copy_(0, others.to(leaf.device), rows))
    return made
