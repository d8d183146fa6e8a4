"""Sizes of batches, and how rows are cut into batches of sizes that are members of a class."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memograd._rows._classes import anchor_for, anchors_after, ladder, planned


def test_the_sizes_that_are_tried():
    sizes = sorted({ladder(n) for n in range(1, 65)})
    assert sizes == [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64]


@given(st.integers(1, 100_000))
@settings(deadline=None)
def test_no_more_than_a_quarter_is_padded(n):
    assert n <= ladder(n) <= 1.25 * n
    assert ladder(ladder(n)) == ladder(n)


@pytest.mark.parametrize(("work", "anchor"), [(0, 128), (1 << 20, 128), (1 << 28, 128), (1 << 30, 16)])
def test_a_class_is_named_after_what_a_row_takes(work, anchor):
    assert anchor_for(work) == anchor


def test_where_no_size_stands_rows_are_computed_one_by_one():
    assert anchors_after(64)[-1] == 1
    assert [piece.size for piece in planned(3, 1, lambda size: size == 1)] == [1, 1, 1]


@given(st.integers(1, 3000), st.sampled_from([1, 16, 32, 64, 128]), st.integers(0, 10), st.integers(0, 3000))
@settings(deadline=None)
def test_plans_hold_every_row_once_in_sizes_of_the_class(rows, anchor, least, most):
    def member(size):
        return size == anchor or least * 10 <= size <= most

    pieces = planned(rows, anchor, member)
    assert [piece.begin for piece in pieces] == [0, *[piece.stop for piece in pieces[:-1]]]
    assert pieces[-1].stop == rows
    assert all(member(piece.size) and 0 < piece.stop - piece.begin <= piece.size for piece in pieces)
