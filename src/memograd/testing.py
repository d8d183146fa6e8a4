"""What tests of programs that use memograd need, and memograd's own.

`StoreContract` is what every store does, as tests. They need no test framework; pytest finds them by their names.
"""

# ruff: noqa: D102 - the names of the tests are sentences
from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from copy import copy
from hashlib import blake2b
from typing import TYPE_CHECKING, TypeVar, final
from warnings import catch_warnings, simplefilter

from memograd.store._base import About, Entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from memograd.store._base import Info, Lease, Store

T = TypeVar("T")

# How long anything is waited for that must happen in the end.
PATIENCE = 20.0


class FakeClock:
    """A clock that stands still until it is told to move on. Call it for the time, in seconds.

    Example:
        >>> clock = FakeClock()
        >>> clock.advance(1.5)
        >>> clock()
        1.5
    """

    __slots__ = ("now",)

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Give the time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass. Raises `ValueError` for less than none."""
        if seconds < 0:
            raise ValueError(f"FakeClock.advance() got {seconds}, expected 0 or more; a clock does not run backwards")
        self.now += seconds


class StoreContract:
    """What every `Store` does, as tests: subclass it in a test module and say how a store is made.

    A test that does not concern a store, by the attributes below, returns at once.

    Attributes:
        keeps: False for a store in which nothing that was put is found again.
        keeps_about: False for a store that keeps bodies alone, without facts about them.
        fixed_nbytes: what every body must have, in a store whose places are of one size.
        integer_keys: True for a store whose keys are 8-byte big-endian integers from 0 on.
        largest: the largest body that is tried.

    Example:
        >>> from memograd.store import Memory
        >>> class TestMine(StoreContract):
        ...     def make(self):
        ...         return Memory("1GiB")
        >>> names = StoreContract.run(lambda: Memory("1GiB"))       # the same by hand
    """

    keeps: bool = True
    keeps_about: bool = True
    fixed_nbytes: int | None = None
    integer_keys: bool = False
    largest: int = 5_000_000

    # What a subclass says.

    def make(self) -> Store:
        """Make a new, empty store with room for at least ten of the largest body."""
        raise TypeError(f"{type(self).__name__} got no store, expected one; write def make(self): return MyStore()")

    def second(self, store: Store, *, readonly: bool = False) -> Store | None:
        """Open the place of a store once more, as another process would; None where that is not possible."""
        del store, readonly
        return None

    @final
    @classmethod
    def run(cls, make: Callable[[], Store] | None = None) -> list[str]:
        """Run all tests by hand; give their names.

        Args:
            make: makes a new, empty store; left out, the class's own `make` does.

        Raises:
            AssertionError: some failed; the message has them all.
        """
        names = [name for name in dir(cls) if name.startswith("test_")]
        failed: list[str] = []
        for name in names:
            contract = cls()
            if make is not None:
                contract.make = make
            try:
                getattr(contract, name)()
            except Exception as error:  # noqa: BLE001 - a store may raise anything, and the rest is of interest, too
                failed.append(f"{name}: {type(error).__name__}: {error}")
        if failed:
            raise AssertionError(f"{len(failed)} of {len(names)} failed\n" + "\n".join(failed))
        return names

    def key(self, n: int) -> bytes:
        """Give the key of a number."""
        return n.to_bytes(8, "big") if self.integer_keys else blake2b(b"%d" % n, digest_size=16).digest()

    def body(self, n: int, nbytes: int = 100) -> bytes:
        """Give bytes that belong to a number and look like no others."""
        nbytes = self.fixed_nbytes if self.fixed_nbytes is not None else nbytes
        blocks = (blake2b(b"%d,%d" % (n, at)).digest() for at in range(-(-nbytes // 64)))
        return b"".join(blocks)[:nbytes]

    def entry(self, n: int, nbytes: int = 100, about: About | None = None) -> Entry:
        """Give an entry that belongs to a number."""
        return Entry(
            about or About(function="f", text=f"f({n})", seconds=1.0, created=time.time()), [self.body(n, nbytes)]
        )

    # Get and put.

    def test_what_was_put_is_got(self) -> None:
        with self.make() as store:
            assert store.get(self.key(0)) is None, "an empty store gave an entry"
            taken = store.put(self.key(0), self.entry(0))
            assert taken is self.keeps, f"put gave {taken!r}, expected {self.keeps}"
            assert read(store, self.key(0)) == (self.body(0) if self.keeps else None), "got other bytes than were put"
            assert store.get(self.key(1)) is None, "a key that was not put has an entry"

    def test_it_travels_to_other_processes(self) -> None:
        with self.make() as store:
            store.put(self.key(0), self.entry(0))
            copied = copy(store)  # made anew of what pickling takes along
            assert type(copied) is type(store), f"made anew it became {copied!r}"
            if store.lasting and self.keeps:
                assert read(copied, self.key(0)) == self.body(0), "made anew it has not what was put"
            copied.close()

    def test_it_contains_what_was_put(self) -> None:
        with self.make() as store:
            assert not store.contains(self.key(0)), "an empty store contains a key"
            store.put(self.key(0), self.entry(0))
            assert store.contains(self.key(0)) is self.keeps, "contains does not tell what get gives"
            assert not store.contains(self.key(1)), "it contains a key that was not put"

    def test_another_put_replaces_the_entry(self) -> None:
        with self.make() as store:
            if not self.keeps:
                return
            store.put(self.key(0), self.entry(0, 100))
            store.put(self.key(0), self.entry(1, 50))
            assert read(store, self.key(0)) == self.body(1, 50), "the first entry is still there"
            assert store.count() == 1, f"one key was put twice, count is {store.count()}"

    def test_what_was_deleted_is_gone(self) -> None:
        with self.make() as store:
            store.put(self.key(0), self.entry(0))
            store.put(self.key(1), self.entry(1))
            assert store.delete(self.key(0)) is self.keeps, "delete did not tell that there was an entry"
            assert store.delete(self.key(0)) is False, "delete told twice that there was an entry"
            assert store.get(self.key(0)) is None, "a deleted entry was given"
            assert read(store, self.key(1)) == (self.body(1) if self.keeps else None), "another entry went with it"
            store.put(self.key(0), self.entry(2))
            assert read(store, self.key(0)) == (self.body(2) if self.keeps else None), "a deleted key takes none again"

    def test_many_are_got_in_the_order_asked(self) -> None:
        with self.make() as store:
            taken = store.put_many((self.key(n), self.entry(n)) for n in range(5))
            assert taken == (5 if self.keeps else 0), f"put_many of 5 told that {taken} were taken"
            asked = [3, 9, 0, 3, 4]
            got = store.get_many([self.key(n) for n in asked])
            expected = [self.body(n) if self.keeps and n < 5 else None for n in asked]
            assert [joined(entry) for entry in got] == expected, (
                "get_many gave others than were asked for, or in another order"
            )
            assert store.get_many([]) == [], "get_many of nothing gave something"
            assert store.put_many([]) == 0, "put_many of nothing took something"

    def test_many_are_deleted_and_counted(self) -> None:
        with self.make() as store:
            if not self.keeps:
                return
            store.put_many((self.key(n), self.entry(n)) for n in range(5))
            gone = store.delete_many([self.key(n) for n in (0, 2, 7)])
            assert gone == 2, f"delete_many told {gone}, expected 2 of 3"
            assert keys_of(store) == {self.key(n) for n in (1, 3, 4)}

    # Keys and bodies.

    def test_keys_have_from_1_to_64_bytes(self) -> None:
        if not self.keeps or self.integer_keys:
            return
        keys = [bytes(range(256 - length, 256)) for length in range(1, 65)] + [
            b"\0",
            b"\0\0",
            b"\n",
            b"%s",
            b"{a}",
            b"*",
        ]
        with self.make() as store:
            for n, key in enumerate(keys):
                assert store.put(key, self.entry(n)), f"the key {key!r} was not taken"
            for n, key in enumerate(keys):
                assert read(store, key) == self.body(n), f"the key {key!r} gives another's entry"
            assert keys_of(store) == set(keys), "infos have other keys than were put"

    def test_a_body_of_several_pieces_is_got_in_one(self) -> None:
        with self.make() as store:
            if not self.keeps:
                return
            whole = self.body(0, 90)
            third = len(whole) // 3
            pieces = [whole[:third], bytearray(whole[third : 2 * third]), b"", memoryview(whole)[2 * third :]]
            assert store.put(self.key(0), Entry(About(), pieces)), "a body of several pieces was not taken"
            entry = got(store, self.key(0))
            assert joined(entry) == whole, "the pieces were put together wrongly"
            assert len(entry.body) == 1, f"the body was given in {len(entry.body)} pieces"
            assert entry.nbytes == len(whole), f"nbytes is {entry.nbytes}, expected {len(whole)}"

    def test_a_piece_may_be_of_wider_items_than_bytes(self) -> None:
        with self.make() as store:
            if not self.keeps:
                return
            whole = self.body(0, 96)
            if len(whole) % 4:
                return
            store.put(self.key(0), Entry(About(), [memoryview(whole).cast("I")]))
            assert read(store, self.key(0)) == whole, "a memoryview of integers was not stored by its bytes"

    def test_a_body_may_be_empty(self) -> None:
        if not self.keeps or self.fixed_nbytes is not None:
            return
        with self.make() as store:
            for n, pieces in enumerate(([], [b""], [b"", bytearray()])):
                assert store.put(self.key(n), Entry(About(), pieces)), f"the empty body {pieces} was not taken"
                assert read(store, self.key(n)) == b"", f"the empty body {pieces} was not given back"

    def test_bodies_are_of_any_size(self) -> None:
        if not self.keeps or self.fixed_nbytes is not None:
            return
        sizes = [size for size in (1, 4095, 4096, 4097, 65_537, 1_000_003) if size < self.largest]
        with self.make() as store:
            for n, size in enumerate([*sizes, self.largest]):
                assert store.put(self.key(n), self.entry(n, size)), f"a body of {size:,} bytes was not taken"
            for n, size in enumerate([*sizes, self.largest]):
                assert read(store, self.key(n)) == self.body(n, size), f"a body of {size:,} bytes came back changed"

    def test_a_reader_may_change_what_it_got(self) -> None:
        with self.make() as store:
            if not self.keeps:
                return
            for n, size in enumerate((100, min(self.largest, 300_000))):
                store.put(self.key(n), self.entry(n, size))
                for piece in got(store, self.key(n)).body:
                    scribble(piece)
                assert read(store, self.key(n)) == self.body(n, size), "a reader changed what the store holds"

    def test_a_writer_may_change_what_it_put(self) -> None:
        with self.make() as store:
            if not self.keeps:
                return
            for n, size in enumerate((100, min(self.largest, 300_000))):
                body = bytearray(self.body(n, size))
                store.put(self.key(n), Entry(About(), [memoryview(body)]))
                scribble(body)
                assert read(store, self.key(n)) == self.body(n, size), "a writer changed what it had put"

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

    # Leases.

    def test_a_lease_is_had_by_one_thread_at_a_time(self) -> None:
        with self.make() as store:
            lease = leased(store, self.key(0))
            assert lease.held, "a lease that was just given is not held"
            assert elsewhere(lambda: store.lease(self.key(0))) is None, "another thread has the same lease"
            lease.release()
            assert not lease.held, "a lease that was given back is held"
            other = elsewhere(lambda: leased(store, self.key(0)))
            assert other.held, "a lease that was given back cannot be had again"
            other.release()

    def test_a_lease_may_be_given_back_twice(self) -> None:
        with self.make() as store:
            first = leased(store, self.key(0))
            first.release()
            first.release()
            second = leased(store, self.key(0))
            first.release()
            assert second.held, "to give a lease back again took it from who has it now"
            assert elsewhere(lambda: store.lease(self.key(0))) is None, "to give a lease back again freed another's"
            second.release()

    def test_a_lease_is_given_back_when_its_block_ends(self) -> None:
        with self.make() as store:
            with suppress(ZeroDivisionError), leased(store, self.key(0)) as lease:
                assert lease.held, "a lease is not held within its block"
                raise ZeroDivisionError
            assert not lease.held, "a lease is held after its block"
            elsewhere(lambda: leased(store, self.key(0))).release()

    def test_leases_of_different_keys_are_independent(self) -> None:
        with self.make() as store:
            leases = [leased(store, self.key(n)) for n in range(5)]
            leases.pop(2).release()
            assert all(lease.held for lease in leases), "to give back one lease took others"
            assert elsewhere(lambda: store.lease(self.key(1))) is None, "to give back one lease freed another"
            for lease in leases:
                lease.release()

    def test_a_lease_needs_and_makes_no_entry(self) -> None:
        with self.make() as store, leased(store, self.key(0)):
            assert not store.contains(self.key(0)), "a lease looks like an entry"
            assert (store.count(), store.clear()) == (0, 0), "a lease counts as an entry"
            assert store.put(self.key(0), self.entry(0)) is self.keeps, "who has the lease cannot put"

    def test_of_many_threads_that_ask_one_has_the_lease(self) -> None:
        with self.make() as store, ThreadPoolExecutor(8) as pool:
            start = threading.Barrier(8)

            def ask(key: bytes) -> Lease | None:
                start.wait(PATIENCE)
                return store.lease(key)

            for n in range(5):
                winners = [lease for lease in pool.map(ask, [self.key(n)] * 8) if lease is not None]
                assert len(winners) == 1, f"{len(winners)} of 8 threads have the lease"
                winners[0].release()

    def test_a_lease_holds_against_who_opens_the_store_again(self) -> None:
        with self.make() as store:
            other = self.second(store)
            if other is None:
                return
            with other:
                lease = leased(store, self.key(0))
                assert elsewhere(lambda: other.lease(self.key(0))) is None, "another store at the place has the lease"
                lease.release()
                elsewhere(lambda: leased(other, self.key(0))).release()

    # Threads and forks.

    def test_many_threads_may_use_it_at_once(self) -> None:
        def work(me: int) -> None:
            for n in range(30):
                store.put(self.key(100 * (me + 1) + n), self.entry(n, 3000))
                store.put(self.key(n % 7), self.entry(n % 7, 3000))
                for other in (n % 7, 100 * (me + 1) + n):
                    body = read(store, self.key(other))
                    assert body in {None, self.body(other % 100, 3000)}, "a thread got bytes that nobody put"
                store.delete(self.key(n % 3))
                sum(1 for _ in store.scan(limit=3))

        with self.make() as store, ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
            if self.keeps:
                missing = [n for me in range(8) for n in range(30) if not store.contains(self.key(100 * (me + 1) + n))]
                assert not missing, f"{len(missing)} of 240 entries that nobody deleted are gone"

    def test_a_forked_child_reads_and_writes(self) -> None:
        with self.make() as store:
            store.put(self.key(0), self.entry(0, 3000))
            expected = self.body(0, 3000) if self.keeps else None
            assert read(store, self.key(0)) == expected

            def child() -> bool:
                found = [read(store, self.key(0)) for _ in range(5)]
                return found == [expected] * 5 and store.put(self.key(1), self.entry(1)) is self.keeps

            assert in_child(child), "a forked child does not find what its parent put, or cannot put"
            assert read(store, self.key(0)) == expected, "after a fork the parent does not find what it put"
            assert store.put(self.key(2), self.entry(2)) is self.keeps, "after a fork the parent cannot put"

    def test_a_child_that_ends_leaves_its_parents_lease(self) -> None:
        with self.make() as store, leased(store, self.key(0)) as lease:
            assert in_child(lambda: store.contains(self.key(0)) is False), "a forked child cannot ask"
            assert lease.held, "a child that ended took its parent's lease"
            assert elsewhere(lambda: store.lease(self.key(0))) is None, "a child that ended freed its parent's lease"

    def test_a_child_may_be_forked_while_threads_work(self) -> None:
        stop = threading.Event()

        def work() -> None:
            n = 0
            while not stop.is_set():
                n += 1
                store.put(self.key(10 + n % 20), self.entry(n % 20, 3000))
                store.get(self.key(10 + n % 17))

        with self.make() as store, ThreadPoolExecutor(2) as pool:
            store.put(self.key(0), self.entry(0))
            running = [pool.submit(work) for _ in range(2)]
            try:
                for _ in range(5):
                    assert in_child(lambda: read(store, self.key(0)) in {None, self.body(0)}), (
                        "a forked child hangs or fails"
                    )
            finally:
                stop.set()
            for future in running:
                future.result(PATIENCE)


def joined(entry: Entry | None) -> bytes | None:
    """Give the body of an entry in one piece."""
    return None if entry is None else b"".join(bytes(piece) for piece in entry.body)


def read(store: Store, key: bytes) -> bytes | None:
    """Give the body of a key in one piece, None if there is none."""
    return joined(store.get(key))


def got(store: Store, key: bytes) -> Entry:
    """Give the entry of a key, which must be there."""
    entry = store.get(key)
    assert entry is not None, f"the entry of {key!r} is gone"
    return entry


def leased(store: Store, key: bytes) -> Lease:
    """Take the lease of a key, which must be free."""
    lease = store.lease(key)
    assert lease is not None, "a lease that nobody has was not given"
    return lease


def keys_of(store: Store) -> set[bytes]:
    """Give all keys of a store."""
    return {info.key for info in store.infos()}


def value_of(info: Info, sort: str) -> float:
    """Give what entries are sorted by."""
    value: float = getattr(info.about if sort in {"seconds", "created"} else info, sort)
    return value


def scribble(buffer: bytes | bytearray | memoryview) -> None:
    """Change every byte, if the buffer lets itself be changed."""
    view = memoryview(buffer)
    if not view.readonly:
        view.cast("B")[:] = b"\xff" * view.nbytes


def elsewhere(run: Callable[[], T]) -> T:
    """Run in another thread, and give what that gives."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result(PATIENCE)


def wait_for(happened: Callable[[], bool], else_: str) -> None:
    """Look until something has happened."""
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, else_
        time.sleep(0.01)


def in_child(run: Callable[[], bool]) -> bool:
    """Tell whether it is true in a forked child; where no process can be forked, whether it is true here."""
    if not hasattr(os, "fork"):
        return run()
    with catch_warnings():
        simplefilter("ignore", DeprecationWarning)  # a fork beside threads, which is what is tried
        child = os.fork()
    if child == 0:
        try:
            os._exit(0 if run() else 1)
        finally:
            os._exit(2)
    return _ended_well(child)


def _ended_well(child: int) -> bool:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status == 0
        time.sleep(0.002)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return False
