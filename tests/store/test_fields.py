"""The words for what is known of an entry."""

from __future__ import annotations

import pytest

from memograd.store import About, Info, Memory
from memograd.store._disk._scan import ORDERS
from memograd.store._fields import ALIASES, ATTRIBUTES, SORTS, attribute, greatest

INFOS = [
    Info(bytes([n]), About(seconds=n * 7 % 5, created=n * 3 % 4), nbytes=n * 5 % 6, hits=n % 3, used=-n)
    for n in range(9)
]


def test_a_word_is_an_attribute():
    assert [attribute(word) for word in ("size", "saved", "seconds_saved", "created")] == [
        "nbytes", "saved", "saved", "created"
    ]  # fmt: skip
    assert not ALIASES.keys() & SORTS.keys()


@pytest.mark.parametrize("sort", ATTRIBUTES)
def test_the_greatest_come_first(sort):
    def value(info):
        return getattr(info.about if sort in {"seconds", "created"} else info, sort)

    values = sorted(map(value, INFOS), reverse=True)
    assert list(map(value, greatest(INFOS, sort))) == values
    assert list(map(value, greatest(INFOS, sort, 4))) == values[:4]


def test_every_store_sorts_by_the_same():
    assert set(ORDERS) == set(ATTRIBUTES)
    for sort in ATTRIBUTES:
        assert list(Memory("1MiB").scan(sort=sort)) == []


def test_what_nothing_is_sorted_by_is_refused():
    with pytest.raises(ValueError, match=r"got sort='beauty', expected one of 'saved', 'used', 'nbytes'"):
        greatest(INFOS, "beauty")
