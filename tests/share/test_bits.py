"""Equal means equal to the bit, whatever the hash says."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memograd._share import _bits
from memograd._share._bits import exact_keys, trie_of
from memograd._share._trie import Rows

WORD = {torch.float64: torch.int64, torch.float32: torch.int32, torch.float16: torch.int16, torch.bfloat16: torch.int16}
SPECIAL = {
    torch.float64: [0, -(2**63), 1, 0x7FF0000000000000, 0x7FF8000000000000, 0x7FF8000000000001, 0x3FF0000000000000],
    torch.float32: [0, -(2**31), 1, 0x7F800000, 0x7FC00000, 0x7FC00001, 0x3F800000],
    torch.float16: [0, -(2**15), 1, 0x7C00, 0x7E00, 0x7E01, 0x3C00],
    torch.bfloat16: [0, -(2**15), 1, 0x7F80, 0x7FC0, 0x7FC1, 0x3F80],
}


def by_bits(bits, lengths=None, labels=None):
    """Give the number of each position's prefix, as a dictionary of prefixes numbers them."""
    rows = Rows.of(np.full(len(bits), bits.shape[1]) if lengths is None else lengths)
    names: dict[object, int] = {}
    labels = np.zeros(len(bits), np.int64) if labels is None else labels
    return rows, [
        names.setdefault((int(labels[r]), t, bits[r, : t + 1].tobytes()), len(names))
        for r, t in zip(rows.rows, rows.times, strict=True)
    ]


def same_partition(trie, numbers):
    """Say whether positions share a node exactly where they have one number."""
    pairs = set(zip(trie.node.tolist(), numbers, strict=True))
    return len(pairs) == len(trie) == len(set(numbers))


def trie_over(x, rows, labels=None):
    """Build the trie of a (B, T, E) tensor."""
    horizon = x.shape[1]
    return trie_of(x.reshape(-1, x.shape[-1]), rows.rows * horizon + rows.times, rows, labels)


@st.composite
def vectors(draw):
    """(B, T, E) floats of few and awkward bit patterns, and their lengths."""
    dtype = draw(st.sampled_from(list(WORD)))
    shape = draw(st.integers(1, 6)), draw(st.integers(1, 5)), draw(st.integers(1, 5))
    letters = draw(st.lists(st.sampled_from(SPECIAL[dtype]), min_size=1, max_size=4))
    seed = draw(st.integers(0, 2**16))
    bits = torch.from_numpy(np.random.default_rng(seed).choice(np.array(letters, np.int64), shape)).to(WORD[dtype])
    lengths = draw(st.lists(st.integers(0, shape[1]), min_size=shape[0], max_size=shape[0]))
    return bits.view(dtype), np.array(lengths, np.int64)


@given(vectors())
def test_positions_share_a_node_exactly_where_the_bits_so_far_are_equal(batch):
    x, lengths = batch
    rows, numbers = by_bits(x.view(WORD[x.dtype]).numpy(), lengths)
    assert same_partition(trie_over(x, rows), numbers)


@given(vectors(), st.data())
def test_rows_from_different_roots_share_nothing(batch, data):
    x, lengths = batch
    labels = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(x), max_size=len(x))), np.int64)
    rows, numbers = by_bits(x.view(WORD[x.dtype]).numpy(), lengths, labels)
    assert same_partition(trie_over(x, rows, labels), numbers)


@pytest.mark.parametrize("bits_kept", [0, 1, 2])
@given(batch=vectors())
def test_a_collision_never_merges_two_prefixes(bits_kept, batch):
    """A hash of nothing, or of two values, collides all the time; the trie stays that of the bits."""
    x, lengths = batch
    rows, numbers = by_bits(x.view(WORD[x.dtype]).numpy(), lengths)
    whole = _bits.hash_words
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_bits, "hash_words", lambda *args: whole(*args) & (2**bits_kept - 1))
        assert same_partition(trie_over(x, rows), numbers)


