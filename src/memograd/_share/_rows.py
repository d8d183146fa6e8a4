"""Which rows of a batch are equal: a digest of 128 bits for each row, and one group for each digest.

Rows are columns that share their first dimension: a row's bytes are those of every column, one after the other. That
no two rows are equal is mostly seen from a few words of each, at a hundredth of the cost: rows that differ in those
differ (RecD finds duplicates where data is stored; here they are found where it is used).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from memograd._share._trie import Ints

    Hash = Callable[[Any], bytes]

_LOOK = 8  # elements of each column's rows that are looked at first
_KNOWN = (torch.float16, torch.float32, torch.float64)
# Fixed odd factors; the program's random streams are left alone.
_FACTORS = np.random.default_rng(0x726F7773).integers(1, 2**62, _LOOK, dtype=np.int64) | 1


class Groups(NamedTuple):
    """Rows by what they hold.

    Attributes:
        first: (groups,) the first row of each group, in the order of the batch.
        group: (rows,) the group of each row.
    """

    first: Ints
    group: Ints


def groups_of(names: Sequence[bytes]) -> Groups:
    """Group rows with equal names, numbered in the order of their first rows."""
    number: dict[bytes, int] = {}
    group = np.fromiter((number.setdefault(name, len(number)) for name in names), np.int64, len(names))
    first = np.zeros(len(number), np.int64)
    first[group[::-1]] = np.arange(len(names) - 1, -1, -1)
    return Groups(first, group)


def digests_of(columns: Sequence[Tensor | Sequence[str]], hash: Hash) -> list[bytes]:  # noqa: A002 - it is what it is
    """Digest the rows of columns that are equally long.

    Args:
        columns: tensors (rows, ...) on any device, or texts.
        hash: gives the digest of bytes.
    """
    parts = [_bytes_of(column) for column in columns]
    if len(parts) == 1:
        return list(map(hash, parts[0]))
    if all(isinstance(column, Tensor) for column in columns):
        together: Any = np.concatenate(parts, axis=1)
        return list(map(hash, together))
    # Texts have lengths of their own: each row's parts are digested, then the digests together.
    return [hash(b"".join(map(hash, row))) for row in zip(*parts, strict=True)]


def may_be_equal(columns: Sequence[Tensor | Sequence[str]]) -> bool:
    """Tell whether rows may be equal, by a few words of each; False means that all of them differ."""
    seen: Any = sum(_looked_at(column) if isinstance(column, Tensor) else _hashes_of(column) for column in columns)
    mixed: list[int] = seen.tolist()
    return len(set(mixed)) < len(mixed)


def _hashes_of(texts: Sequence[str]) -> Any:
    return np.fromiter(map(hash, texts), np.int64, len(texts)) >> 1  # of this process, as far as they go


def _looked_at(column: Tensor) -> Any:
    """Mix a few elements of every row into one number."""
    rows = column.detach().flatten(1) if column.dim() > 1 else column.detach().unsqueeze(1)
    if not rows.shape[1] or rows.is_complex():
        return np.zeros(len(rows), np.int64)
    few = host(rows.index_select(1, _places(rows.shape[1]).to(rows.device)))
    words = few.view(f"i{few.itemsize}").astype(np.int64)
    return words @ _FACTORS[: words.shape[1]]


@cache
def _places(width: int) -> Tensor:
    at = range(width) if width <= _LOOK else np.random.default_rng(width).integers(0, width, _LOOK)
    return torch.tensor(list(at))


def _bytes_of(column: Tensor | Sequence[str]) -> Any:
    """Give the bytes of each row: an array (rows, bytes), or a list."""
    if not isinstance(column, Tensor):
        return [text.encode("utf-8", "surrogatepass") for text in column]
    if not column.numel():
        return np.zeros((len(column), 0), np.uint8)
    return host(bits_of(column).view(len(column), -1))


def bits_of(tensor: Tensor) -> Tensor:
    """Give the bytes of a tensor, one after the other in the order of its elements."""
    flat = tensor.detach().resolve_conj().resolve_neg().contiguous().view(-1)
    flat = torch.view_as_real(flat).view(-1) if flat.is_complex() else flat
    # Of one element alone the stride may be anything.
    return (flat if flat.stride(0) == 1 else flat.clone(memory_format=torch.contiguous_format)).view(torch.uint8)


def host(tensor: Tensor) -> Any:
    """Give the array that shares a tensor's memory, or has a copy of it from another device.

    Types that numpy has no name for come as integers of their size.
    """
    tensor = tensor.detach()  # an array that torch lends by `numpy()` would be the end of `resize_` for the tensor
    if tensor.is_floating_point() and tensor.dtype not in _KNOWN:
        tensor = tensor.view(torch.int16 if tensor.element_size() == 2 else torch.uint8)
    return tensor.cpu().numpy()
