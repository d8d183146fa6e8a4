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

from memograd._share._arrays import off, on
from memograd._share._trie import Rows, Trie, build

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memograd._share._trie import Ints

_WORD = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_BLOCK = 1 << 19  # words looked at at once: enough to share among threads, few beside the batch


def trie_of(x: Tensor, place: Ints, rows: Rows, root: Ints | None) -> Trie:
    """Merge the common prefixes of rows of vectors.

    Args:
        x: (places, E) the vectors, of any dtype.
        place: (steps,) where in ``x`` each position's vector stands.
        rows: the positions.
        root: (B,) rows with different numbers share nothing.
    """
    words = words_of(x)
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
    table = off(words_of(x.detach().reshape(len(x), -1)))
    _, numbers = np.unique(table.view(f"V{table.shape[1] * table.itemsize}")[:, 0], return_inverse=True)
    return numbers.reshape(-1).astype(np.int64)


def words_of(x: Tensor) -> Tensor:
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
    factor = odd(words.shape[1]).to(words.device)
    weight = odd(rows.horizon).numpy()
    keys = np.zeros(rows.steps, np.int64)
    prefix = root.astype(np.int64)
    begin, end = 0, 1
    while begin < rows.horizon:
        end = min(end, rows.horizon)
        if 2 * end > rows.horizon > 8:  # so far that all of it, read in order, is sooner done than a part is gathered
            return hash_words(words, factor).cpu().numpy()[place], rows.horizon
        a, b = rows.starts[begin], rows.starts[end]
        keys[a:b] = hash_words(words.index_select(0, on(words.device, place[a:b])), factor).cpu().numpy()
        np.add.at(prefix, rows.rows[a:b], keys[a:b] * weight[rows.times[a:b]])  # wraps, as hashes do
        alive = prefix[rows.lengths > end]
        if len(np.unique(alive)) == len(alive):
            return keys, end
        begin, end = end, 2 * end + 1
    return keys, rows.horizon


def odd(n: int) -> Tensor:
    """Fixed odd 64-bit factors; the program's random streams are left alone."""
    numbers = np.random.default_rng(0x6D656D6F).integers(-(2**63), 2**63 - 1, n, dtype=np.int64)
    return torch.from_numpy(numbers | 1)


def hash_words(words: Tensor, factor: Tensor) -> Tensor:
    """Hash each row of words to 64 bits, on their device."""
    blocks = [block.to(torch.int64) for _, block in _blocks(words)]
    # CUDA multiplies no matrices of integers.
    sums = [(block * factor).sum(1) if block.is_cuda else block.mv(factor) for block in blocks]
    out = torch.cat(sums) if sums else factor.new_empty(0)
    return out.bitwise_xor_(out >> 32)


def _confirmed(words: Tensor, place: Ints, trie: Trie) -> bool:
    """Compare the bits of every position with those of the one that stands for it."""
    stands = np.arange(len(words))
    stands[place] = place[trie.first[trie.node]]
    theirs = on(words.device, stands)
    copy = words.new_empty(_rows_of_a_block(words), words.shape[1])  # one for all: fresh memory is slow at first touch
    return all(
        torch.equal(block, torch.index_select(words, 0, theirs[i : i + len(block)], out=copy[: len(block)]))
        for i, block in _blocks(words)
    )


def _blocks(words: Tensor) -> Iterator[tuple[int, Tensor]]:
    step = _rows_of_a_block(words)
    return ((i, words[i : i + step]) for i in range(0, len(words), step))


def _rows_of_a_block(words: Tensor) -> int:
    return min(len(words), max(1, _BLOCK // max(words.shape[1], 1))) or 1
