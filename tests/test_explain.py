"""What explain tells of a call: whether it is remembered, what it depends on, what it changes, what was said."""

from __future__ import annotations

import random

import pytest

from memograd import Memo, MemogradWarning

TABLE = [1, 2]


def test_a_call_is_remembered_once_it_was_made():
    f = Memo()(lambda x: x)
    assert not f.explain(1).remembered
    f(1)
    assert f.explain(1).remembered
    assert f.explain(x=1).key == "<lambda>(x=1)"
    assert str(f.explain(1)) == "<lambda>(x=1): remembered"


def test_what_the_code_reads_and_changes_is_named():
    log = []

    @Memo()
    def f(x):
        log.append(x)
        return x + TABLE[0]

    with pytest.warns(MemogradWarning, match="changes f:log"):
        f(1)
    explained = f.explain(1)
    assert (explained.reads, explained.effects) == (("TABLE",), ("f:log",))
    assert explained.said == ("f() changes f:log, which a remembered call does not repeat",)
    assert "reads: TABLE" in str(explained)


def test_the_streams_that_a_call_draws_from_are_named():
    f = Memo()(lambda x: random.random())
    f(1)
    assert f.explain(1).draws == ("random",)


def test_modes_are_shown_where_they_count():
    torch = pytest.importorskip("torch")
    assert Memo()(lambda x: x + 1).explain(1).modes == ""
    assert "grad True" in Memo()(lambda x: x + 1).explain(torch.ones(1)).modes


def test_a_call_without_a_key_is_explained_by_the_reason():
    f = Memo()(lambda x: x)
    explained = f.explain([iter([1])])
    assert not explained.remembered
    assert "args.x[0]" in explained.key
