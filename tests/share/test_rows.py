"""Which rows are equal: to the bit, in every column."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_128_digest

from memograd._share._rows import digests_of, groups_of, host, may_be_equal

TYPES = [
    torch.bool,
    torch.uint8,
    torch.int16,
    torch.int64,
    torch.bfloat16,
    torch.float16,
    torch.float64,
    torch.complex64,
    torch.float8_e4m3fn,
]


def digests(*columns):
    return digests_of(columns, xxh3_128_digest)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=20))
@settings(deadline=None)
def test_rows_are_grouped_as_python_does(rows):
    table = torch.tensor(rows)
    first, group = groups_of(digests(table[:, 0].contiguous(), table[:, 1:].contiguous()))
    assert [rows[k] for k in first] == list(dict.fromkeys(rows))
    assert [rows[first[g]] for g in group] == rows


@given(st.lists(st.text(max_size=3), min_size=1, max_size=8))
@settings(deadline=None)
def test_texts_are_rows(texts):
    assert len(set(digests(texts))) == len(set(texts))
    assert may_be_equal([texts]) or len(set(texts)) == len(texts)


@pytest.mark.parametrize("dtype", TYPES)
def test_rows_of_any_type_are_read(dtype):
    x = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]).to(dtype)
    one, two, three = digests(x)
    assert one == three != two
    assert may_be_equal([x])


def test_bits_count_and_not_values():
    one, two, three, four = digests(torch.tensor([0.0, -0.0, float("nan"), float("nan")]))
    assert one != two
    assert three == four


@pytest.mark.parametrize("view", [lambda x: x, lambda x: x.t().contiguous().t(), lambda x: x.repeat(1, 2)[:, :40]])
def test_a_layout_does_not_count(view):
    x = torch.randn(6, 40)
    assert digests(view(x)) == digests(x)


def test_that_all_rows_differ_is_said_only_where_they_do():
    x = torch.randn(100, 1000)
    assert not may_be_equal([x])
    y = x.clone()
    y[3] = y[77]
    assert may_be_equal([y])
    assert may_be_equal([torch.zeros(2, 3), ["a", "a"]])
    assert not may_be_equal([torch.zeros(2, 3), ["a", "b"]])


def test_a_tensor_that_was_read_can_still_be_resized():
    x = torch.randn(4, 4)
    digests(x)
    host(x)
    assert x.resize_(2, 2).shape == (2, 2)


def test_no_rows_have_no_digests():
    assert digests(torch.zeros(0, 3)) == []
    assert len(set(digests(torch.zeros(3, 0)))) == 1
