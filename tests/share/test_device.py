"""Equal rows are found where they are as they are found on the host."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_128_digest

from memograd._share import _device
from memograd._share._device import groups_on_device
from memograd._share._rows import digests_of, groups_of

TYPES = [torch.bool, torch.uint8, torch.int16, torch.int64, torch.bfloat16, torch.float32, torch.complex64]


def check(*columns):
    expected = groups_of(digests_of(columns, xxh3_128_digest))
    found = groups_on_device(columns)
    assert found.first.tolist() == expected.first.tolist()
    assert found.group.tolist() == expected.group.tolist()


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=20), st.sampled_from(TYPES))
@settings(deadline=None)
def test_rows_are_grouped_as_on_the_host(rows, dtype):
    table = torch.tensor(rows).to(dtype)
    check(table[:, 0].contiguous(), table[:, 1:])
    check(table.t().contiguous().t())


def test_bits_count_and_not_values():
    check(torch.tensor([0.0, -0.0, float("nan"), float("nan"), 1.0]))


@pytest.mark.parametrize("shape", [(1, 3), (64, 3, 17, 5), (300, 1)])
def test_rows_of_any_shape_are_read(shape):
    x = torch.randn(shape)
    check(torch.cat([x, x.flip(0)]))


def test_rows_that_differ_in_one_bit_anywhere_are_two():
    one = torch.randint(-(1 << 62), 1 << 62, (1, 40))
    flipped = [one ^ (1 << bit) * torch.eye(40, dtype=torch.int64)[at] for bit in range(63) for at in (0, 17, 39)]
    x = torch.cat([one, *flipped, one])
    found = groups_on_device([x])
    assert len(found.first) == len(x) - 1
    assert found.group[-1] == 0


def test_rows_without_numbers_are_left_to_others():
    assert groups_on_device([torch.zeros(4, 0)]) is None


def test_one_hash_of_two_rows_is_seen(monkeypatch):
    monkeypatch.setattr(_device, "hash_words", lambda words, factor: words[:, 0] * 0)
    assert groups_on_device([torch.arange(4)]) is None
    assert groups_on_device([torch.ones(4)]).group.tolist() == [0, 0, 0, 0]
