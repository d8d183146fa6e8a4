"""Which rows of a batch are equal, found where the batch is: hashed on its device, and confirmed to the bit there.

What comes to the host is the group of each row. That two rows are equal is not concluded from their hashes, but seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from memograd._share._bits import hash_words, odd, words_of
from memograd._share._rows import Groups

if TYPE_CHECKING:
    from collections.abc import Sequence


def groups_on_device(columns: Sequence[Tensor]) -> Groups | None:
    """Group equal rows, numbered in the order of their first rows.

    Args:
        columns: tensors (rows, ...), all on one device.

    Returns:
        The groups; None where two rows that differ have one hash, so that others have to tell.
    """
    words = [words_of(column.reshape(len(column), -1)) for column in columns if column.numel()]
    if not words:
        return None
    # Columns that are equal to each other are not to cancel out.
    hashes = sum(_hashed(each) * (2 * k + 1) for k, each in enumerate(words))
    _, group = cast("tuple[Tensor, Tensor]", torch.unique(hashes, return_inverse=True))
    rows = torch.arange(len(group), device=group.device)
    first = torch.full_like(rows, len(rows)).scatter_reduce(0, group, rows, "amin")
    first = first[first < len(rows)]
    order = first.argsort()
    number = torch.empty_like(order).index_copy_(0, order, torch.arange(len(order), device=order.device))
    first, group = first[order], number[group]
    if not all(torch.equal(each, each.index_select(0, first[group])) for each in words):
        return None
    return Groups(first.cpu().numpy(), group.cpu().numpy())


def _hashed(words: Tensor) -> Tensor:
    whole = words.to(torch.int64)
    # Sums of products say little of the highest bits, and those of two rows may differ in their signs alone.
    return hash_words(whole ^ (whole >> 32), odd(words.shape[1]).to(words.device))
