"""A Redis that is gone, slow, full, flushed or hostile costs computations and one warning: never a wrong value."""

from __future__ import annotations

import random
import struct
import warnings
from contextlib import suppress
from itertools import product

import pytest
from tests.servers import PATIENCE, RedisServer, redis_server, shared_server, wait_for

from memograd import MemogradWarning
from memograd.store import About, Entry, Redis
from memograd.store._redis._entry import HEAD, seal
from memograd.store._redis._lua import INDEX_SHA, SOURCES

__all__ = ["redis_server", "shared_server"]
KEYS = [bytes([n * 11 % 256]) * 16 for n in range(64)]


def entry(body=b"value", **about):
    return Entry(About(**about), [body])


def body(found):
    return None if found is None else bytes(found.body[0])


def nothing_is_there(store):
    """Ask everything, of a server that cannot answer."""
    assert store.get(KEYS[0]) is None
    assert store.get_many(KEYS) == [None] * len(KEYS)
    assert store.put(KEYS[0], entry()) is False
    assert store.put_many([(key, entry()) for key in KEYS]) == 0
    assert store.contains(KEYS[0]) is False
    assert store.delete(KEYS[0]) is False
    assert store.pin(KEYS[0]) is False
    assert store.clear() == 0
    assert store.nbytes == 0
    assert list(store.infos()) == []
    with store.lease(KEYS[0]) as lease, store.lease(KEYS[0]) as another:
        assert lease.held
        assert another.held
    store.close()


class TestGone:
    def test_nobody_was_ever_there(self):
        store = Redis("redis://127.0.0.1:1/0")
        with pytest.warns(MemogradWarning, match="is away: ConnectionError.*until it answers again") as said:
            assert [store.get(KEYS[0]) for _ in range(20)] == [None] * 20
        assert len(said) == 1
        nothing_is_there(store)

    def test_a_name_that_nobody_has(self):
        with pytest.warns(MemogradWarning, match="is away"):
            nothing_is_there(Redis("redis://no-such-host.invalid/0"))

    def test_killed_and_started_again(self, redis_server):
        store = Redis(redis_server.url, max_bytes="1MB")
        assert store.put(KEYS[0], entry())
        lease = store.lease(KEYS[0])
        redis_server.stop()
        with pytest.warns(MemogradWarning, match="is away") as said:
            answers = {
                (store.get(key), store.put(key, entry()), store.lease(key).held, store.nbytes) for key in KEYS * 10
            }
        assert answers == {(None, False, True, 0)}
        assert len(said) == 1
        lease.release()
        redis_server.start()
        wait_for(lambda: store.put(KEYS[1], entry(b"again")))
        assert body(store.get(KEYS[1])) == b"again"
        with store.lease(KEYS[0]):
            assert store.lease(KEYS[0]) is None

    def test_started_again_between_two_questions_nobody_notices(self, redis_server):
        store = Redis(redis_server.url)
        store.put(KEYS[0], entry())
        redis_server.stop()
        redis_server.start()
        assert store.get(KEYS[0]) is None
        assert store.put(KEYS[0], entry(b"again"))
        assert body(store.get(KEYS[0])) == b"again"

    def test_two_losses_are_two_warnings(self, redis_server):
        store = Redis(redis_server.url)
        for _ in range(2):
            wait_for(lambda: store.put(KEYS[0], entry()))
            redis_server.stop()
            with pytest.warns(MemogradWarning, match="is away") as said:
                assert store.get(KEYS[0]) is None
            assert len(said) == 1
            redis_server.start()

    def test_a_store_that_nobody_has_any_more_is_not_sought(self):
        import gc
        import threading

        store = Redis("redis://127.0.0.1:1/0")
        before = {thread for thread in threading.enumerate() if thread.name == "memograd-reconnect"}
        with pytest.warns(MemogradWarning):
            store.get(KEYS[0])
        (seeker,) = {thread for thread in threading.enumerate() if thread.name == "memograd-reconnect"} - before
        del store
        gc.collect()
        wait_for(lambda: not seeker.is_alive())

    def test_slow_is_gone_until_it_answers(self, redis_server):
        store = Redis(redis_server.url, timeout=0.2)
        store.put(KEYS[0], entry())
        redis_server.pause()
        with pytest.warns(MemogradWarning, match="is away: TimeoutError") as said:
            assert {store.get(KEYS[0]) for _ in range(1000)} == {None}  # each would wait 0.2 s
        assert len(said) == 1
        redis_server.resume()
        wait_for(lambda: body(store.get(KEYS[0])) == b"value")

    def test_a_port_that_talks_of_something_else(self):
        import socket
        import threading

        def talk():
            for n in range(50):
                with suppress(OSError), listener.accept()[0] as one:
                    one.sendall(random.randbytes(5000) if n % 2 else b"*1\r\n" * 5000)

        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=talk, daemon=True).start()
            with pytest.warns(MemogradWarning, match="is away"):
                nothing_is_there(Redis(f"redis://127.0.0.1:{listener.getsockname()[1]}/0"))


