"""The results of one function in a store: what a failing store costs, and what is no use of a result."""

from __future__ import annotations

import pytest

from memograd import Memo
from memograd._errors import MemogradWarning


class Unlistable(dict):
    def __iter__(self):
        raise OSError("no list")


class Unremovable(dict):
    def pop(self, *_):
        raise OSError("read only")


def filled(store):
    f = Memo(store)(lambda x: [x])
    assert (f(1), f(2)) == ([1], [2])
    return f


def said(warned):
    return [str(one.message) for one in warned]


def test_a_store_that_cannot_be_listed_counts_and_clears_nothing_and_that_is_said_once():
    f = filled(Unlistable())
    with pytest.warns(MemogradWarning) as warned:
        assert [f.cache_info(), f.cache_clear(), f.cache_info()] == [(0, 2, None, 0), None, (0, 0, None, 0)]
    assert said(warned) == ["<lambda>(): could not list what is in the store: OSError('no list')"]
    assert f(1) == [1]


def test_a_store_from_which_nothing_can_be_taken_forgets_nothing_and_that_is_said_once():
    store = Unremovable()
    f = filled(store)
    with pytest.warns(MemogradWarning) as warned:
        assert [f.forget(1), f.cache_clear()] == [False, None]
    assert said(warned) == ["<lambda>(): could not take out of the store: OSError('read only')"]
    assert len(store) == 2
    assert f.cache_info() == (0, 0, None, 2)


def test_what_a_store_can_take_out_is_taken_out_whatever_else_it_cannot():
    class Partly(dict):
        def pop(self, key, *default):
            if key == kept:
                raise OSError("read only")
            return super().pop(key, *default)

    store = Partly()
    f = filled(store)
    kept = f.cache_key(1)
    with pytest.warns(MemogradWarning, match="could not take out of the store"):
        f.cache_clear()
    assert list(store) == [kept]


@pytest.mark.parametrize("store", [None, {}])
def test_asking_whether_a_result_is_there_is_no_use_of_it(store):
    f = Memo(store)(max_entries=2)(lambda x: x)
    f(1), f(2)
    assert f.cached(1)
    assert f.explain(1).remembered
    f(3)
    assert [f.cached(x) for x in (1, 2, 3)] == [False, True, True]


def test_asking_whether_a_result_is_there_leaves_the_order_of_a_memory_as_it_is():
    memo = Memo(max_bytes=10_000)
    f = memo(lambda x: "y" * 3000 + x)
    f("1"), f("2")
    assert f.cached("1")
    assert [key.parts["x"] for key in memo.store] == ["1", "2"]
