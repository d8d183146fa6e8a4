"""Which inputs of a batch are equal, to the bit.

Every position's vector is hashed to 64 bits on its device (multilinear hashing, Carter & Wegman 1979), positions with
equal hashes are taken for equal, and once the trie stands every merged position is compared with the one that stands
for it, bit by bit: a collision can cost time, never a wrong value. Only as many steps are hashed as two rows still
have in common, so a batch that shares nothing is known after its first steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from memograd._share._arrays import on
from memograd._share._trie import Rows, Trie, build

if TYPE_CHECKING:
    from memograd._share._trie import Ints

_WORD = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_BLOCK = 1 << 18  # words hashed at once, so that the products stay in cache


def trie_of(x: Tensor, place: Ints, rows: Rows, root: Ints | None) -> Trie:
    """Merge the common prefixes of rows of vectors.

    Args:
        x: (places, E) the vectors, of any dtype.
        place: (steps,) where in ``x`` each position's vector stands.
        rows: the positions.
        root: (B,) rows with different numbers share nothing.
    """
    words = _words(x)
    keys, depth = _hashes(words, place, rows, np.zeros(len(rows), np.int64) if root is None else root)
    trie = build(keys, rows, root, depth)
    if _confirmed(words, place, trie):
        return trie
    return build(exact_keys(words[on(x.device, place)]), rows, root)


def exact_keys(x: Tensor) -> Ints:
    """Number vectors so that equal numbers mean equal bits; slower than hashing and never wrong.

    Args:
        x: (n, ...) vectors of any dtype.
    """
    if not x.numel():
        return np.zeros(len(x), np.int64)
    table = _words(x.detach().reshape(len(x), -1)).cpu().contiguous().numpy()
    _, numbers = np.unique(table.view(f"V{table.shape[1] * table.itemsize}")[:, 0], return_inverse=True)
    return numbers.reshape(-1).astype(np.int64)


def _words(x: Tensor) -> Tensor:
    """View the vectors' bits as integers, the widest that fit."""
    x = x.detach()
    if x.dtype == torch.bool:
        x = x.view(torch.uint8)
    if x.is_complex():
        x = torch.view_as_real(x.resolve_conj()).flatten(1)
    x = x.resolve_neg().contiguous()
    for size in (8, 4, 2):
        if x.shape[-1] * x.element_size() % size == 0 and x.storage_offset() * x.element_size() % size == 0:
            return x.view(_WORD[size])
    return x.view(_WORD[x.element_size()])


def _hashes(words: Tensor, place: Ints, rows: Rows, root: Ints) -> tuple[Ints, int]:
    """Hash the positions until no two rows agree so far; give the hashes and how many steps they cover."""
    factor = _odd(words.shape[1])
    keys = np.zeros(rows.steps, np.int64)
    prefix = root.astype(np.int64)[rows.order]
    begin, end = 0, 1
    while begin < rows.horizon:
        end = min(end, rows.horizon)
        a, b = rows.starts[begin], rows.starts[end]
        keys[a:b] = _hash(words, place[a:b], factor.to(words.device)).cpu().numpy()
        for t in range(begin, end):
            alive = rows.widths[t]
            with np.errstate(over="ignore"):
                prefix[:alive] = (prefix[:alive] * np.int64(6364136223846793005)) ^ keys[rows.starts[t] :][:alive]
        alive = rows.widths[end] if end < rows.horizon else 0
        if len(np.unique(prefix[:alive])) == alive:
            return keys, end
        begin, end = end, 2 * end + 1
    return keys, rows.horizon


def _odd(n: int) -> Tensor:
    """Fixed odd 64-bit factors; the program's random streams are left alone."""
    numbers = np.random.default_rng(0x6D656D6F).integers(-(2**63), 2**63 - 1, n, dtype=np.int64)
    return torch.from_numpy(numbers | 1)


def _hash(words: Tensor, place: Ints, factor: Tensor) -> Tensor:
    out = torch.empty(len(place), dtype=torch.int64, device=words.device)
    at = on(words.device, place)
    step = max(1, _BLOCK // max(words.shape[1], 1))
    for i in range(0, len(place), step):
        block = words.index_select(0, at[i : i + step]).to(torch.int64)
        out[i : i + step] = block.mul_(factor).sum(1)
    return out.bitwise_xor(out >> 32)


def _confirmed(words: Tensor, place: Ints, trie: Trie) -> bool:
    """Compare the bits of every merged position with those of the one that stands for it."""
    stands = trie.first[trie.node]
    merged = np.flatnonzero(stands != np.arange(len(stands)))
    ours = on(words.device, place[merged])
    theirs = on(words.device, place[stands[merged]])
    step = max(1, _BLOCK // max(words.shape[1], 1))
    for i in range(0, len(merged), step):
        if not torch.equal(words.index_select(0, ours[i : i + step]), words.index_select(0, theirs[i : i + step])):
            return False
    return True
