"""Entries in memory: what fits, what goes, and what is said of it. The rest is in the contract."""

from __future__ import annotations

import random

import pytest

from memograd import _events
from memograd.store import About, Entry, Memory
from memograd.store._memory import OVERHEAD
from memograd.testing import FakeClock

SIZE = 1000


def entry(seconds=1.0, nbytes=SIZE, **facts):
    return Entry(About(seconds=seconds, **facts), [bytes(nbytes)])


def room_for(count, nbytes=SIZE, **options):
    return Memory(count * (nbytes + OVERHEAD), **options)


@pytest.fixture
def told():
    seen = []
    end = _events.subscribe(seen.append)
    yield seen
    end()


def keys(store):
    return {info.key for info in store.infos()}


@pytest.mark.parametrize(("said", "meant"), [(10, 10), ("2GiB", 2 << 30), ("1.5 MB", 1_500_000), ("64k", 64_000)])
def test_sizes_are_bytes_or_text(said, meant):
    assert Memory(said).max_bytes == meant


@pytest.mark.parametrize("said", [0, -1, "many", "", "5 parsecs", "-2GiB"])
def test_a_size_that_is_none_is_refused_with_what_to_write(said):
    with pytest.raises(ValueError, match=r'max_bytes got .*, expected bytes .* write max_bytes="2GiB"'):
        Memory(said)


@pytest.mark.parametrize("said", [True, 2.5, [1]])
def test_a_size_of_another_type_is_refused(said):
    with pytest.raises(TypeError, match="max_bytes got"):
        Memory(said)


def test_the_default_size_is_a_quarter_of_what_the_process_may_use():
    from memograd.store._limit import memory_limit

    assert Memory().max_bytes == memory_limit() // 4


def test_the_limit_holds_after_every_put():
    draw, store = random.Random(0), Memory(50_000)
    for n in range(2000):
        store.put(b"%d" % draw.randrange(300), entry(10 ** draw.uniform(-3, 3), draw.randrange(1, 20_000)))
        assert store.nbytes <= 50_000, n
        assert store.nbytes == sum(info.nbytes for info in store.infos())


def test_what_saves_the_least_seconds_per_byte_goes():
    store = room_for(3)
    for key, seconds in ((b"dear", 9.0), (b"cheap", 1.0), (b"middle", 5.0), (b"new", 6.0)):
        assert store.put(key, entry(seconds))
    assert keys(store) == {b"dear", b"middle", b"new"}


def test_uses_count():
    store = room_for(2)
    store.put(b"used", entry(1.0))
    store.put(b"unused", entry(2.0))
    for _ in range(5):
        store.get(b"used")
    store.put(b"new", entry(3.0))
    assert keys(store) == {b"used", b"new"}


def test_what_is_not_used_any_more_is_overtaken_in_time():
    store = room_for(2)
    store.put(b"old", entry(20.0))
    for n in range(60):
        store.put(b"%d" % n, entry(1.0))
    assert b"old" not in keys(store)


def test_a_small_entry_is_kept_before_a_large_one_of_the_same_cost():
    store = Memory(20_000)
    store.put(b"large", entry(1.0, 15_000))
    store.put(b"small", entry(1.0, 1_000))
    store.put(b"other", entry(1.0, 5_000))
    assert keys(store) == {b"small", b"other"}


def test_what_would_be_the_first_to_go_is_not_taken(told):
    store = room_for(2)
    store.put(b"a", entry(5.0))
    store.put(b"b", entry(5.0))
    assert store.put(b"worthless", entry(0.1)) is False
    assert keys(store) == {b"a", b"b"}
    assert told == [_events.Refuse(b"worthless", "what the store holds saves more seconds per byte")]


def test_an_entry_larger_than_the_store_is_refused_before_anything_is_copied_or_evicted(told):
    store = Memory(5_000)
    store.put(b"a", entry())

    class Untouchable(list):
        def __iter__(self):
            yield memoryview(bytes(10_000))

    assert store.put(b"large", Entry(About(seconds=1e9), Untouchable())) is False
    assert keys(store) == {b"a"}
    assert told == [_events.Refuse(b"large", "the entry takes about 11,000 bytes, the store holds 5,000")]


def test_evictions_are_told(told):
    store = room_for(1)
    store.put(b"a", entry(1.0))
    store.put(b"b", entry(2.0))
    assert told == [_events.Evict(b"a", "max_bytes")]


