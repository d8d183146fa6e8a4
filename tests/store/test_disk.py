"""`Disk`: what it keeps, what it evicts, and what several stores, threads and processes see of each other."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from hashlib import blake2b

import pytest

from memograd import subscribe
from memograd.store import About, Disk, Entry
from memograd.testing import FakeClock

BIG = bytes(range(256)) * 400


def key(n):
    return blake2b(b"%d" % n, digest_size=16).digest()


def entry(n, nbytes=100, **facts):
    return Entry(About(**{"seconds": 1.0, **facts}), [(b"%d " % n * nbytes)[:nbytes]])


def body(store, n):
    found = store.get(key(n))
    return None if found is None else bytes(found.body[0])


@pytest.fixture
def store(tmp_path):
    with Disk(tmp_path / "store") as store:
        yield store


def test_what_was_put_outlives_the_store(tmp_path):
    with Disk(tmp_path) as store:
        store.put(key(0), entry(0))
        store.put(key(1), Entry(About(), [BIG]))
    with Disk(tmp_path) as store:
        assert (body(store, 0), body(store, 1)) == (bytes(entry(0).body[0]), BIG)


def test_what_a_process_has_put_is_there_when_it_has_ended(tmp_path):
    program = "import sys; from memograd.store import *; s = Disk(sys.argv[1])\n" \
        "for n in range(99): s.put(b'%d' % n, Entry(About(), [b'x']))"  # fmt: skip  # noqa: ISC002
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True)
    assert Disk(tmp_path).count() == 99


def test_the_default_directory_is_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with Disk() as store:
        assert store.path.is_relative_to(tmp_path)
        assert store.path.name == "memograd"
    with Disk("~/mine") as store:
        assert store.path == tmp_path / "mine"


def test_small_bodies_are_in_the_index_and_large_ones_in_files_stored_once(store):
    store.put(key(0), entry(0, 32 << 10))
    assert list(store.path.glob("files/*/*")) == []
    for n in range(1, 4):
        store.put(key(n), Entry(About(), [BIG[:1000], BIG[1000:]]))
    (file,) = store.path.glob("files/*/*")
    assert file.suffix == ".safetensors"
    assert file.read_bytes() == BIG
    assert store.nbytes < 2 * len(BIG)
    store.delete(key(1))
    store.delete(key(2))
    assert body(store, 3) == BIG
    store.delete(key(3))
    assert not file.exists()
    assert store.count() == 1


def test_a_file_stays_as_it_is_when_its_entry_is_put_again(store):
    store.put(key(0), Entry(About(), [BIG]))
    (file,) = store.path.glob("files/*/*")
    before = file.stat()
    store.put(key(0), Entry(About(seconds=3.0), [BIG]))
    after = file.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert store.get(key(0)).about.seconds == 3.0
    store.put(key(0), entry(0))
    store.flush()
    assert not file.exists()


def test_many_small_puts_are_committed_together_and_had_at_once(store):
    for n in range(100):
        store.put(key(n), entry(n))
        assert body(store, n) == bytes(entry(n).body[0])
    assert len(store._waiting.rows) > 50
    store.flush()
    assert store._waiting.rows == {}
    with Disk(store.path) as other:
        assert other.count() == 100


def test_a_lease_is_kept_until_what_was_put_is_committed(store):
    store.put(key(0), entry(0))  # what follows within 50 ms waits
    lease = store.lease(key(1))
    store.put(key(1), entry(1))
    waits = key(1) in [row.key for row in store._waiting.rows.values()]
    lease.release()
    assert not lease.held
    assert (store.lease(key(1)) is None) or not waits
    store.flush()
    assert store.lease(key(1)).held
    with Disk(store.path) as other:
        assert other.contains(key(1))


def test_facts_are_read_when_they_are_asked_for_once(store, monkeypatch):
    about = About(function="f", text="f(x)", parts={"x": "1"}, tags=("a",), seconds=2.0, created=3.0, expires=1e18)
    store.put(key(0), Entry(about, [b"x"]))
    assert store.get(key(0)).about == about  # while it waits to be committed
    store.flush()
    asked = []
    one = store._index.one
    monkeypatch.setattr(store._index, "one", lambda *args: asked.append(args) or one(*args))
    found = store.get(key(0))
    assert (found.body, asked) == ([b"x"], [])
    assert found == Entry(about, [b"x"])
    assert found.about is found.about
    assert len(asked) == 1


def test_an_entry_that_is_gone_when_its_facts_are_asked_for_has_none_but_its_end(store):
    store.put(key(0), entry(0, function="f", expires=1e18))
    found = store.get(key(0))
    store.delete(key(0))
    assert found.about == About(expires=1e18)


def test_large_bodies_are_mapped_if_wanted(tmp_path):
    for load, maps in [("map", True), ("read", False)]:
        with Disk(tmp_path, load=load) as store:
            assert store.maps is maps


def test_uses_that_another_store_counted_keep_an_entry(tmp_path):
    with Disk(tmp_path, max_bytes=20_000) as store:
        for n in range(10):
            store.put(key(n), entry(n, 1000))
        store.flush()
        with Disk(tmp_path, max_bytes=20_000) as other:
            for _ in range(50):
                assert body(other, 3)
        for n in range(10, 40):
            store.put(key(n), entry(n, 1000))
        assert body(store, 3)
        assert body(store, 2) is None


def test_an_entry_that_is_put_again_begins_without_uses(store):
    store.put(key(0), entry(0))
    store.get(key(0))
    store.flush()
    store.put(key(0), entry(0))
    store.put(key(1), entry(1))
    store.flush()
    assert [info.hits for info in store.infos()] == [0, 0]
    store.get(key(1))
    store.delete(key(1))
    store.put(key(1), entry(1))
    store.flush()
    assert [info.hits for info in store.infos()] == [0, 0]
    assert store.count() == 2


def test_every_thread_may_use_it(store):
    wrong = []

    def work(seed):
        for n in range(200):
            store.put(key(n % 40), entry(n % 40, 50 if n % 3 else 40_000))
            found = store.get(key((n + seed) % 40))
            if found is not None and bytes(found.body[0])[:20] != (b"%d " % ((n + seed) % 40) * 20)[:20]:
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert store.count() == 40


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_reads_and_writes_and_so_does_its_parent(store):
    store.put(key(0), entry(0))
    store.put(key(1), entry(1))  # waits to be committed
    child = os.fork()
    if child == 0:
        good = body(store, 0) is not None and body(store, 1) is not None and store.put(key(2), entry(2))
        store.put(key(3), entry(3))
        store.flush()
        os._exit(0 if good else 1)
    for n in range(4, 30):
        store.put(key(n), entry(n))
    assert os.waitpid(child, 0)[1] == 0
    assert store.count() == 30
    assert [body(store, n) is not None for n in range(4)] == [True] * 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forks_while_threads_write_never_hang(store):
    stop = threading.Event()

    def write():
        n = 0
        while not stop.is_set():
            n += 1
            store.put(key(n % 500), entry(n % 500))
            store.get(key(n % 300))

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    codes = []
    for n in range(30):
        child = os.fork()
        if child == 0:
            good = store.put(b"child%d" % n, entry(n))
            store.flush()
            os._exit(0 if good and store.get(b"child%d" % n) else 1)
        codes.append(os.waitpid(child, 0)[1])
    stop.set()
    for thread in threads:
        thread.join()
    assert codes == [0] * 30
    assert all(store.contains(b"child%d" % n) for n in range(30))


# Eviction.


def test_it_stays_within_its_bytes_and_keeps_what_is_dear(tmp_path):
    with Disk(tmp_path, max_bytes=20_000) as store:
        for n in range(40):
            store.put(key(n), entry(n, 1000, seconds=100.0 if n < 5 else 0.001))
        assert store.nbytes <= 20_000
        assert 10 <= store.count() < 20
        assert all(body(store, n) for n in range(5))


def test_what_is_used_stays_and_what_is_not_goes_in_time(tmp_path):
    with Disk(tmp_path, max_bytes=20_000) as store:
        for n in range(10):
            store.put(key(n), entry(n, 1000))
        for _ in range(5):
            assert body(store, 0)
        for n in range(10, 100):
            store.put(key(n), entry(n, 1000))
            assert body(store, 0)
        assert body(store, 1) is None


def test_files_count_and_are_evicted_before_others_are_written(tmp_path):
    with Disk(tmp_path, max_bytes=300_000) as store:
        for n in range(10):
            assert store.put(key(n), Entry(About(seconds=n + 1.0), [b"%d" % n + BIG]))
            held = sum(path.stat().st_size for path in tmp_path.glob("files/*/*.safetensors"))
            assert held <= 300_000
        assert store.count() == 2
        assert body(store, 9) is not None


def test_what_saves_less_than_all_that_is_there_is_refused_unwritten(tmp_path):
    events = []
    with Disk(tmp_path, max_bytes=150_000) as store:
        store.put(key(0), Entry(About(seconds=100.0), [BIG]))
        end = subscribe(events.append)
        assert store.put(key(1), Entry(About(seconds=0.01), [b"1" + BIG])) is False
        end()
        assert body(store, 0) == BIG
        assert [type(event).__name__ for event in events] == ["Refuse"]
        assert len(list(tmp_path.glob("files/*/*"))) == 1


def test_what_is_larger_than_the_store_is_refused(tmp_path):
    events = []
    end = subscribe(events.append)
    with Disk(tmp_path, max_bytes=5000) as store:
        store.put(key(0), entry(0))
        assert store.put(key(1), entry(1, 6000)) is False
        assert body(store, 0) is not None
    end()
    assert [(event.key, event.reason) for event in events] == [
        (key(1), "the entry has 6,000 bytes, the store holds 5,000")
    ]


def test_evictions_are_told(tmp_path):
    events = []
    end = subscribe(events.append)
    with Disk(tmp_path, max_bytes=3000) as store:
        for n in range(5):
            store.put(key(n), entry(n, 1000, seconds=n + 1.0))
    end()
    assert {type(event).__name__ for event in events} == {"Evict"}
    assert {event.reason for event in events} == {"max_bytes"}


def test_what_is_pinned_stays(tmp_path):
    with Disk(tmp_path, max_bytes=10_000) as store:
        store.put(key(0), entry(0, 1000, seconds=0.0, pinned=True))
        store.put(key(1), entry(1, 1000, seconds=0.0))
        assert store.pin(key(1))
        for n in range(2, 30):
            store.put(key(n), entry(n, 1000))
        assert body(store, 0) and body(store, 1)  # noqa: PT018 - one fact
        store.pin(key(1), pinned=False)
        for n in range(30, 60):
            store.put(key(n), entry(n, 1000))
        assert body(store, 1) is None


def test_where_all_is_pinned_nothing_more_is_taken(tmp_path):
    with Disk(tmp_path, max_bytes=4000) as store:
        for n in range(3):
            assert store.put(key(n), entry(n, 1000, pinned=True))
        assert store.put(key(3), entry(3, 1000)) is False
        assert store.put(key(4), entry(4, 1000, pinned=True)) is False
        assert store.count() == 3


def test_what_has_expired_goes_first(tmp_path):
    clock = FakeClock(1000.0)
    with Disk(tmp_path, max_bytes=6000, clock=clock) as store:
        store.put(key(0), entry(0, 1000, seconds=1e6, expires=1010.0))
        for n in range(1, 4):
            store.put(key(n), entry(n, 1000))
        clock.advance(20)
        assert store.get(key(0)) is None
        assert store.count() == 3
        store.put(key(4), entry(4, 1000))
        assert store.count() == 4
        assert all(body(store, n) for n in range(1, 5))


def test_what_continues_an_evicted_entry_continues_its_parent_and_costs_more(tmp_path):
    with Disk(tmp_path) as store:
        store.put(key(0), entry(0, seconds=1.0))
        store.put(key(1), entry(1, seconds=2.0, parent=key(0)))
        store.put(key(2), entry(2, seconds=4.0, parent=key(1)))
        store.delete(key(1))
        about = store.get(key(2)).about
        assert (about.seconds, about.parent) == (6.0, key(0))
        store.put(key(0), entry(0, seconds=1.5))  # put again is not gone
        assert store.get(key(2)).about.seconds == 6.0
        store.delete(key(0))
        about = store.get(key(2)).about
        assert (about.seconds, about.parent) == (7.5, None)


def test_an_entry_that_is_its_own_parent_harms_nothing(store):
    store.put(key(0), entry(0, parent=key(0)))
    assert store.delete(key(0))
    assert store.count() == 0


def test_what_another_process_has_put_counts(tmp_path):
    program = "import sys; from memograd.store import *; s = Disk(sys.argv[1], max_bytes=20_000)\n" \
        "for n in range(12): s.put(b'%d' % n, Entry(About(seconds=9.0), [b'x' * 1000]))"  # fmt: skip  # noqa: ISC002
    with Disk(tmp_path, max_bytes=20_000) as store:
        store.put(key(0), entry(0, 1000))
        subprocess.run([sys.executable, "-c", program, tmp_path], check=True)
        for n in range(1, 12):
            store.put(key(n), entry(n, 1000, seconds=9.0))
        assert store.nbytes <= 20_000
        assert store.count() <= 16


def test_uses_are_counted_in_batches(store):
    store.put(key(0), entry(0))
    for _ in range(7):
        store.get(key(0))
    assert store._waiting.uses != {}
    (info,) = store.scan(sort="hits", limit=1)
    assert info.hits == 7
    assert store._waiting.uses == {}


def test_clear_gives_the_room_back(store):
    for n in range(300):
        store.put(key(n), entry(n, 10_000))
    store.put(key(300), Entry(About(), [BIG]))
    assert store.clear() == 301
    held = sum(path.stat().st_size for path in store.path.rglob("*") if path.is_file() and path.suffix != ".sqlite-shm")
    assert held < 300_000


def test_bad_arguments_say_what_to_write(tmp_path):
    for options, words in [
        ({"load": "mmap"}, r"load='mmap', expected one of 'map', 'read'"),
        ({"digest": "md5"}, "digest='md5'"),
        ({"fsync": True}, "fsync=True"),
        ({"max_bytes": "much"}, "max_bytes"),
    ]:
        with pytest.raises((ValueError, TypeError), match=words):
            Disk(tmp_path, **options)


def test_the_uses_of_a_process_that_ends_are_counted(tmp_path):
    with Disk(tmp_path) as store:
        store.put(b"key", Entry(About(function="f", seconds=2.0), [b"body"]))
    program = f"from memograd.store import Disk; store = Disk({str(tmp_path)!r}); store.get(b'key'); store.get(b'key')"
    subprocess.run([sys.executable, "-c", program], check=True)
    with Disk(tmp_path) as store:
        (info,) = store.infos()
        assert (info.hits, info.saved) == (2, 4.0)


def test_the_uses_of_a_store_that_is_gone_are_counted(tmp_path):
    store = Disk(tmp_path)
    store.put(b"key", Entry(About(seconds=2.0), [b"body"]))
    store.get(b"key")
    del store
    gc.collect()
    with Disk(tmp_path) as store:
        assert next(iter(store.infos())).hits == 1
