"""Which rows of a batch are equal, found where the batch is: hashed on its device, and confirmed to the bit there.

What comes to the host is a number a row. That two rows are equal is not concluded from their hashes, but seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from memograd._share._arrays import on
from memograd._share._bits import hash_words, odd, words_of
from memograd._share._rows import Groups

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


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
    hashes = torch.stack([_hashed(each) * (2 * k + 1) for k, each in enumerate(words)]).sum(0)
    _, at, inverse = np.unique(hashes.cpu().numpy(), return_index=True, return_inverse=True)
    order = np.argsort(at)
    number = np.empty_like(order)
    number[order] = np.arange(len(order))
    groups = Groups(at[order], number[inverse])
    stands = on(hashes.device, groups.first[groups.group])
    return groups if all(torch.equal(each, each.index_select(0, stands)) for each in words) else None


def _hashed(words: Tensor) -> Tensor:
    whole = words.to(torch.int64)
    # Sums of products say little of the highest bits, and those of two rows may differ in their signs alone.
    return hash_words(whole ^ (whole >> 32), odd(words.shape[1]).to(words.device))
