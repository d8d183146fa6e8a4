"""Stores in tiers: who is asked, who is filled, and who is passed over. The rest is in the contract."""

from __future__ import annotations

import time
import warnings

import pytest

from memograd import MemogradWarning, _events
from memograd.store import About, Entry, Memory, Null, Tiered
from memograd.store._tiered import Tier


class Slow(Memory):
    """Takes its time to read, and notes what it is asked for."""

    lasting = True

    def __init__(self, seconds=0.002):
        super().__init__("1GiB")
        self.seconds = seconds
        self.asked = []

    def get(self, key):
        self.asked.append(key)
        time.sleep(self.seconds)
        return super().get(key)

    def get_many(self, keys):
        self.asked.append(tuple(keys))
        time.sleep(self.seconds)
        return [super(Slow, self).get(key) for key in keys]


class Broken(Memory):
    """Fails at whatever it is asked."""

    shared = True

    def _fail(self, *_, **__):
        raise OSError("the cable is out")

    get = put = delete = contains = infos = lease = pin = get_many = clear = count = close = _fail
    nbytes = property(_fail)

    def __repr__(self):
        return "Broken()"


def entry(seconds=1.0, nbytes=100):
    return Entry(About(seconds=seconds), [bytes(nbytes)])


def test_what_is_put_goes_to_all():
    fast, slow = Memory("1MiB"), Memory("1GiB")
    assert Tiered(fast, slow).put(b"key", entry())
    assert fast.contains(b"key")
    assert slow.contains(b"key")


def test_what_is_found_below_is_kept_above():
    fast, slow = Memory("1MiB"), Slow()
    slow.put(b"key", entry())
    both = Tiered(fast, slow)
    assert both.get(b"key").nbytes == 100
    assert fast.contains(b"key")
    both.get(b"key")
    assert slow.asked == [b"key"]


def test_what_costs_more_to_copy_than_to_read_again_is_left_below():
    fast, slow = Memory("1GiB"), Slow(0.0001)
    slow.put(b"key", entry(nbytes=100_000_000))
    Tiered(fast, slow).get(b"key")
    assert not fast.contains(b"key")


def test_the_next_is_asked_for_what_is_missing_alone():
    fast, slow = Memory("1MiB"), Slow()
    for key in (b"b", b"c"):
        slow.put(key, entry())
    both = Tiered(fast, slow)
    fast.put(b"a", entry())
    found = both.get_many([b"a", b"b", b"x", b"b", b"c"])
    assert [each is not None for each in found] == [True, True, False, True, True]
    assert slow.asked == [(b"b", b"x", b"c")]
    assert fast.count() == 3


def test_no_slower_store_is_asked_when_nothing_is_missing():
    fast, slow = Memory("1MiB"), Slow()
    fast.put(b"a", entry())
    Tiered(fast, slow).get_many([b"a"])
    assert slow.asked == []


def test_what_is_computed_sooner_than_read_is_not_stored_there():
    seen = []
    fast, slow = Memory("1MiB"), Slow()
    both = Tiered(fast, slow)
    both.put(b"first", entry())
    fast.clear()
    both.get(b"first")
    both.put(b"cheap", entry(0.0005))
    assert fast.contains(b"cheap")
    assert not slow.contains(b"cheap")
    end = _events.subscribe(seen.append)
    assert Tiered(Null()).put(b"key", entry()) is False
    end()
    assert [type(event) for event in seen] == [_events.Refuse]


def test_an_entry_that_is_not_stored_does_not_leave_an_older_one():
    slow = Slow()
    both = Tiered(slow)
    both.put(b"key", entry(1.0, 100))
    both.get(b"key")
    both.put(b"key", entry(1e-6, 50))
    assert not slow.contains(b"key")


def test_in_the_fast_store_what_the_slow_one_has_is_worth_the_reading():
    fast, slow = Memory(2 * 1100), Slow()
    both = Tiered(fast, slow)
    slow.put(b"a", entry(1000.0))
    both.get(b"a")
    fast.put(b"b", entry(1.0))
    fast.put(b"c", entry(2.0))
    assert not fast.contains(b"a")


