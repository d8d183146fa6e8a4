"""The trie against a dictionary of prefixes, which no one can get wrong."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch.nn.utils.rnn import pack_padded_sequence

from memograd._share._trie import Rows, build, chains, rerooted

WIDE = [-(2**63), -1, 0, 1, 255, 256, 65_536, 2**40, 2**63 - 1]


@st.composite
def batches(draw, empty=True):
    """Rows of keys, and which root each begins from (or None for one root)."""
    letters = draw(st.sampled_from([[7], [0, 1], [0, 1, 2, 3, 4], WIDE]))
    row = st.lists(st.sampled_from(letters), min_size=0 if empty else 1, max_size=7)
    rows = draw(st.lists(row, min_size=1, max_size=9))
    stem = draw(st.lists(st.sampled_from(letters), max_size=4))
    rows = [stem + row for row in rows]
    labels = st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows))
    return rows, draw(st.none() | labels)


def laid_out(rows):
    """Give rows as the trie takes them: the places, and the keys position by position."""
    places = Rows.of(np.array([len(row) for row in rows], np.int64))
    keys = [rows[r][t] for r, t in zip(places.rows, places.times, strict=True)]
    return places, np.array(keys, np.int64)


def built(rows, labels, **options):
    places, keys = laid_out(rows)
    return build(keys, places, None if labels is None else np.array(labels, np.int64), **options)


def prefixes(trie, rows, labels):
    """Give what every position stands for: its root's label, and the keys up to it."""
    labels = [0] * len(rows) if labels is None else labels
    places = zip(trie.rows.rows, trie.rows.times, strict=True)
    return [(labels[row], tuple(rows[row][: time + 1])) for row, time in places]


@given(batches())
@example(([[]], None))
@example(([[], [], []], [0, 1, 0]))
@example(([[1], [1]], [3, 0]))
def test_a_node_is_a_distinct_prefix_of_a_root(batch):
    rows, labels = batch
    trie = built(rows, labels)
    stands_for = prefixes(trie, rows, labels)
    of_node = [stands_for[position] for position in trie.first]
    assert len(trie) == len(set(of_node)) == len(set(stands_for))
    assert [of_node[node] for node in trie.node] == stands_for


@given(batches())
def test_a_parent_is_the_prefix_without_its_last_key(batch):
    rows, labels = batch
    trie = built(rows, labels)
    stands_for = prefixes(trie, rows, labels)
    of_node = [stands_for[position] for position in trie.first]
    for level in range(1, trie.levels):
        for node in range(trie.starts[level], trie.starts[level + 1]):
            root, prefix = of_node[node]
            assert of_node[trie.starts[level - 1] + trie.parent[node]] == (root, prefix[:-1])


@given(batches())
def test_the_first_level_hangs_on_its_roots(batch):
    rows, labels = batch
    trie = built(rows, labels)
    stands_for = prefixes(trie, rows, labels)
    labels = [0] * len(rows) if labels is None else labels
    assert [labels[trie.root_row[root]] for root in trie.root] == labels
    assert len(trie.root_row) == len(set(labels))
    for node in range(trie.starts[1] if trie.levels else 0):
        assert labels[trie.root_row[trie.parent[node]]] == stands_for[trie.first[node]][0]


@given(batches())
def test_multiplicity_counts_the_positions_of_a_node(batch):
    rows, labels = batch
    trie = built(rows, labels)
    stands_for = prefixes(trie, rows, labels)
    count = Counter(stands_for)
    assert trie.multiplicity.tolist() == [count[stands_for[position]] for position in trie.first]
    assert trie.multiplicity.sum() == trie.rows.steps
    assert trie.ratio == pytest.approx(sum(map(len, rows)) / max(len(count), 1))


@given(batches())
def test_last_is_the_node_of_the_whole_row(batch):
    rows, labels = batch
    trie = built(rows, labels)
    stands_for = prefixes(trie, rows, labels)
    for row, node in enumerate(trie.last):
        if rows[row]:
            assert stands_for[trie.first[node]][1] == tuple(rows[row])
        else:
            assert node == -1


@given(batches())
def test_nodes_are_counted_level_by_level(batch):
    rows, labels = batch
    trie = built(rows, labels)
    stands_for = prefixes(trie, rows, labels)
    depth = [len(stands_for[position][1]) for position in trie.first]
    assert depth == sorted(depth)
    assert trie.starts.tolist() == [sum(d <= level for d in depth) for level in range(trie.levels + 1)]
    assert trie.levels == max(map(len, rows))


@given(batches())
def test_where_nothing_branches_parents_are_the_first_nodes_before(batch):
    """NOTE [ Order of nodes ]: then a level reads a slice of the level before, and no gather is needed."""
    trie = built(*batch)
    for level in range(trie.levels):
        parent = trie.parent[trie.starts[level] : trie.starts[level + 1]].tolist()
        assert trie.straight[level] == (parent == list(range(len(parent))))
        if level and len(set(parent)) == len(parent):
            assert trie.straight[level]


