"""Who has the right to compute; threads and forks."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from memograd.testing import _ways
from memograd.testing._made import Made
from memograd.testing._ways import elsewhere, in_child, leased, read

if TYPE_CHECKING:
    from memograd.store._base import Lease


class Leases(Made):
    """Who has the right to compute; threads and forks."""

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
                start.wait(_ways.PATIENCE)
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
                future.result(_ways.PATIENCE)
