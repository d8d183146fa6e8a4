"""Redis: what the contract does not say of it."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from textwrap import dedent

import pytest
from tests.servers import PATIENCE, RedisServer, shared_server, wait_for

from memograd import subscribe
from memograd._events import Evict, Refuse
from memograd.store import About, Entry, Redis
from memograd.store._holder import is_dead, new_holder
from memograd.store._redis import _reading, _room, _server

__all__ = ["shared_server"]
_numbers = count()
KEYS = [bytes([n * 11 % 256]) * 16 for n in range(64)]


@pytest.fixture
def url(shared_server):
    shared_server.client.flushall()
    return shared_server.url


@pytest.fixture
def store(url):
    with Redis(url, timeout=PATIENCE) as store:
        yield store


def entry(body=b"value", **about):
    return Entry(About(**about), [body])


def body(found):
    return None if found is None else bytes(found.body[0])


class TestPlaces:
    def test_two_namespaces_share_nothing(self, url):
        one, two = Redis(url, namespace="one"), Redis(url, namespace="two*")
        one.put(KEYS[0], entry(b"1"))
        two.put(KEYS[0], entry(b"2"))
        assert (body(one.get(KEYS[0])), body(two.get(KEYS[0]))) == (b"1", b"2")
        assert two.clear() == 1
        assert one.contains(KEYS[0])

    def test_every_key_has_the_tag_of_its_shard(self, store, shared_server):
        store.put_many([(key, entry(seconds=1.0)) for key in KEYS])
        with store.lease(KEYS[0]):
            names = {name.decode() for name in shared_server.client.scan_iter()}
        assert len(names) > len(KEYS)
        for name in names:
            tag, _, rest = name.partition("}:")
            assert tag.startswith("{memograd:memograd:")
            assert not rest.startswith(("e:", "l:")) or rest[2] == tag[-1]

    def test_a_pickled_store_is_another_at_the_same_place(self, url):
        store = Redis(url, namespace="lab", max_bytes="1MB", ttl=100, timeout=PATIENCE)
        store.put(KEYS[0], entry())
        again = pickle.loads(pickle.dumps(store))  # noqa: S301 - what Ray and Dask do to send it
        assert body(again.get(KEYS[0])) == b"value"
        assert again.max_bytes == 1_000_000

    def test_its_repr_has_no_password(self):
        assert "secret" not in repr(Redis("redis://me:secret@host:6379/0?password=secret"))

    @pytest.mark.parametrize(
        "bad",
        [
            {"url": "http://host"},
            {"ttl": 0},
            {"timeout": -1},
            {"namespace": "a{b"},
            {"namespace": ""},
            {"max_bytes": 0},
        ],
    )
    def test_bad_arguments_raise(self, bad):
        with pytest.raises(ValueError, match=r"got|URL"):
            Redis(**{"url": "redis://localhost", **bad})

    @pytest.mark.parametrize("url", ["localhost", "localhost:6379", "http://host", "redis://host:port/0", ""])
    def test_what_is_no_address_is_refused_with_what_to_write(self, url):
        with pytest.raises(ValueError, match=r'Redis\(\) got url=.*; write Redis\("redis://localhost:6379/0"\)'):
            Redis(url)
        with pytest.raises(TypeError, match=r"Redis\(\) got url=6379, expected"):
            Redis(6379)

    def test_no_error_shows_a_password(self):
        with pytest.raises(ValueError, match="got url=") as error:
            Redis("redis://me:secret/more@host:6379/0")
        assert "secret" not in f"{error.value}{error.value.__cause__}"
        assert "cret" not in repr(Redis("redis://me:se@cret@host:6379/0"))

    def test_times_may_have_units(self):
        assert Redis("redis://localhost", ttl="7d", timeout="500ms")._writing._ttl == 604_800
        with pytest.raises(ValueError, match=r'Redis\(\) got ttl=.7 parsec., expected .*; write ttl="7d"'):
            Redis("redis://localhost", ttl="7 parsec")

    def test_it_speaks_over_a_unix_socket(self, tmp_path):
        with RedisServer("--unixsocket", str(tmp_path / "s")), Redis(f"unix://{tmp_path}/s?db=0") as store:
            wait_for((tmp_path / "s").exists)
            assert store.put(KEYS[0], entry())
            assert store.contains(KEYS[0])

    def test_plain_names_are_enough_for_a_server_that_is_part_of_a_cluster(self):
        with RedisServer("--cluster-enabled", "yes") as server:
            server.client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            wait_for(lambda: _is_whole(server))
            _everything(Redis(server.url, max_bytes="1MB", timeout=PATIENCE))

    @pytest.mark.slow
    def test_a_cluster_of_two_is_found_by_either(self):
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
        with _clustered(*options) as one, _clustered(*options) as two:
            one.client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 8000)
            two.client.execute_command("CLUSTER", "ADDSLOTSRANGE", 8001, 16383)
            bus = two.port_of_the_bus
            one.client.execute_command("CLUSTER", "MEET", "127.0.0.1", two.port, bus)
            for server in (one, two):
                wait_for(lambda server=server: _is_whole(server))
            store = Redis(one.url, max_bytes="1MB", timeout=PATIENCE)
            _everything(store)
            store.put_many([(key, entry()) for key in KEYS])
            assert min(server.client.dbsize() for server in (one, two)) > 0
            store.close()


class _Clustered(RedisServer):
    port_of_the_bus = 0


def _clustered(*options):
    from tests.servers import free_port

    bus = free_port()
    server = _Clustered(*options, "--cluster-port", str(bus))
    server.port_of_the_bus = bus
    return server


def _is_whole(server):
    info = str(server.client.execute_command("CLUSTER INFO"))
    return re.search(r"cluster_state\W+ok", info) and re.search(r"cluster_slots_assigned\W+16384", info)


def _everything(store):
    for n, key in enumerate(KEYS):
        assert store.put(key, entry(b"%d" % n, seconds=1.0))
    assert store.put(KEYS[0], entry(bytes(_server.CHUNK + 1))) is False  # more than max_bytes
    assert [body(found) for found in store.get_many(KEYS)] == [b"%d" % n for n in range(len(KEYS))]
    assert {info.key for info in store.infos()} == set(KEYS)
    assert store.nbytes > 0
    assert store.pin(KEYS[1])
    with store.lease(KEYS[0]) as lease:
        assert lease.held
        assert store.lease(KEYS[0]) is None
    assert store.delete(KEYS[0])
    for n in range(20):
        store.put(b"large%d" % n, entry(bytes(100_000), seconds=1.0))
    assert 0 < store.nbytes <= 1_000_000
    assert store.clear() > 0
    assert list(store.infos()) == []
    assert store.nbytes == 0


class TestSizes:
    @pytest.mark.parametrize("nbytes", [_reading.FIRST - 100, _reading.FIRST, _server.CHUNK, 3 * _server.CHUNK + 1])
    def test_large_entries_go_and_come_in_pieces(self, store, nbytes):
        data = os.urandom(nbytes)
        assert store.put(KEYS[0], Entry(About(), [data[:7], memoryview(data)[7:1000], data[1000:]]))
        assert body(store.get(KEYS[0])) == data

    def test_nothing_is_left_on_its_way(self, store, shared_server):
        store.put(KEYS[0], entry(bytes(3 * _server.CHUNK)))
        assert not [name for name in shared_server.client.scan_iter() if b":new:" in name]

    def test_what_redis_would_not_take_is_refused(self, store, monkeypatch):
        monkeypatch.setattr(_room, "MAX_ENTRY", 1000)
        seen = []
        end = subscribe(seen.append)
        assert store.put(KEYS[0], entry(bytes(2000))) is False
        end()
        assert [type(event) for event in seen] == [Refuse]

    def test_a_text_that_is_no_unicode_is_taken(self, store):
        assert store.put(KEYS[0], entry(text="f('\ud800')", parts={"\ud800": "x"}))
        assert store.get(KEYS[0]).about.text == "f('?')"

    def test_of_absurdly_long_facts_the_name_is_kept(self, store):
        assert store.put(KEYS[0], entry(function="f", parts={"x": "y" * 2_000_000}))
        assert store.get(KEYS[0]).about.function == "f"

    @pytest.mark.parametrize("seconds", [float("inf"), float("-inf"), -1.0])
    def test_absurd_costs_are_taken(self, store, seconds):
        store.put(KEYS[0], entry(seconds=seconds))
        store.put(KEYS[1], entry())
        assert store.nbytes > 0


class TestEviction:
    def test_what_saves_the_most_seconds_a_byte_stays(self, url):
        store = Redis(url, max_bytes=100_000, timeout=PATIENCE)
        for n, key in enumerate(KEYS):
            store.put(key, entry(bytes(9_000), seconds=10.0 ** (n % 8)))
        left = [info.about.seconds for info in store.infos()]
        assert store.nbytes <= 100_000
        assert len(left) >= 10
        assert left.count(1e7) == 8

    def test_what_is_read_stays(self, url):
        store = Redis(url, max_bytes=100_000, timeout=PATIENCE)
        store.put(KEYS[0], entry(bytes(9_000), seconds=1.0))
        for key in KEYS[1:]:
            assert store.get(KEYS[0])
            store.put(key, entry(bytes(9_000), seconds=1.0))
        assert store.contains(KEYS[0])

    def test_what_was_dear_and_is_not_read_goes_in_time(self, url):
        store = Redis(url, max_bytes=50_000, timeout=PATIENCE)
        store.put(KEYS[0], entry(bytes(9_000), seconds=20.0))
        for n in range(300):
            store.put(b"%d" % n, entry(bytes(9_000), seconds=1.0))
        assert not store.contains(KEYS[0])

    def test_pinned_entries_stay(self, url):
        store = Redis(url, max_bytes=50_000, timeout=PATIENCE)
        store.put(KEYS[0], entry(bytes(9_000), pinned=True))
        store.put(KEYS[1], entry(bytes(9_000)))
        assert store.pin(KEYS[1])
        for n in range(50):
            store.put(b"%d" % n, entry(bytes(9_000), seconds=9.0))
        assert store.contains(KEYS[0])
        assert store.contains(KEYS[1])
        assert store.nbytes <= 50_000

    def test_where_all_is_pinned_nothing_is_taken(self, url):
        store = Redis(url, max_bytes=20_000, timeout=PATIENCE)
        assert store.put(KEYS[0], entry(bytes(9_000), pinned=True))
        assert store.put(KEYS[1], entry(bytes(9_000), pinned=True))
        assert store.put(KEYS[2], entry(bytes(9_000), seconds=1e9)) is False

    def test_an_entry_put_again_drives_out_nobody(self, url):
        store = Redis(url, max_bytes=50_000, timeout=PATIENCE)
        for key in KEYS[:5]:
            store.put(key, entry(bytes(9_000), seconds=1.0))
        for _ in range(10):
            assert store.put(KEYS[0], entry(bytes(9_000), seconds=1.0))
        assert store.count() == 5

    def test_several_who_write_stay_within_the_bound_but_for_what_is_on_its_way(self, url):
        stores = [Redis(url, max_bytes=200_000, timeout=PATIENCE) for _ in range(4)]

        def work(me):
            for n in range(60):
                stores[me].put(b"%d %d" % (me, n), entry(bytes(5_000), seconds=1.0))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        stores[0]._room.known = 0
        stores[0].put(KEYS[0], entry(bytes(5_000), seconds=10.0))
        assert stores[0].nbytes <= 200_000

    def test_evictions_are_told(self, url):
        store = Redis(url, max_bytes=20_000, timeout=PATIENCE)
        seen = []
        end = subscribe(seen.append)
        for key in KEYS[:3]:
            store.put(key, entry(bytes(9_000), seconds=1.0))
        end()
        assert [event for event in seen if type(event) is Evict]


class TestTime:
    def test_all_entries_of_a_store_expire(self, url):
        store = Redis(url, ttl=0.2, timeout=PATIENCE)
        store.put(KEYS[0], entry())
        assert store.get(KEYS[0]).about.expires is not None
        wait_for(lambda: store.get(KEYS[0]) is None)
        wait_for(lambda: store.nbytes == 0)
        assert list(store.infos()) == []

    def test_a_put_without_an_end_takes_the_end_away(self, store):
        store.put(KEYS[0], entry(expires=time.time() + 0.3))
        store.put(KEYS[0], entry(b"stays"))
        time.sleep(0.5)
        assert body(store.get(KEYS[0])) == b"stays"
        assert store.nbytes > 0


class TestLeases:
    def test_it_is_renewed_while_it_is_held(self, url):
        one, two = (Redis(url, lease_ttl=0.3, timeout=PATIENCE) for _ in range(2))
        with one.lease(KEYS[0]) as lease:
            end = time.monotonic() + 1
            while time.monotonic() < end:
                assert two.lease(KEYS[0]) is None
                assert lease.held
                time.sleep(0.02)
        assert two.lease(KEYS[0]).held

    def test_the_thread_that_renews_ends_with_the_last_lease(self, url):
        store = Redis(url, lease_ttl=0.15, timeout=PATIENCE)
        others = _beating()
        for _ in range(2):
            with store.lease(KEYS[0]), store.lease(KEYS[1]):
                assert len(_beating() - others) == 1
            wait_for(lambda: not _beating() - others)

    def test_a_lease_that_another_took_is_lost(self, store, shared_server):
        short = Redis(shared_server.url, lease_ttl=0.3, timeout=PATIENCE)
        lease = short.lease(KEYS[0])
        shared_server.client.set(store._server.turn(KEYS[0]), "another")
        wait_for(lambda: not lease.held)
        lease.release()
        assert shared_server.client.get(store._server.turn(KEYS[0])) == b"another"

    def test_without_a_server_it_is_lost_after_its_time(self):
        with RedisServer() as server:
            lease = Redis(server.url, lease_ttl=0.3).lease(KEYS[0])
            server.stop()
            wait_for(lambda: not lease.held)

    def test_a_holder_that_died_here_is_seen_at_once(self, store):
        child = _hold(store._server.url)
        assert store.lease(KEYS[0]) is None
        child.kill()
        child.wait()
        lease = store.lease(KEYS[0])
        assert lease.held
        assert store.lease(KEYS[0]) is None

    def test_of_many_who_see_the_dead_one_gets_the_lease(self, store):
        child = _hold(store._server.url)
        child.kill()
        child.wait()
        with ThreadPoolExecutor(8) as pool:
            leases = list(pool.map(lambda _: store.lease(KEYS[0]), range(8)))
        assert len([lease for lease in leases if lease is not None]) == 1

    def test_a_holder_on_another_host_is_waited_for(self, store, shared_server):
        shared_server.client.set(store._server.turn(KEYS[0]), "another-host/1 1 1 abc", px=300)
        assert store.lease(KEYS[0]) is None
        wait_for(lambda: store.lease(KEYS[0]) is not None)

    def test_a_child_has_none_of_its_parents_leases(self, store):
        lease = store.lease(KEYS[0])
        child = os.fork()
        if child == 0:
            held = lease.held
            lease.release()
            os._exit(int(held))
        assert os.waitpid(child, 0)[1] == 0
        assert lease.held
        assert store.lease(KEYS[0]) is None

    def test_leases_of_a_forked_child_are_renewed(self, url):
        store = Redis(url, lease_ttl=0.3, timeout=PATIENCE)
        mine = store.lease(KEYS[0])
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                lease = store.lease(KEYS[1])
                time.sleep(1)
                os._exit(0 if lease.held else 1)
            os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        assert mine.held

    def test_readonly_everybody_computes(self, url):
        store = Redis(url, readonly=True)
        assert store.lease(KEYS[0]).held
        assert store.lease(KEYS[0]).held

    def test_a_holder_is_known_by_more_than_its_pid(self):
        host, pid, started, rest = new_holder().split(" ")
        assert not is_dead(f"{host} {pid} {started} {rest}")
        assert is_dead(f"{host} {pid} {int(started) + 1} {rest}")
        assert is_dead(f"{host} 99999999 {started} {rest}")
        for strange in (
            "",
            "a b c d",
            f"{host} x 1 a",
            f"{host} -1 1 a",
            f"{host} {'9' * 50} 1 a",
            "- 1 1 a",
            "\0 " * 9,
        ):
            assert not is_dead(strange)

    @pytest.mark.slow
    def test_16_processes_compute_each_of_64_keys_once(self, url, shared_server):
        workers = [_worker(url) for _ in range(16)]
        shared_server.client.set("go", 1)
        assert [worker.wait(60) for worker in workers] == [0] * 16
        computed = shared_server.client.hgetall("computed")
        assert len(computed) == 64
        assert set(computed.values()) == {b"1"}

    @pytest.mark.slow
    def test_killed_holders_cost_one_computation_each(self, url, shared_server):
        client = shared_server.client
        workers = [_worker(url, seconds=0.05) for _ in range(16)]
        client.set("go", 1)
        for at in range(5):
            wait_for(lambda at=at: client.hlen("computed") > 5 * at)
            workers[at].kill()
            workers[at].wait()
        assert [worker.wait(60) for worker in workers[5:]] == [0] * 11
        counts = [int(n) for n in client.hgetall("computed").values()]
        assert len(counts) == 64
        assert sum(counts) <= 64 + 5


def _beating():
    return {thread for thread in threading.enumerate() if thread.name == "memograd-lease"}


def _program(text, *arguments):
    return subprocess.Popen([sys.executable, "-c", dedent(text), *arguments], stdout=subprocess.PIPE)


def _hold(url):
    child = _program(
        """
        import sys, time
        from memograd.store import Redis
        lease = Redis(sys.argv[1], lease_ttl=1000, timeout=20).lease(bytes([0]) * 16)
        print(lease.held, flush=True)
        time.sleep(1000)
        """,
        url,
    )
    assert child.stdout.readline() == b"True\n"
    child.stdout.close()
    return child


def _worker(url, seconds=0.002):
    worker = _program(
        """
        import random, sys, time
        import redis
        from memograd.store import About, Entry, Redis
        url, seconds = sys.argv[1], float(sys.argv[2])
        store, client = Redis(url, timeout=20), redis.Redis.from_url(url)
        while not client.exists("go"):
            time.sleep(0.01)
        keys = [bytes([n]) * 16 for n in range(64)]
        random.shuffle(keys)
        for key in keys:
            while (entry := store.get(key)) is None:
                lease = store.lease(key)
                if lease is None:
                    time.sleep(0.005)
                    continue
                with lease:
                    if store.get(key) is None:
                        client.hincrby("computed", key.hex(), 1)
                        time.sleep(seconds)
                        assert store.put(key, Entry(About(), [key * 10]))
            assert bytes(entry.body[0]) == key * 10
        """,
        url,
        str(seconds),
    )
    worker.stdout.close()
    return worker