def test_rows_that_only_seem_to_share_everything_share_nothing(monkeypatch):
    x = torch.randn(50, 6, 3, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(_bits, "hash_words", lambda words, _factor: torch.zeros(len(words), dtype=torch.int64))
    assert len(trie_over(x, Rows.of(np.full(50, 6)))) == 300


def test_zero_and_minus_zero_are_not_equal():
    rows = Rows.of(np.array([1, 1]))
    assert len(trie_over(torch.tensor([[[0.0]], [[-0.0]]]), rows)) == 2


def test_a_nan_equals_itself_and_no_nan_of_another_payload():
    nan = torch.tensor([0x7FC00000, 0x7FC00000, 0x7FC00001], dtype=torch.int32).view(torch.float32)
    assert len(trie_over(nan.view(3, 1, 1), Rows.of(np.array([1, 1, 1])))) == 2


def few_distinct():
    """Give (4, 6, 3) values of which rows share prefixes."""
    g = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, generator=g)[torch.randint(0, 2, (4, 6), generator=g)]


def at_an_odd_offset(x):
    return torch.cat([x.new_zeros(1), x.flatten()])[1:].view(x.shape)


def inferred(x):
    with torch.inference_mode():
        return x.clone()


LAYOUTS = {
    "contiguous": lambda x: x,
    "time first in memory": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "features first in memory": lambda x: x.permute(2, 0, 1).contiguous().permute(1, 2, 0),
    "at an odd offset": at_an_odd_offset,
    "a slice of wider rows": lambda x: torch.cat([x[..., 1:], x, x], 2)[..., 2:5],
    "a negated view": lambda x: torch._neg_view(-x),
    "every second step": lambda x: torch.stack([x, torch.zeros_like(x)], 2).flatten(1, 2)[:, ::2],
    "requires grad": lambda x: x.clone().requires_grad_(),
    "made in inference mode": inferred,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", list(WORD))
def test_the_layout_in_memory_does_not_matter(layout, dtype):
    x = few_distinct().to(dtype)
    rows, numbers = by_bits(x.view(WORD[dtype]).numpy())
    assert same_partition(trie_over(LAYOUTS[layout](x), rows), numbers)


def test_an_expanded_row_is_one_row():
    x = torch.randn(1, 5, 3).expand(7, 5, 3)
    assert len(trie_over(x, Rows.of(np.full(7, 5)))) == 5


@pytest.mark.parametrize("dtype", [*WORD, torch.bool, torch.uint8, torch.int32, torch.complex64])
def test_exact_keys_number_rows_by_their_bits(dtype):
    x = torch.tensor([[0, 1], [1, 0], [0, 1], [0, 0], [1, 0]]).to(dtype)
    keys = exact_keys(x).tolist()
    assert [[a == b for b in keys] for a in keys] == [[torch.equal(a, b) for b in x] for a in x]


@given(vectors())
def test_exact_keys_are_equal_exactly_where_the_bits_are(batch):
    x = batch[0].flatten(0, 1)
    keys, bits = exact_keys(x), [row.tobytes() for row in x.view(WORD[x.dtype]).numpy()]
    assert len(set(zip(keys.tolist(), bits, strict=True))) == len(set(keys.tolist())) == len(set(bits))


def test_rows_of_no_columns_are_all_equal():
    assert exact_keys(torch.empty(3, 0)).tolist() == [0, 0, 0]


def test_no_random_stream_is_touched():
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    trie_over(torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(1)), Rows.of(np.full(4, 3)))
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_a_batch_that_shares_nothing_is_hashed_no_further_than_its_first_steps(monkeypatch):
    hashed = []
    whole = _bits.hash_words
    monkeypatch.setattr(_bits, "hash_words", lambda words, f: hashed.append(len(words)) or whole(words, f))
    x = torch.randn(64, 100, 4, generator=torch.Generator().manual_seed(0))
    assert len(trie_over(x, Rows.of(np.full(64, 100)))) == 6400
    assert sum(hashed) == 64


def test_large_vectors_are_hashed_block_by_block(monkeypatch):
    monkeypatch.setattr(_bits, "_BLOCK", 16)
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 9, generator=g)[torch.randint(0, 2, (30, 6), generator=g)]
    rows, numbers = by_bits(x.numpy())
    assert same_partition(trie_over(x, rows), numbers)
