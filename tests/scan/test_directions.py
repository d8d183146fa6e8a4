"""Which way a layer reads its rows, and in which stretches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memograd._scan._directions import Direction, suffixes, whole_rows
from memograd._scan._straight import stretches
from memograd._share._trie import Rows, build

ROWS = st.lists(st.lists(st.integers(0, 1), max_size=6), min_size=1, max_size=8)


@st.composite
def batches(draw):
    """Rows of keys with labels of their first states, as places, keys and roots."""
    rows = draw(ROWS)
    labels = draw(st.lists(st.integers(0, 1), min_size=len(rows), max_size=len(rows)))
    places = Rows.of(np.array([len(row) for row in rows], np.int64))
    keys = np.array([rows[r][t] for r, t in zip(places.rows, places.times, strict=True)], np.int64)
    return rows, labels, places, keys


def same_partition(numbers, names):
    return len(set(zip(numbers.tolist(), names, strict=True))) == len(set(numbers.tolist())) == len(set(names))


@given(batches())
def test_a_suffix_is_shared_by_the_rows_that_end_in_it(batch):
    rows, labels, places, keys = batch
    trie, flip = suffixes(keys, places, np.array(labels, np.int64))
    ends_in = [
        (labels[row], tuple(rows[row][len(rows[row]) - 1 - time :]))
        for row, time in zip(places.rows, places.times, strict=True)
    ]
    assert same_partition(trie.node, ends_in)
    assert np.array_equal(places.rows[flip], places.rows)
    assert all(places.times[flip] == [len(rows[row]) - 1 for row in places.rows] - places.times)


@given(batches())
def test_behind_both_directions_equal_rows_are_shared_and_nothing_else(batch):
    rows, labels, places, keys = batch
    both = whole_rows(build(keys, places, np.array(labels, np.int64)))
    step_of = [(labels[row], tuple(rows[row]), time) for row, time in zip(places.rows, places.times, strict=True)]
    assert same_partition(both.node, step_of)


@st.composite
def prompted(draw):
    """Rows that share long stretches, branch, and end."""
    parts = [
        st.lists(st.integers(0, 1), min_size=n, max_size=n) for n in draw(st.lists(st.integers(1, 12), max_size=3))
    ]
    stems = [draw(part) for part in parts]
    rows = []
    for _ in range(draw(st.integers(1, 5))):
        cut = draw(st.integers(0, len(stems)))
        tail = draw(st.lists(st.integers(0, 1), max_size=12))
        rows.append([key for stem in stems[:cut] for key in stem] + tail)
    places = Rows.of(np.array([len(row) for row in rows], np.int64))
    keys = np.array([rows[r][t] for r, t in zip(places.rows, places.times, strict=True)], np.int64)
    return build(keys, places)


@given(prompted())
def test_stretches_cover_every_level_once_and_in_order(trie):
    found = list(stretches(Direction.of(trie), True))
    assert [begin for begin, _, _ in found] == [0, *(stop for _, stop, _ in found[:-1])]
    assert found[-1][1] == trie.levels


@given(prompted())
def test_in_a_straight_stretch_every_node_has_one_child_and_no_row_ends_within(trie):
    ends = set(trie.last[trie.last >= 0].tolist())
    for begin, stop, straight in stretches(Direction.of(trie), True):
        for level in range(begin + 1, stop) if straight else ():
            a, b, c = trie.starts[level - 1 : level + 2]
            assert trie.parent[b:c].tolist() == list(range(b - a))
            assert not ends & set(range(a, b))


def test_a_long_prompt_is_a_straight_stretch():
    rows = Rows.of(np.full(3, 30))
    keys = np.where(rows.times < 20, 0, rows.rows + 1)
    found = list(stretches(Direction.of(build(keys, rows)), True))
    assert found == [(0, 20, True), (20, 30, True)]


def test_without_a_fused_kernel_there_is_one_stretch_of_own_steps():
    rows = Rows.of(np.full(3, 30))
    assert list(stretches(Direction.of(build(rows.times, rows)), False)) == [(0, 30, False)]


@pytest.mark.parametrize("begin", [0, 1, 3])
def test_a_range_of_levels_gives_out_its_last_nodes_and_those_at_which_rows_end(begin):
    rows = Rows.of(np.array([6, 4, 2, 1]))
    trie = build(rows.rows, rows)
    levels = Direction.of(trie, torch.device("cpu")).levels(None, begin, 5)
    ends = {(level, node) for level, node in zip(rows.lengths - 1, trie.last, strict=True) if begin <= level < 5}
    last = {(4, node) for node in range(trie.starts[4], trie.starts[5])}
    assert set((levels.ends.numpy() + trie.starts[begin]).tolist()) == {node for _, node in ends | last}
