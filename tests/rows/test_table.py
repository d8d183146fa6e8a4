"""Rows in memory."""

from __future__ import annotations

import torch

from memograd._rows._table import Table


def names(*numbers):
    return [bytes([n]) * 16 for n in numbers]


def values(*numbers):
    return [torch.tensor(numbers, dtype=torch.float32)[:, None].expand(len(numbers), 4).contiguous()]


def found(table, *numbers):
    asked = table.find(names(*numbers))
    rows = iter(asked.gather()[0][:, 0].tolist() if asked.here.any() else [])
    return [next(rows) if here else None for here in asked.here]


def test_rows_that_were_put_are_found_and_others_are_not():
    table = Table(10_000)
    assert found(table, 1, 2) == [None, None]
    assert table.put(names(1, 2), values(1, 2)) == 2
    assert found(table, 3, 2, 1, 2) == [None, 2, 1, 2]


def test_a_row_that_is_there_is_not_put_again():
    table = Table(10_000)
    table.put(names(1), values(1))
    assert table.put(names(1, 2), values(7, 2)) == 1
    assert found(table, 1, 2) == [1, 2]


def test_memory_grows_and_rows_stay():
    table = Table(1 << 20)
    for n in range(0, 250, 5):
        table.put(names(*range(n, n + 5)), values(*range(n, n + 5)))
    assert found(table, *range(250)) == list(range(250))


def test_what_was_gathered_does_not_change_with_what_is_put_or_dropped():
    table = Table(10_000)
    table.put(names(1, 2), values(1, 2))
    asked = table.find(names(1, 2))
    assert table.drop(names(1)[0])
    table.put(names(3), values(3))
    assert asked.gather()[0][:, 0].tolist() == [1, 2]
    assert found(table, 1, 2, 3) == [None, 2, 3]


def test_what_is_full_takes_no_more():
    table = Table(3 * (16 + 120))
    assert table.put(names(1, 2), values(1, 2)) == 2
    assert table.put(names(3, 4), values(3, 4)) == 1
    assert table.put(names(5), values(5)) == 0
    assert found(table, 1, 2, 3, 4, 5) == [1, 2, 3, None, None]


def test_what_is_full_of_rows_that_nobody_asks_for_begins_anew():
    table = Table(3 * (16 + 120))
    for n in range(20):
        table.put(names(n), values(n))
    assert found(table, 0) == [None]
    assert len(table) <= 3


def test_a_row_larger_than_the_memory_is_not_kept():
    table = Table(100)
    assert table.put(names(1), values(1)) == 0
    assert table.nbytes == 0


def test_rows_of_another_class_are_none_of_these():
    table = Table(10_000)
    table.settle(64)
    table.put(names(1), values(1))
    table.settle(64)
    assert found(table, 1) == [1]
    table.settle(32)
    assert found(table, 1) == [None]
