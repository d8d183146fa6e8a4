"""What is put is got: keys and bodies of any kind."""

from __future__ import annotations

from copy import copy

from memograd.store._base import About, Entry
from memograd.testing._made import Made
from memograd.testing._ways import got, joined, keys_of, read, scribble


class Entries(Made):
    """What is put is got: keys and bodies of any kind."""

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