def test_a_pinned_entry_is_not_evicted_until_it_is_unpinned():
    store = room_for(2)
    store.put(b"pinned", entry(0.001, pinned=True))
    store.put(b"later", entry(0.002))
    store.pin(b"later")
    assert store.put(b"dear", entry(1000.0)) is False
    store.pin(b"later", pinned=False)
    assert store.put(b"dear", entry(1000.0)) is True
    assert keys(store) == {b"pinned", b"dear"}


def test_what_has_expired_makes_room_before_anything_is_evicted(told):
    clock = FakeClock(1000.0)
    store = room_for(2, clock=clock)
    store.put(b"dear", entry(100.0, expires=1010.0))
    store.put(b"cheap", entry(1.0))
    clock.advance(11)
    store.put(b"new", entry(0.5))
    assert keys(store) == {b"cheap", b"new"}
    assert told == []


def test_expired_entries_count_for_nothing():
    clock = FakeClock(1000.0)
    store = Memory("1MiB", clock=clock)
    store.put(b"a", entry(expires=1010.0))
    clock.advance(20)
    assert (store.count(), list(store.infos()), store.clear()) == (0, [], 0)


def test_what_can_be_read_from_below_saves_the_reading_alone():
    store = room_for(2)
    store.put(b"below", entry(100.0), read=0.001)
    store.put(b"here", entry(1.0))
    store.put(b"new", entry(2.0))
    assert keys(store) == {b"here", b"new"}


def test_when_a_parent_goes_its_children_take_longer_and_continue_its_parent():
    store = Memory("1MiB")
    store.put(b"a", entry(1.0))
    store.put(b"ab", entry(2.0, parent=b"a"))
    store.put(b"abc", entry(4.0, parent=b"ab"))
    store.put(b"abd", entry(8.0, parent=b"ab"))
    store.delete(b"ab")
    facts = {info.key: (info.about.seconds, info.about.parent) for info in store.infos()}
    assert facts == {b"a": (1.0, None), b"abc": (6.0, b"a"), b"abd": (10.0, b"a")}
    store.delete(b"a")
    facts = {info.key: (info.about.seconds, info.about.parent) for info in store.infos()}
    assert facts == {b"abc": (7.0, None), b"abd": (11.0, None)}


def test_a_child_that_comes_after_its_parent_went_counts_from_the_nearest_that_remains():
    store = Memory("1MiB")
    store.put(b"a", entry(1.0))
    store.put(b"ab", entry(2.0, parent=b"a"))
    store.delete(b"ab")
    store.put(b"abc", entry(4.0, parent=b"ab"))
    assert store.get(b"abc").about == About(seconds=6.0, parent=b"a")


def test_a_parent_that_is_put_again_keeps_its_children():
    store = Memory("1MiB")
    store.put(b"a", entry(1.0))
    store.put(b"ab", entry(2.0, parent=b"a"))
    store.put(b"a", entry(1.5))
    assert store.get(b"ab").about == About(seconds=2.0, parent=b"a")


@pytest.mark.parametrize("pairs", [[(b"a", b"a")], [(b"a", b"b"), (b"b", b"a")]])
def test_keys_that_continue_each_other_in_a_ring_do_no_harm(pairs):
    store = Memory("1MiB")
    for _ in range(2):
        for key, parent in pairs:
            store.put(key, entry(parent=parent))
        for key, _ in pairs:
            store.delete(key)
    assert store.count() == 0


def test_to_use_an_entry_many_times_does_not_grow_the_store():
    store = room_for(3)
    store.put(b"a", entry())
    for _ in range(3000):
        store.get(b"a")
        store.pin(b"a")
        store.pin(b"a", pinned=False)
        store.put(b"b", entry())
    assert len(store._least) < 200


def test_a_machine_without_memory_costs_a_computation(told):
    class Huge(list):
        counted = False

        def __iter__(self):
            if self.counted:
                raise MemoryError
            self.counted = True
            return super().__iter__()

    store = Memory("1MiB")
    assert store.put(b"key", Entry(About(), Huge([b"body"]))) is False
    assert not store.contains(b"key")
    assert [event.reason for event in told] == [
        "there is no memory for 1,004 bytes; give the store a smaller max_bytes"
    ]
