"""What is known of entries, and what stays: facts, order, size, time, pins."""

from __future__ import annotations

import time
from contextlib import closing

from memograd.store._base import About, Entry
from memograd.testing._made import Made
from memograd.testing._ways import got, keys_of, read, value_of, wait_for


class Facts(Made):
    """What is known of entries, and what stays: facts, order, size, time, pins."""

    # Facts.

    def test_all_facts_are_kept(self) -> None:
        if not self.keeps or not self.keeps_about:
            return
        about = About(
            function="module.Class.function", text="f(x='ä\n\U0001f40d')", parts={"x": "1", "modes": "", "ü": "∞"},
            seconds=0.1 + 0.2, created=1234567890.123456, expires=time.time() + 9e5, parent=self.key(7),
            tags=("a", "b ü"),
        )  # fmt: skip
        with self.make() as store:
            for n, expected in enumerate((about, About(), About(seconds=0.25), About(pinned=True, parts={"a": "b"}))):
                store.put(self.key(n), Entry(expected, [self.body(n)]))
                assert got(store, self.key(n)).about == expected, f"get gave {got(store, self.key(n)).about}"
                (info,) = [info for info in store.infos() if info.key == self.key(n)]
                assert info.about == expected, f"infos gave {info.about}, expected {expected}"

    def test_infos_have_every_entry_once(self) -> None:
        with self.make() as store:
            assert list(store.infos()) == [], "an empty store has infos"
            assert store.count() == 0, f"the count of an empty store is {store.count()}"
            if not self.keeps:
                return
            store.put_many((self.key(n), self.entry(n)) for n in range(20))
            store.delete(self.key(3))
            expected = sorted(self.key(n) for n in range(20) if n != 3)
            assert sorted(info.key for info in store.infos()) == expected
            assert store.count() == 19, f"count is {store.count()}, expected 19"

    def test_entries_may_come_and_go_while_infos_are_read(self) -> None:
        with self.make() as store:
            if not self.keeps:
                return
            store.put_many((self.key(n), self.entry(n)) for n in range(20))
            for at, info in enumerate(store.infos()):
                store.delete(info.key)
                store.put(self.key(30 + at % 5), self.entry(at))
            assert store.count() <= 25, "infos do not end, or deleted entries remain"

    def test_a_get_is_a_use_and_contains_is_none(self) -> None:
        if not self.keeps or not self.keeps_about:
            return
        with self.make() as store:
            before = time.time()
            store.put_many((self.key(n), self.entry(n)) for n in range(3))
            store.get(self.key(0))
            store.get_many([self.key(0), self.key(1)])
            store.contains(self.key(2))
            infos = {info.key: info for info in store.infos()}
            hits = [infos[self.key(n)].hits for n in range(3)]
            assert hits == [2, 1, 0], f"hits are {hits}, expected [2, 1, 0]"
            assert all(info.used >= before - 2 for info in infos.values()), "`used` is before the put"

    def test_scan_sorts_with_the_greatest_first(self) -> None:
        if not self.keeps or not self.keeps_about:
            return
        with self.make() as store:
            for n in range(6):
                about = About(seconds=float(n * 5 % 7), created=1e9 + n * 3 % 5)
                store.put(self.key(n), Entry(about, [self.body(n, 1000 * (n * 4 % 7 + 1))]))
                store.get_many([self.key(n)] * (n * 3 % 7))
            for sort in ("saved", "used", "nbytes", "hits", "seconds", "created"):
                values = [value_of(info, sort) for info in store.scan(sort=sort)]
                assert values == sorted(values, reverse=True), f"by {sort}: {values}"
                first = [value_of(info, sort) for info in store.scan(sort=sort, limit=2)]
                assert first == values[:2], f"the first 2 by {sort} are {first}, expected {values[:2]}"

    def test_scan_stops_at_the_limit(self) -> None:
        with self.make() as store:
            store.put_many((self.key(n), self.entry(n)) for n in range(6))
            there = 6 if self.keeps else 0
            for limit, expected in ((0, 0), (4, min(4, there)), (10, there), (None, there)):
                found = len(list(store.scan(limit=limit)))
                assert found == expected, f"scan(limit={limit}) gave {found}"

    def test_bytes_are_counted(self) -> None:
        with self.make() as store:
            assert store.nbytes == 0, f"an empty store counts {store.nbytes} bytes"
            if not self.keeps:
                return
            store.put_many((self.key(n), self.entry(n, 10_000)) for n in range(4))
            held = sum(len(self.body(n, 10_000)) for n in range(4))
            assert store.nbytes >= held, f"{held:,} bytes were put, nbytes is {store.nbytes:,}"
            for info in store.infos():
                assert info.nbytes >= len(self.body(0, 10_000)), f"an info counts {info.nbytes} bytes"
            before = store.nbytes
            store.delete_many([self.key(0), self.key(1)])
            assert store.nbytes < before, "nbytes does not fall when entries are deleted"

    def test_clear_takes_everything_out(self) -> None:
        with self.make() as store:
            store.put_many((self.key(n), self.entry(n)) for n in range(4))
            cleared = store.clear()
            assert cleared == (4 if self.keeps else 0), f"clear of 4 told {cleared}"
            assert (list(store.infos()), store.count(), store.nbytes) == ([], 0, 0), "something is left after clear"
            assert store.get(self.key(0)) is None, "an entry is given after clear"
            store.put(self.key(0), self.entry(9))
            assert read(store, self.key(0)) == (self.body(9) if self.keeps else None), "after clear nothing is taken"

    # Time, and what stays.

    def test_what_has_expired_is_not_there(self) -> None:
        if not self.keeps or not self.keeps_about:
            return
        with self.make() as store:
            for n, seconds in enumerate((-10.0, 1000.0, 0.05)):
                store.put(self.key(n), self.entry(n, about=About(expires=time.time() + seconds)))
            assert store.get(self.key(0)) is None, "an entry that had expired when it was put is given"
            assert not store.contains(self.key(0)), "an entry that had expired when it was put is contained"
            assert store.contains(self.key(1)), "an entry that expires later is gone"
            wait_for(lambda: store.get(self.key(2)) is None, "an entry whose time is over is given")
            assert not store.contains(self.key(2)), "an entry whose time is over is contained"
            assert store.get_many([self.key(n) for n in (0, 2)]) == [None, None], "get_many gives what has expired"

    def test_a_put_over_an_expired_entry_counts(self) -> None:
        if not self.keeps or not self.keeps_about:
            return
        with self.make() as store:
            store.put(self.key(0), self.entry(0, about=About(expires=time.time() - 10)))
            store.put(self.key(0), self.entry(1))
            assert read(store, self.key(0)) == self.body(1), "an entry that has expired stands in the way"

    def test_pin_and_unpin(self) -> None:
        with self.make() as store:
            assert store.pin(self.key(0)) is False, "pin told of an entry that is not there"
            if not self.keeps:
                return
            store.put(self.key(0), self.entry(0))
            assert store.pin(self.key(0)) is True, "pin told of no entry"
            if self.keeps_about:
                assert got(store, self.key(0)).about.pinned, "a pinned entry does not say so"
            assert store.pin(self.key(0), pinned=False) is True, "to unpin told of no entry"
            assert not got(store, self.key(0)).about.pinned, "an entry is still pinned"
            assert store.delete(self.key(0)), "an entry that was pinned once cannot be deleted"

    def test_a_pinned_entry_can_be_deleted(self) -> None:
        with self.make() as store:
            if not self.keeps:
                return
            store.put(self.key(0), self.entry(0))
            store.pin(self.key(0))
            assert store.delete(self.key(0)), "to pin is to keep from eviction, not from deletion"
            assert not store.contains(self.key(0)), "a pinned entry was deleted and is there"

    def test_it_may_be_used_after_close(self) -> None:
        store = self.make()
        store.put(self.key(0), self.entry(0))
        store.close()
        store.close()
        with closing(store):
            body = read(store, self.key(0))
            assert body == self.body(0) if self.keeps and store.lasting else body in {None, self.body(0)}
            assert store.put(self.key(1), self.entry(1)) is self.keeps, "after close nothing is taken"
            assert store.contains(self.key(1)) is self.keeps, "after close nothing is kept"
            lease = store.lease(self.key(0))
            assert lease is not None, "after close there are no leases"
            lease.release()

    def test_what_it_holds_lasts_if_it_says_so(self) -> None:
        with self.make() as store:
            store.put_many((self.key(n), self.entry(n)) for n in range(3))
            other = self.second(store)
            if other is None:
                return
            with other:
                assert read(other, self.key(1)) == self.body(1), "who opens the store again does not find what was put"
                other.put(self.key(5), self.entry(5))
                other.delete(self.key(0))
            assert read(store, self.key(5)) == self.body(5), "what another has put is not found"
            assert store.get(self.key(0)) is None, "what another has deleted is given"

    def test_a_readonly_store_takes_nothing(self) -> None:
        with self.make() as store:
            store.put(self.key(0), self.entry(0))
            reader = self.second(store, readonly=True)
            if reader is None:
                return
            with reader:
                assert reader.readonly, "a store that was opened to be read does not say so"
                assert read(reader, self.key(0)) == self.body(0), "a readonly store does not give what is there"
                assert reader.put(self.key(1), self.entry(1)) is False, "a readonly store took an entry"
                assert reader.put_many([(self.key(1), self.entry(1))]) == 0, "a readonly store took entries"
                assert reader.delete(self.key(0)) is False, "a readonly store deleted an entry"
                assert reader.pin(self.key(0)) is False, "a readonly store pinned an entry"
                assert reader.clear() == 0, "a readonly store was cleared"
                assert len(list(reader.infos())) == 1, "a readonly store has no infos"
            assert keys_of(store) == {self.key(0)}, "a readonly store changed what is there"