class TestFull:
    def test_flushed(self, redis_server):
        store = Redis(redis_server.url, max_bytes="1MB")
        store.put_many([(key, entry(bytes(1000))) for key in KEYS])
        redis_server.client.flushall()
        assert store.get_many(KEYS) == [None] * len(KEYS)
        assert (list(store.infos()), store.nbytes) == ([], 0)
        assert store.put(KEYS[0], entry())
        assert body(store.get(KEYS[0])) == b"value"

    def test_scripts_that_were_forgotten_are_taught_again(self, redis_server):
        store = Redis(redis_server.url)
        store.put(KEYS[0], entry())
        redis_server.client.script_flush()
        assert store.put_many([(key, entry()) for key in KEYS]) == len(KEYS)
        assert INDEX_SHA in SOURCES

    def test_full_without_eviction(self):
        with RedisServer("--maxmemory", "4mb", "--maxmemory-policy", "noeviction") as server:
            store = Redis(server.url, timeout=PATIENCE)
            with pytest.warns(MemogradWarning, match="is full.*allkeys-lru.*max_bytes=") as said:
                taken = [store.put(key, entry(key * 10_000)) for key in KEYS]
            assert len(said) == 1
            assert 0 < sum(taken) < len(KEYS)
            assert [body(found) for found in store.get_many(KEYS)] == [
                key * 10_000 if there else None for key, there in zip(KEYS, taken, strict=True)
            ]
            assert store.put(KEYS[0], entry(bytes(9_000_000))) is False
            assert not [name for name in server.client.scan_iter() if b":new:" in name]
            assert store.clear() == sum(taken)

    def test_it_mends_its_index_when_the_server_evicts(self):
        with RedisServer("--maxmemory", "5mb", "--maxmemory-policy", "allkeys-random") as server:
            store = Redis(server.url, timeout=PATIENCE)
            for n in range(3000):
                store.put(b"%d" % n, entry(b"%d" % n * 1000, seconds=1.0))
                found = store.get(b"%d" % (n // 2))
                assert body(found) in {None, b"%d" % (n // 2) * 1000}
            client = server.client
            client.config_set("maxmemory", "100mb")
            there = {n for n in range(3000) if store.get(b"%d" % n)}
            assert 0 < len(there) < 3000
            infos = list(store.infos())
            assert {int(info.key) for info in infos} == there
            assert store.nbytes == sum(info.nbytes for info in infos)
            assert store.clear() == len(there)
            assert client.dbsize() == 0

    def test_a_server_that_may_not_be_written_to_is_read(self, redis_server):
        store = Redis(redis_server.url)
        store.put(KEYS[0], entry())
        redis_server.client.config_set("repl-diskless-sync-delay", 0)
        with RedisServer("--replicaof", "127.0.0.1", str(redis_server.port)) as replica:
            reader = Redis(replica.url, timeout=PATIENCE)
            with pytest.warns(MemogradWarning, match="it is a replica") as said:
                _use_a_replica(reader)
            assert len(said) == 1
            quiet = Redis(replica.url, readonly=True)
            assert body(quiet.get(KEYS[0])) == b"value"
            assert len(list(quiet.infos())) == 1
            assert quiet.nbytes > 0


def _use_a_replica(reader):
    wait_for(lambda: body(reader.get(KEYS[0])) == b"value")
    assert reader.put(KEYS[1], entry()) is False
    assert reader.lease(KEYS[1]).held


class TestWho:
    def test_a_password(self):
        with RedisServer(password="secret") as server:  # noqa: S106 - of a server that lives for this test
            assert Redis(server.url).put(KEYS[0], entry())
            for wrong in (server.url.replace("secret", "guess"), server.url.replace(":secret@", "")):
                with pytest.warns(MemogradWarning, match="write user and password into the URL") as said:
                    nothing_is_there(Redis(wrong))
                assert not any("guess" in str(each.message) for each in said)

    def test_a_user_without_rights(self, redis_server):
        redis_server.client.execute_command("ACL", "SETUSER", "me", "on", ">x", "~other*", "+@all")
        store = Redis(redis_server.url.replace("//", "//me:x@"))
        with pytest.warns(MemogradWarning, match="ACL SETUSER") as said:
            nothing_is_there(store)
        assert len(said) == 1

    def test_the_rights_that_the_warning_names_are_enough(self, redis_server):
        redis_server.client.execute_command("ACL", "SETUSER", "me", "on", ">x", "~{memograd:*", "+@all", "-@dangerous")
        store = Redis(redis_server.url.replace("//", "//me:x@"), max_bytes="1MB")
        assert store.put_many([(key, entry()) for key in KEYS]) == len(KEYS)
        assert store.lease(KEYS[0]).held
        assert len(list(store.infos())) == len(KEYS)
        assert store.clear() == len(KEYS)

    def test_tls(self):
        with RedisServer(tls=True) as server:
            assert server.url.startswith("rediss://")
            with Redis(server.url) as store:
                assert store.put(KEYS[0], entry(bytes(100_000)))
                assert body(store.get(KEYS[0])) == bytes(100_000)
            with pytest.warns(MemogradWarning, match="certificate"):
                nothing_is_there(Redis(server.url.partition("?")[0]))


@pytest.fixture
def place(shared_server):
    """A store, and the client of whoever writes into its keys."""
    client = shared_server.client
    client.flushall()
    with Redis(shared_server.url, timeout=PATIENCE, max_bytes="10MB") as store:
        yield store, client


def _poisons():
    good = b"".join(bytes(piece) for piece in seal(KEYS[0], entry(b"good" * 10, text="f(1)", seconds=1.0)))
    another = b"".join(bytes(piece) for piece in seal(KEYS[1], entry(b"evil" * 10)))
    head = struct.Struct(">4sBBIQ32s")
    yield "of another key", another
    yield "of another version", good[:4] + b"\2" + good[5:]
    yield "of no known kind", b"\x80\x04" + good[2:]
    yield "cut off", good[:-1]
    yield "with more behind it", good + b"x"
    yield "a header alone", good[:HEAD]
    yield "half a header", good[:20]
    yield "zeros", bytes(1000)
    yield "a body of 2^62 bytes", head.pack(b"mgrd", 1, 0, 0, 1 << 62, bytes(32))
    yield "a body of 2^62 bytes and much of it", head.pack(b"mgrd", 1, 0, 0, 1 << 62, bytes(32)) + bytes(2 << 20)
    yield "400 MB that are not there", head.pack(b"mgrd", 1, 0, 0, 400 << 20, bytes(32)) + bytes(2 << 20)
    yield "facts of 4 GB", head.pack(b"mgrd", 1, 0, 0xFFFFFFFF, 0, bytes(32))
    for facts in (b"[" * 100_000, b"{}", b'{"seconds":1e999}', b'{"parts":3}', b"\xff", b'{"parent":"?"}', b"null"):
        yield f"facts {facts[:20]}", head.pack(b"mgrd", 1, 0, len(facts), 0, bytes(32)) + facts


class TestHostile:
    @pytest.mark.parametrize("poison", [pytest.param(data, id=name) for name, data in _poisons()])
    def test_what_is_no_entry_is_not_there_and_is_taken_out(self, place, poison):
        store, client = place
        store.put(KEYS[0], entry())
        client.set(store._server.entry(KEYS[0]), poison)
        list(store.infos())
        assert Redis(store._server.url, readonly=True).get(KEYS[0]) is None
        assert client.exists(store._server.entry(KEYS[0]))
        assert store.get_many(KEYS[:3]) == [None] * 3
        assert not store.contains(KEYS[0])
        assert store.put(KEYS[0], entry(b"new"))
        assert body(store.get(KEYS[0])) == b"new"

    @pytest.mark.parametrize(
        ("kind", "name"),
        list(product(["string", "list", "hash", "set", "zset"], ["e", "l", "facts", "order", "expiring"])),
    )
    def test_keys_of_other_types(self, place, kind, name):
        store, client = place
        store.put(KEYS[0], entry(expires=9e9))
        name = {"e": store._server.entry(KEYS[0]), "l": store._server.turn(KEYS[0])}.get(
            name, f"{store._server.tag('0')}:{name}"
        )
        client.delete(name)
        if kind == "string":
            client.set(name, "x")
        elif kind == "hash":
            client.hset(
                name, mapping={"nbytes": "nan", "clock": "-inf", "x": "y", KEYS[0].hex(): "a b", "00": "1" * 99}
            )
        elif kind == "zset":
            client.zadd(name, {KEYS[0].hex(): 1, "x": 2, "\0": float("inf"), "00" * 1000: -5})
        else:
            getattr(client, {"list": "rpush", "set": "sadd"}[kind])(name, "x")
        list(store.infos())
        assert store.nbytes >= 0
        assert body(store.get(KEYS[0])) in {None, b"value"}
        lease = store.lease(KEYS[0])
        assert lease is not None
        assert lease.held
        lease.release()
        assert store.put(KEYS[0], entry(b"new"))
        assert body(store.get(KEYS[0])) == b"new"
        for n in range(30):
            store.put(b"\0%d" % n, entry(bytes(1_000_000)))
        assert store.nbytes <= 10_000_000
        store.clear()
        assert client.dbsize() == 0

    def test_single_flipped_bits(self, place):
        store, client = place
        dice = random.Random(0)
        good = entry(dice.randbytes(300), function="f", text="f(1)", parts={"x": "1"}, seconds=1.0)
        store.put(KEYS[0], good)
        name = store._server.entry(KEYS[0])
        data = client.get(name)
        for _ in range(2000):
            bad = bytearray(data)
            at = dice.randrange(8 * len(data))
            bad[at // 8] ^= 1 << at % 8
            client.set(name, bytes(bad))
            found = store.get(KEYS[0])
            # The byte that says whether it is pinned is not part of the digest, nor of the value.
            assert found is None or (at // 8 == 5 and body(found) == bytes(good.body[0]))

    def test_a_good_entry_put_meanwhile_is_not_discarded(self, place):
        store, _ = place
        store.put(KEYS[0], entry())
        store._server.batch([store._server.index("discard", KEYS[0], b"mgrd-another")])
        assert store.contains(KEYS[0])

    def test_nothing_that_is_stored_is_run(self, place):
        store, client = place
        client.set(store._server.entry(KEYS[0]), b"cos\nsystem\n(S'touch /tmp/owned'\ntR.")
        client.set(store._server.turn(KEYS[0]), "redis.call('FLUSHALL')")
        assert store.get(KEYS[0]) is None
        assert store.lease(KEYS[0]).held


def test_a_server_that_answers_says_nothing(place):
    store, _ = place
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.put_many([(key, entry()) for key in KEYS])
        store.get_many(KEYS)
