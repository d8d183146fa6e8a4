"""What to keep, on simulated requests: the memory tier itself against LRU."""

from __future__ import annotations

import random
from collections import OrderedDict

from memograd.store import About, Entry, Memory
from memograd.store._evict import Family, priority
from memograd.store._memory import OVERHEAD


def test_priority_is_seconds_saved_per_byte_above_the_clock():
    assert priority(0.0, 3, 2.0, 100) == 0.06
    assert priority(5.0, 3, 2.0, 100) == 5.06


def test_of_what_a_slower_store_has_the_reading_counts():
    assert priority(0.0, 1, 2.0, 100, read=0.5) == 0.005
    assert priority(0.0, 1, 0.1, 100, read=0.5) == 0.001


def test_no_number_divides_by_zero():
    assert priority(0.0, 0, 0.0, 0) > 0


def test_a_family_is_forgotten_with_its_members():
    family = Family()
    family.add(b"b", b"a")
    family.add(b"c", b"b")
    assert family.lose(b"b", b"a", 1.0) == [b"c"]
    family.keep(b"b")
    family.keep(b"c")
    assert (family._children, family._parents) == ({}, {})


def test_those_that_went_are_remembered_up_to_a_number(monkeypatch):
    monkeypatch.setattr("memograd.store._evict.GONE", 3)
    family = Family()
    for n in range(10):
        family.lose(b"%d" % n, None, 1.0)
    assert list(family._gone) == [b"7", b"8", b"9"]


def requests(count, things, seed):
    """Ask for results with costs over six orders of magnitude and sizes over two."""
    draw = random.Random(seed)
    seconds = [10 ** draw.gauss(0, 1) for _ in range(things)]
    nbytes = [int(10 ** draw.uniform(2, 4)) for _ in range(things)]
    weights = [1 / (rank + 1) ** 0.8 for rank in range(things)]
    return draw.choices(range(things), weights, k=count), seconds, nbytes


def saved_by_lru(asked, seconds, nbytes, room):
    there, held, saved = OrderedDict(), 0, 0.0
    for thing in asked:
        if thing in there:
            there.move_to_end(thing)
            saved += seconds[thing]
            continue
        there[thing] = None
        held += nbytes[thing] + OVERHEAD
        while held > room:
            held -= nbytes[there.popitem(last=False)[0]] + OVERHEAD
    return saved


def saved_by_memory(asked, seconds, nbytes, room):
    store, saved = Memory(room), 0.0
    for thing in asked:
        key = b"%d" % thing
        if store.get(key) is not None:
            saved += seconds[thing]
        else:
            store.put(key, Entry(About(seconds=seconds[thing]), [bytes(nbytes[thing])]))
    return saved


def test_it_saves_twice_the_seconds_of_lru_in_the_same_bytes():
    asked, seconds, nbytes = requests(20_000, 3_000, seed=0)
    room = sum(nbytes) // 50 + 60 * OVERHEAD
    assert saved_by_memory(asked, seconds, nbytes, room) > 2 * saved_by_lru(asked, seconds, nbytes, room)
