"""Filters of entries: what they mean, and what is said of those that mean nothing."""

from __future__ import annotations

import pytest

from memograd._report._filter import FilterError, parse
from memograd.store import About, Info

NOW = 1_000_000.0
ENTRY = Info(
    b"key",
    About(function="lab.embed", text="embed(x=1, lr=0.1)", seconds=2.0, created=NOW - 7200, tags=("draft", "big one")),
    nbytes=3_000_000, hits=4, used=NOW - 60,
)  # fmt: skip

TRUE = [
    "size>1MB", "size >= 3MB", "size=3000000", "size<3MiB", "SIZE > 2.5 mb".replace(" mb", "mb"), "size!=1",
    "seconds>1.5s", "seconds<=2000ms", "saved=8", "saved > 7s", "hits=4", "hits>3", "created>1h", "created<3h",
    "used<2m", "seconds_saved=8", "tags=draft", "used>=60s", "function=lab.embed",
    "function~EMBED", "text~'lr=0.1'", 'text~"x=1, lr"', "tag=draft", "tag='big one'",
    "tag~big", "tag!=other", "not pinned", "size>1MB and function~embed", "size>1GB or hits>1",
    "not size>1GB", "not (size>1GB or pinned)", "(((hits=4)))", "size>1GB and hits=4 or tag=draft",
    "tag=draft or hits=0 and size>1GB", "NOT pinned AND hits>0", "  hits = 4  ",
]  # fmt: skip
FALSE = [
    "size>3MB", "pinned", "hits!=4", "function=embed", "function~loss", "tag=other", "tag~small", "created>1d",
    "hits=4 and size>1GB", "not (hits=4 and tag=draft)", "text='embed'", "tag!=draft",
]  # fmt: skip


@pytest.mark.parametrize("text", TRUE)
def test_it_chooses(text):
    assert parse(text)(ENTRY, NOW) is True


@pytest.mark.parametrize("text", FALSE)
def test_it_does_not_choose(text):
    assert parse(text)(ENTRY, NOW) is False


WRONG = [
    ("", 0, "expected one of size"), ("sise>1", 0, "did you mean size?"), ("size", 4, "expected > < >="),
    ("size>", 5, "expected a value"), ("size>big", 5, "such as 1.5MB"), ("size>1MB and", 12, "expected one of"),
    ("size>1MB hits>1", 9, "expected `and`, `or` or the end"), ("(size>1", 7, "expected `)`"),
    ("hits>1)", 6, "got ')'"),
    ("created>5parsec", 8, "such as 0.5s"), ("size~1", 4, "is a number"), ("function>a", 8, "is text"),
    ("hits>1MB", 5, "such as 10"), ("hits>'", 5, "no part of a filter"), ("hits ! 3", 5, "no part of a filter"),
    ("and", 0, "expected one of"), ("__import__('os')", 0, "expected one of"), ("text~", 5, "expected a value"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "at", "said"), WRONG)
def test_what_cannot_be_read_is_shown_with_where(text, at, said):
    with pytest.raises(FilterError) as error:
        parse(text)
    first, *shown = str(error.value).splitlines()
    assert said in first
    assert shown == [f"  {text}", f"  {' ' * at}^"]


@pytest.mark.parametrize("text", ["(" * 5000 + "hits>1" + ")" * 5000, "not " * 5000 + "pinned"])
def test_deep_nesting_is_refused(text):
    with pytest.raises(FilterError, match="nested more than 50 deep"):
        parse(text)


def test_a_long_filter_is_read():
    assert parse(" or ".join(["hits>100"] * 5000 + ["hits=4"]))(ENTRY, NOW)
