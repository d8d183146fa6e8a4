"""Rows that are made up, of the kind of those at hand: what may stand beside a row in a batch.

Numbers are those of the batch in another order, so that identifiers stay identifiers, and masks masks; floating-point
numbers are scaled besides, so that an average or a maximum over the batch is another one.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memograd._rows._structure import Column


NOTHING = 3
_GREAT = 50, 1e4, 50  # how much greater one of each turn's companions is than its batch


def companions(columns: Sequence[Column], size: int, turn: int) -> list[Column]:
    """Make up so many rows; another turn gives others, and the turn `NOTHING` some that are zero and some that are NaN.

    Args:
        columns: rows at hand, one at least.
        size: how many to make.
        turn: a number from 0 on.
    """
    make = _nothing if turn == NOTHING else _made_up
    return [make(column.taken([k % len(column.data) for k in range(size)]), turn) for column in columns]


def _nothing(column: Column, turn: int) -> Column:
    data = column.data
    if not isinstance(data, Tensor):
        return _made_up(column, turn)
    made = torch.zeros_like(data)
    if made.is_floating_point() and made.dtype.itemsize > 1:
        made[1::2] = float("nan")
    return column._replace(data=made)


def padded(columns: Sequence[Column]) -> list[Column]:
    """Give rows as they are where a text, or a mask, is half as long: integers and flags end in zeros from there on."""
    return [_half(column) for column in columns]


def _half(column: Column) -> Column:
    data = column.data
    if not isinstance(data, Tensor) or data.dim() < 2 or not _may_be_mask(data):
        return column
    half = data.clone()
    half[..., data.shape[-1] // 2 :] = 0
    return column._replace(data=half)


def _may_be_mask(data: Tensor) -> bool:
    """Tell whether numbers may be flags, or stand for something, so that 0 may stand for nothing."""
    if data.is_floating_point() or data.is_complex():
        return bool(((data == 0) | (data == 1)).all())
    return True


def _made_up(column: Column, turn: int) -> Column:
    data = column.data
    if not isinstance(data, Tensor):
        return column._replace(data=_texts(data, turn))
    flat = data.reshape(-1)
    numbers = torch.Generator().manual_seed(turn)
    order = torch.randperm(len(flat), generator=numbers).to(flat.device)
    flat = flat.index_select(0, order)
    if flat.is_floating_point() and flat.dtype.itemsize > 1:
        scale = torch.empty(len(data)).uniform_(0.5, 2.0, generator=numbers)
        scale[-1:] *= _GREAT[turn % len(_GREAT)]  # for what looks at the greatest number, or limits it
        scale = scale.to(flat)
        return column._replace(data=flat.view(data.shape) * scale.view(-1, *[1] * (data.dim() - 1)))
    return column._replace(data=flat.view(data.shape))


def _texts(texts: Sequence[str], turn: int) -> list[str]:
    """Put words in another order; in every other turn there are fewer, or more, for what pads to the longest."""
    chance = random.Random(turn)  # noqa: S311 - no secret
    made = [chance.sample(words := text.split(), len(words)) for text in texts]
    return [" ".join(words[:1] if turn % 2 == 0 else 3 * words) for words in made]


def mixed(companions: Sequence[Column], own: Sequence[Column], at: Sequence[int]) -> list[Column]:
    """Put own rows in the places `at` among companions."""
    return [_put(company, column, at) for company, column in zip(companions, own, strict=True)]


def _put(company: Column, own: Column, at: Sequence[int]) -> Column:
    if not (isinstance(company.data, Tensor) and isinstance(own.data, Tensor)):
        texts = list(company.data)
        for place, text in zip(at, own.data, strict=True):
            texts[place] = text
        return company._replace(data=texts)
    index = torch.tensor(at, device=company.data.device)
    return company._replace(data=company.data.index_copy(0, index, own.data))