def test_uses_of_all_tiers_are_counted_together():
    fast, slow = Memory("1MiB"), Slow()
    slow.put(b"key", entry())
    fast.put(b"only above", entry())
    both = Tiered(fast, slow)
    for _ in range(3):
        both.get(b"key")
    assert {info.key: info.hits for info in both.infos()} == {b"key": 3, b"only above": 0}
    assert both.count() == 2


@pytest.mark.parametrize("order", ["broken first", "broken last", "broken between"])
def test_a_tier_that_fails_is_passed_over_with_one_warning(order):
    memory, broken = Memory("1MiB"), Broken()
    stores = {
        "broken first": (broken, memory),
        "broken last": (memory, broken),
        "broken between": (memory, broken, Null()),
    }
    both = Tiered(*stores[order])
    with pytest.warns(MemogradWarning, match=r"Broken\(\) failed \(OSError: the cable is out\)") as said:
        use_everything(both)
    assert len(said) == 1


def use_everything(both):
    assert both.put(b"key", entry())
    assert both.get(b"key") is not None
    assert both.get_many([b"key", b"no"])[1] is None
    assert (both.contains(b"key"), both.count(), both.nbytes > 0, both.pin(b"key")) == (True, 1, True, True)
    assert [info.key for info in both.scan(sort="used")] == [b"key"]
    with both.lease(b"key") as lease:
        assert lease.held
        assert both.lease(b"key") is None
    assert both.delete(b"key")
    assert both.clear() == 0
    both.close()


def test_a_tier_that_works_again_is_used_again():
    class Flaky(Memory):
        works = False

        def get(self, key):
            if not self.works:
                raise ConnectionError("gone")
            return super().get(key)

    flaky = Flaky("1MiB")
    flaky.put(b"key", entry())
    store = Tiered(flaky)
    with pytest.warns(MemogradWarning, match="gone"):
        assert store.get(b"key") is None
    flaky.works = True
    assert store.get(b"key") is not None


def test_a_readonly_tier_is_read_and_never_written():
    class Archive(Memory):
        readonly = True

    archive, memory = Archive("1MiB"), Memory("1MiB")
    Memory.put(archive, b"old", entry())
    both = Tiered(memory, archive)
    assert not both.readonly
    both.put(b"new", entry())
    assert both.get(b"old") is not None
    assert not archive.contains(b"new")
    assert Tiered(archive).readonly


def test_the_lease_is_that_of_the_slowest_shared_store():
    class Shared(Memory):
        shared = lasting = True

    fast, disk, shared = Memory("1MiB"), Slow(), Shared("1MiB")
    with Tiered(fast, disk, shared).lease(b"key"):
        assert shared.lease(b"key") is None
        assert disk.lease(b"key") is not None
    with Tiered(fast, Slow()).lease(b"key") as lease:
        assert lease.held


def test_what_it_is_follows_from_what_it_is_made_of():
    class Shared(Memory):
        shared = lasting = True

    assert (Tiered(Memory(10)).lasting, Tiered(Memory(10)).shared) == (False, False)
    assert (Tiered(Memory(10), Shared(10)).lasting, Tiered(Memory(10), Shared(10)).shared) == (True, True)


def test_no_stores_are_refused_with_what_to_write():
    with pytest.raises(ValueError, match=r"write Tiered\(Memory\(\), Disk\(path\)\)"):
        Tiered()


@pytest.mark.parametrize("stores", [([Memory("1MiB")],), ("~/.cache/lab",), (Memory("1MiB"), None)])
def test_what_is_no_store_is_refused_with_what_to_write(stores):
    with pytest.raises(
        TypeError, match=r"Tiered\(\) got .*, expected stores.*; write Tiered\(Memory\(\), Disk\(path\)\)"
    ):
        Tiered(*stores)


def test_a_tier_learns_what_a_read_costs_and_what_a_byte_costs():
    tier = Tier(Null())
    assert tier.read(10**6) == 0
    for _ in range(50):
        tier.learn(100, 0.001)
        tier.learn(1_000_000, 0.011)
    assert tier.read(100) == pytest.approx(0.001)
    assert tier.read(2_000_000) == pytest.approx(0.021, rel=0.01)


def test_nothing_is_said_where_nothing_fails():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Tiered(Memory("1MiB"), Null()).get(b"key")