@given(batches(), st.data())
def test_keys_after_depth_are_not_read(batch, data):
    rows, labels = batch
    whole = built(rows, labels)
    shared = [len(whole.node) and whole.multiplicity[whole.node[i]] > 1 for i in range(whole.rows.steps)]
    needed = max((int(t) + 1 for t, s in zip(whole.rows.times, shared, strict=True) if s), default=0)
    depth = data.draw(st.integers(needed + 1, needed + 3))
    noise = st.sampled_from(WIDE)
    noisy = [[*row[:depth], *(data.draw(noise) for _ in row[depth:])] for row in rows]
    cut = built(noisy, labels, depth=min(depth, whole.rows.horizon))
    assert np.array_equal(cut.multiplicity[cut.node], whole.multiplicity[whole.node])
    assert len(cut) == len(whole)


@given(batches())
def test_rows_that_share_nothing_make_a_chain_each(batch):
    rows, _ = batch
    places, _ = laid_out(rows)
    trie = chains(places, np.arange(len(rows)))
    assert len(trie) == places.steps
    assert np.array_equal(trie.node, np.arange(places.steps))
    assert np.array_equal(trie.first, trie.node)
    for node in range(len(trie)):
        row, time = places.rows[node], places.times[node]
        above = trie.starts[time - 1] + trie.parent[node] if time else None
        if above is None:
            assert trie.parent[node] == row
        else:
            assert (places.rows[above], places.times[above]) == (row, time - 1)


@given(batches(), st.data())
def test_other_roots_are_taken_where_rows_that_share_a_prefix_have_one_label(batch, data):
    """Then the trie is the one that is built with these labels; where they differ, there is none."""
    rows, _ = batch
    labels = data.draw(st.lists(st.integers(0, 2), min_size=len(rows), max_size=len(rows)))
    if data.draw(st.booleans()):  # by the first key, which rows that share a prefix share
        labels = [row[0] % 3 if row else label for row, label in zip(rows, labels, strict=True)]
    one = built(rows, None)
    fits = all(
        a[:1] != b[:1] or not a or x == y
        for a, x in zip(rows, labels, strict=True)
        for b, y in zip(rows, labels, strict=True)
    )
    moved = rerooted(one, np.array(labels, np.int64))
    assert (moved is not None) == fits
    if moved is not None:
        stands_for = prefixes(moved, rows, labels)
        assert len(moved) == len(built(rows, labels)) == len(set(stands_for))
        assert [labels[moved.root_row[root]] for root in moved.root] == labels
        for node in range(moved.starts[1] if moved.levels else 0):
            assert labels[moved.root_row[moved.parent[node]]] == stands_for[moved.first[node]][0]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_positions_are_counted_as_a_packed_sequence_does(lengths):
    table = torch.arange(len(lengths) * max(lengths)).view(len(lengths), -1)
    packed = pack_padded_sequence(table, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    places = Rows.of(np.array(lengths, np.int64))
    assert packed.data.tolist() == table[places.rows, places.times].tolist()
    assert packed.batch_sizes.tolist() == places.widths.tolist()
    assert packed.sorted_indices.tolist() == places.order.tolist()
    assert packed.unsorted_indices.tolist() == places.rank.tolist()


@given(batches())
def test_the_places_of_a_batch_agree_with_one_another(batch):
    rows, _ = batch
    places, keys = laid_out(rows)
    assert np.array_equal(places.at(places.rows, places.times), np.arange(places.steps))
    table = places.table(keys, fill=-5)
    for row, time in np.ndindex(table.shape):
        assert table[row, time] == (rows[row][time] if time < len(rows[row]) else -5)
    assert [keys[i] if i >= 0 else None for i in places.last] == [row[-1] if row else None for row in rows]


@given(batches())
def test_reading_from_the_end_twice_is_reading_from_the_start(batch):
    rows, _ = batch
    places, keys = laid_out(rows)
    flip = places.reversed()
    assert np.array_equal(flip[flip], np.arange(places.steps))
    assert np.array_equal(keys[flip], laid_out([row[::-1] for row in rows])[1])


def test_no_rows_make_no_nodes():
    trie = build(np.zeros(0, np.int64), Rows.of(np.zeros(0, np.int64)))
    assert (len(trie), trie.levels, trie.rows.steps, trie.last.size, trie.straight.size) == (0, 0, 0, 0, 0)


def test_a_large_batch_has_as_many_nodes_as_distinct_prefixes():
    """8,192 rows of 24 keys, against a set of prefixes."""
    ids = np.random.default_rng(0).integers(0, 5, (8192, 24))
    lengths = np.random.default_rng(1).integers(1, 25, 8192)
    places = Rows.of(lengths)
    trie = build(ids[places.rows, places.times], places)
    seen = {row[: t + 1].tobytes() for row, n in zip(ids, lengths, strict=True) for t in range(n)}
    assert len(trie) == len(seen)
