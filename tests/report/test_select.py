"""Entries, chosen and sorted: by the words that people write, and as stores do."""

from __future__ import annotations

import time

import pytest

from memograd._report._filter import parse
from memograd._report._select import chosen, least_worth
from memograd.store import About, Entry, Memory
from memograd.store._evict import priority
from memograd.store._fields import ALIASES, SORTS


@pytest.fixture
def store():
    made = Memory("1GiB")
    now = time.time()
    for n in range(8):
        made.put(
            bytes([n]) * 8, Entry(About(seconds=float(n * 7 % 5), created=now - n * n % 11), [bytes(100 * (n * 3 % 7))])
        )
        for _ in range(n * 5 % 4):
            made.get(bytes([n]) * 8)
    return made


def value(info, word):
    return {
        "saved": info.hits * info.about.seconds, "used": info.used, "size": info.nbytes, "hits": info.hits,
        "seconds": info.about.seconds, "created": info.about.created,
    }[ALIASES.get(word, word)]  # fmt: skip


@pytest.mark.parametrize("word", [*SORTS, "seconds_saved"])
@pytest.mark.parametrize("limit", [None, 3])
def test_the_greatest_come_first_whether_a_store_sorts_or_a_filter(store, word, limit):
    expected = sorted((value(info, word) for info in store.infos()), reverse=True)[:limit]
    for test in (None, parse("hits>=0")):
        assert [value(info, word) for info in chosen(store, test, word, limit)] == expected


def test_what_goes_first_is_what_a_store_evicts_first(store):
    infos = list(store.infos())
    ranks = {info.key: priority(0.0, info.hits + 1, info.about.seconds, info.nbytes) for info in infos}
    gone = least_worth(store, 0)
    assert [ranks[info.key] for info in gone] == sorted(ranks.values())
    assert least_worth(store, store.nbytes) == []


def test_what_is_pinned_stays_whatever_the_room(store):
    store.pin(bytes([3]) * 8)
    assert bytes([3]) * 8 not in {info.key for info in least_worth(store, 0)}
