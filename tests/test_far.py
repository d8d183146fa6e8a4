"""Results that outlive the process: what is stored is found again, by whoever asks for the same."""

from __future__ import annotations

import copy
import marshal
import pickle
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle
import numpy as np
import pytest
import torch
from blake3 import blake3
from torch import nn
from xxhash import xxh3_128_digest

from memograd import Memo, MemogradWarning, memo, subscribe
from memograd._events import Miss, Refuse, Wait
from memograd._key import Key
from memograd._worth import Worth
from memograd.codec import encode
from memograd.fingerprint._content import identify, writings_of_keys
from memograd.store import Array, Entry, Memory, Null

# In a file: a list would be a thing that the functions read, and a part of their keys.
NOTES = tempfile.mkstemp()[1]


@pytest.fixture(autouse=True)
def no_calls():
    Path(NOTES).write_text("", encoding="utf-8")


def note():
    with Path(NOTES).open("a", encoding="utf-8") as file:
        file.write("called\n")


def called():
    """Count the calls that were computed."""
    return len(Path(NOTES).read_text(encoding="utf-8").splitlines())


def slowly(value):
    """Note a call, and take longer than it takes to read its result back."""
    note()
    time.sleep(0.002)
    return value


def double(x):
    return slowly(x * 2)


def in_new_process(store, f, **how):
    """Wrap a function as another process would: nothing of it is in memory."""
    return Memo(store)(f, **how)


@pytest.mark.parametrize(
    "value",
    [3, 2.5, "text", b"bytes", None, (1, "a"), [1, [2]], {"a": 1}, {1, 2}, torch.arange(6.0).view(2, 3).T],
    ids=repr,
)
def test_a_stored_result_is_found_by_another_process(value):
    store = Memory()

    def f(at):
        slowly(at)
        return copy.deepcopy(value)

    first = in_new_process(store, f)(1)
    second = in_new_process(store, f)(1)
    assert called() == 1
    assert type(first) is type(second)
    assert repr(first) == repr(second)
    if isinstance(value, torch.Tensor):
        assert second.stride() == value.stride()


def test_what_a_caller_does_to_a_result_that_was_read_changes_no_other():
    store = Memory()
    in_new_process(store, double)([1])
    f = in_new_process(store, double)
    f([1]).append(3)
    f([1]).append(4)
    assert f([1]) == in_new_process(store, double)([1]) == [1, 1]
    assert called() == 1


def test_other_arguments_and_other_code_are_not_found():
    store = Memory()
    in_new_process(store, double)(1)
    in_new_process(store, double)(2)
    in_new_process(store, double)(1.0)
    in_new_process(store, lambda x: slowly(x * 3))(1)
    assert called() == 4


def negated(x):
    return slowly(-x)


def test_functions_of_one_version_are_told_apart_by_name():
    store = Memory()
    assert in_new_process(store, double, version="1")(1) == 2
    assert in_new_process(store, negated, version="1")(1) == -1
    assert in_new_process(store, double, version="2")(1) == 2
    assert in_new_process(store, double, version="1")(1) == 2
    assert called() == 3


def scaled(k):
    def f(x):
        return slowly(x * k)

    return f


@pytest.mark.parametrize("make", [scaled, lambda k: lambda x: slowly(x * k), lambda k: partial(times, k)])
def test_a_version_of_what_has_no_name_of_its_own_stays_in_memory(make):
    store = Memory()
    for k in (1, 2, 3):
        f = in_new_process(store, make(k), version="1")
        with pytest.warns(MemogradWarning, match="no name of its own"):
            assert f(10) == 10 * k
    assert store.count() == 0


def times(k, x):
    return slowly(k * x)


def test_a_call_that_draws_is_found_by_the_state_of_the_stream_and_moves_it():
    store = Memory()

    def draw():
        slowly(0)
        return random.random()

    random.seed(1)
    plain = [random.random() for _ in range(4)]
    for _ in range(2):
        random.seed(1)
        f = in_new_process(store, draw)
        assert [f() for _ in range(4)] == plain
    assert called() == 4


log: list[int] = []


def logs(x):
    log.append(x)
    return slowly(x)


def test_a_call_that_writes_a_log_is_found_by_another_process():
    store = Memory()
    for _ in range(2):
        log.clear()
        f = in_new_process(store, logs)
        assert f(1) == f(1) == 1
    assert called() == 1


def test_gradients_flow_through_a_result_that_was_read():
    store, weight = Memory(), torch.tensor([2.0, 3.0], requires_grad=True)

    def f(x):
        slowly(0)
        return (x * weight).sum()

    grads = []
    for _ in range(2):
        x = torch.ones(2, requires_grad=True)
        y = in_new_process(store, f)(x)
        weight.grad = None
        y.backward()
        grads.append((y.item(), x.grad.tolist(), weight.grad.tolist()))
    assert grads[0] == grads[1] == (5.0, [2.0, 3.0], [1.0, 1.0])


def test_modules_are_found_by_their_weights():
    store = Memory()

    class Slow(nn.Linear):
        def forward(self, x):
            slowly(0)
            return super().forward(x)

    torch.manual_seed(0)
    one = Slow(3, 2)
    like = Slow(3, 2)
    like.load_state_dict(one.state_dict())
    x = torch.ones(1, 3)
    with torch.no_grad():
        assert torch.equal(Memo(store)(one)(x), Memo(store)(like)(x))
        assert called() == 1
        like.weight.add_(1)
        Memo(store)(like)(x)
    assert called() == 2


class Opaque:
    pass


def test_a_result_that_cannot_be_written_stays_in_memory_and_that_is_said_once():
    store = Memory()

    def f(x):
        slowly(x)
        return Opaque()

    g = in_new_process(store, f, copy=False)
    with pytest.warns(MemogradWarning, match="register"):
        g(1)
    g(2)
    g(1)
    assert called() == 2
    assert store.count() == 0


def test_a_part_of_an_argument_stays_in_memory():
    store = Memory()

    def f(x):
        slowly(0)
        return x[0]

    x = [[1], [2]]
    g, seen = in_new_process(store, f), []
    end = subscribe(seen.append)
    with pytest.warns(MemogradWarning, match="part of the arguments"):
        assert g(x) is x[0]
    end()
    assert g(x) is x[0]
    assert store.count() == 0
    assert any(isinstance(event, Refuse) and "part of the arguments" in event.reason for event in seen)


def test_a_key_that_stands_for_itself_stays_in_memory():
    store, lock = Memory(), threading.Lock()

    def f(x):
        with lock:
            return slowly(x)

    with pytest.warns(MemogradWarning, match="stands for itself"):
        in_new_process(store, f)(1)
    assert store.count() == 0


def far_of(f):
    return f.cache_clear.__self__._recall.far


def test_what_is_computed_sooner_than_it_is_read_is_not_stored():
    store = Memory()
    f = in_new_process(store, double)
    far_of(f).worth.reading = 10.0
    f(1)
    f(2)
    assert store.count() == 0
    g = in_new_process(store, double, always=True)
    far_of(g).worth.reading = 10.0
    g(1)
    assert store.count() == 1


def test_a_function_that_is_computed_sooner_than_it_is_read_is_looked_for_now_and_then():
    pays = Worth()
    assert pays.looks()
    pays.note_computed(1e-6)
    pays.note_read(1e-4)
    asked = [pays.looks() for _ in range(100)]
    assert 1 < sum(asked) < 10
    for _ in range(100):
        pays.note_computed(1.0)
    assert pays.looks()
    assert pays.takes(1.0)
    assert not pays.takes(1e-6)


def test_a_recursion_stores_its_outermost_call_alone():
    store = Memory()

    @Memo(store)
    def deep(n):
        return slowly(0) if n == 0 else deep(n - 1) + 1

    assert deep(200) == 200
    assert store.count() == 1
    in_new_process(store, deep.__wrapped__)


def test_a_call_within_a_call_of_another_function_is_stored():
    store = Memory()
    memo = Memo(store)
    inner = memo(double)
    outer = memo(lambda x: inner(x) + slowly(1))
    outer(1)
    assert store.count() == 2


class Broken(Memory):
    """A store of which everything fails."""

    def get(self, *_, **__):
        raise OSError("gone")

    put = delete = contains = lease = infos = get


def test_a_store_that_fails_costs_computations_and_one_warning_a_kind():
    f = in_new_process(Broken(), double)
    with pytest.warns(MemogradWarning, match="gone") as said:  # noqa: PT031 - each may warn, once
        assert f(1) == 2
        assert f(2) == 4
        assert f.cached(3) is False
        assert f.forget(3) is False
        f.cache_clear()
        assert f(1) == 2
    assert len({str(warning.message) for warning in said}) == len(said)
    assert called() == 3


@pytest.mark.parametrize("body", [b"", b"garbage", b"\xff" * 64])
def test_garbage_in_a_store_costs_a_computation(body):
    store = Memory()
    in_new_process(store, double)(1)
    (info,) = store.infos()
    store.put(info.key, Entry(info.about, [body]))
    assert in_new_process(store, double)(1) == 2
    assert called() == 2


def test_cached_forget_and_clear_reach_what_is_stored():
    store = Memory()
    in_new_process(store, double)(1)
    in_new_process(store, lambda x: slowly(x + 5))(1)
    f = in_new_process(store, double)
    assert f.cached(1)
    assert f.forget(1)
    assert not f.cached(1)
    f(1)
    f(2)
    f.cache_clear()
    assert store.count() == 1
    assert not f.cached(2)


def test_of_two_who_ask_at_once_one_computes_and_the_other_waits():
    store, results, seen = Memory(), [], []

    def f(x):
        note()
        time.sleep(0.3)
        return x + 1

    def ask():
        results.append(in_new_process(store, f)(1))

    end = subscribe(seen.append)
    threads = [threading.Thread(target=ask) for _ in range(2)]
    threads[0].start()
    while not called():
        time.sleep(0.001)
    threads[1].start()
    for thread in threads:
        thread.join()
    end()
    assert results == [2, 2]
    assert called() == 1
    assert any(isinstance(event, Wait) for event in seen)


def test_a_lease_ends_when_the_call_raises():
    store = Memory()

    def f(x):
        note()
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            in_new_process(store, f)(1)
    assert called() == 2


@pytest.mark.parametrize("mode", ["read", "refresh"])
def test_modes_hold_for_what_is_stored(mode):
    store = Memory()
    in_new_process(store, double)(1)
    f = in_new_process(store, double, mode=mode)
    f(1)
    f(2)
    assert (called(), store.count()) == {"read": (2, 1), "refresh": (3, 2)}[mode]


def test_entries_say_what_they_are():
    store = Memory()
    in_new_process(store, double, tags=("a", "b"), ttl="1h")(7)
    (info,) = store.infos()
    assert info.about.function.endswith("test_far.double")
    assert info.about.text == "double(x=7)"
    assert info.about.parts["x"] == "7"
    assert info.about.tags == ("a", "b")
    assert info.about.seconds > 0.002
    assert 3500 < info.about.expires - time.time() <= 3600


def test_a_store_that_keeps_nothing_is_no_store():
    f = in_new_process(Null(), double)
    assert f(1) == f(1) == 2
    assert called() == 1


def test_events_tell_a_hit_of_a_stored_result():
    store, seen = Memory(), []
    in_new_process(store, double)(1)
    end = subscribe(seen.append)
    in_new_process(store, double)(1)
    end()
    assert [type(event).__name__ for event in seen] == ["Hit"]
    assert not any(isinstance(event, Miss) for event in seen)


async def slowly_async(x):
    import asyncio

    note()
    await asyncio.sleep(0.002)
    return [x]


def test_async_calls_are_stored_and_found():
    import asyncio

    store = Memory()

    async def main():
        return await asyncio.gather(*(in_new_process(store, slowly_async)(1) for _ in range(4)))

    assert asyncio.run(main()) == [[1]] * 4
    assert asyncio.run(in_new_process(store, slowly_async)(1)) == [1]
    assert called() == 1


PROGRAM = """
import sys, time
from memograd import Memo
memo = Memo(sys.argv[1])
ran = []
@memo
def embed(text, scale=1.0):
    ran.append(text)
    time.sleep(0.005)
    return {"text": text, "sizes": [len(text) * scale]}
print(embed("hello"), embed("hello", scale=2.0), len(ran))
"""


def test_a_script_that_is_run_again_computes_nothing(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(PROGRAM, encoding="utf-8")

    def run(seed):
        environment = {"PYTHONHASHSEED": seed, "PATH": "", "PYTHONPATH": ":".join(sys.path)}
        command = [sys.executable, str(script), str(tmp_path / "store")]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    first, second = run("1"), run("2")
    assert first.endswith(" 2\n")
    assert second.endswith(" 0\n")
    assert first[:-2] == second[:-2]


def test_it_is_counted_what_was_found_behind_memory():
    store = Memory()
    in_new_process(store, double)(1)
    f = in_new_process(store, double)
    f(1)
    f(1)
    assert (f.cache_info().hits, f.stats().found) == (2, 1)


def test_a_miss_is_explained_by_the_nearest_call_that_is_stored():
    store = Memory()

    def f(x, scale=1.0):
        return slowly([*x, scale])

    in_new_process(store, f)([1, 2], scale=2.0)
    in_new_process(store, f)([3], scale=5.0)
    explanation = in_new_process(store, f).explain([1, 2], 4.0)
    assert not explanation.remembered
    assert explanation.nearest == "f(x=[1, 2], scale=2.0)"
    assert explanation.differs == ("scale",)
    assert "differs in scale" in str(explanation)


def test_a_table_of_dynamic_programming_is_filled_level_by_level_and_lasts(tmp_path):
    def open_table():
        return Array(tmp_path / "table", shape=2000, dtype="int64")

    def binomials(memo):
        @memo
        def count(n):
            return 1 if n < 2 else (count(n - 1) + count(n - 2)) % 1_000_007

        return count

    first = binomials(Memo(open_table()))
    assert first(1500) == binomials(Memo())(1500)
    assert len(open_table()) == 1501
    again = binomials(Memo(open_table()))
    assert again(1500) == first(1500)
    assert again.cache_info().misses == 0


def test_rows_of_other_code_are_none_of_this_ones():
    table = Array(None, shape=10, dtype="int64")
    Memo(table)(lambda n: n + 1)(3)
    with pytest.warns(MemogradWarning, match="rows of other code"):
        assert Memo(table)(lambda n: n + 2)(3) == 5


@pytest.mark.parametrize("value", [2.5, True, 2**70, "text", None], ids=repr)
def test_what_would_come_back_otherwise_is_no_row(value):
    table = Array(None, shape=10, dtype="int64")

    def f(n):
        note()
        return value

    with pytest.warns(MemogradWarning, match="no row of"):
        assert Memo(table)(f)(3) is value
    assert len(table) == 0


def test_features_by_index_are_rows():
    features = Array(None, shape=(10, 3), dtype=torch.float32)

    def f(n):
        return slowly(torch.full((3,), float(n)))

    for _ in range(2):
        assert torch.equal(Memo(features)(f)(4), torch.full((3,), 4.0))
    assert called() == 1


@pytest.mark.parametrize("n", [-1, 10, True, 2.0, "3"], ids=repr)
def test_arguments_that_are_no_index_are_remembered_in_memory(n):
    table = Array(None, shape=10, dtype="int64")
    f = Memo(table)(lambda n: 7)
    assert f(n) == f(n) == 7
    assert len(table) == 0


def test_tenants_with_other_salts_find_nothing_of_each_other():
    store = Memory()
    Memo(store, salt="a")(double)(1)
    Memo(store, salt="b")(double)(1)
    Memo(store)(double, salt="a")(1)
    assert (called(), store.count()) == (2, 2)


def spelled(*chunks: bytes) -> bytes:
    return b"".join(len(chunk).to_bytes(8, "little") + chunk for chunk in chunks)


def test_a_key_is_digested_as_its_format_says():
    """docs/formats/key.md, by hand."""
    f = in_new_process(Memory(), double, version="7", salt="lab")
    python = f"{sys.implementation.cache_tag} {sys.byteorder}"
    version = spelled(b"memograd key 1", f"{__name__}.double ".encode(), b"7", b"('x',)", python.encode())
    key = Key((f.cache_key(3).function, int, 3))
    key.function.state = (b"7", None)  # whatever torch's modes are here
    expected = spelled(b"lab", b"", version, b"." + marshal.dumps(3, 2))
    assert far_of(f).digest(key) == xxh3_128_digest(expected)


@pytest.mark.parametrize("shared", [False, True])
def test_where_others_write_keys_are_digested_by_blake3(shared):
    class Shared(Memory):
        pass

    Shared.shared = shared
    store = Shared()
    f = in_new_process(store, double)
    f([1])
    (info,) = store.infos()
    far, key = far_of(f), f.cache_key([1])
    chunks = spelled(b"", b"", far.subject.written(key.function), b"c" + bytes(key[2]))
    digests = {True: blake3(chunks).digest(length=16), False: xxh3_128_digest(chunks)}
    assert info.key == digests[shared]


def test_frozen_weights_have_one_digest_whichever_is_asked_for_first():
    weight = torch.arange(100.0)
    with memo.frozen(nn.ParameterList([weight])):
        first, second = (identify([weight], writings_of_keys(digest)[0]) for digest in ("xxh3", "blake3"))
    assert first == identify([weight], writings_of_keys("xxh3")[0])
    assert second == identify([weight], writings_of_keys("blake3")[0]) != first


def test_a_store_travels_with_a_function_that_is_pickled_by_value(tmp_path):
    f = Memo(tmp_path / "store")(double)
    f(1)
    copied = cloudpickle.loads(cloudpickle.dumps(f))
    assert copied(1) == 2
    assert called() == 1


def test_a_store_travels_with_a_module(tmp_path):
    net = Memo(tmp_path / "store")(nn.Linear(3, 2), always=True)
    with torch.no_grad():
        y = net(torch.ones(3))
        copied = pickle.loads(pickle.dumps(net))  # noqa: S301 - it is our own
        assert torch.equal(copied(torch.ones(3)), y)
    assert copied.stats().found == 1


class Everything(NamedTuple):
    name: str
    at: datetime
    many: dict[str, Any]


def test_results_of_many_kinds_come_back_from_a_disk(tmp_path):
    def f(n):
        slowly(0)
        x = torch.arange(6.0).view(2, 3)
        shared = [x.t(), x[0]]
        return Everything("a", datetime(2026, 1, 2, tzinfo=timezone.utc), {"x": x, "again": shared, "big": 10**n})

    first, second = (Memo(tmp_path / "store")(f)(5000) for _ in range(2))
    assert called() == 1
    assert (first.name, first.at, first.many["big"]) == (second.name, second.at, second.many["big"])
    assert second.many["again"][0].stride() == (1, 3)
    second.many["x"][0, 0] = 7
    assert second.many["again"][1][0] == second.many["again"][0][0, 0] == 7
    assert Memo(tmp_path / "store")(f)(5000).many["x"][0, 0] == 0


def test_a_result_with_gradients_is_read_once():
    store, weight = Memory(), torch.tensor(2.0, requires_grad=True)

    def f(x):
        slowly(0)
        return x * weight

    in_new_process(store, f)(torch.tensor(3.0))
    g = in_new_process(store, f)
    g(torch.tensor(3.0)).backward()
    assert (g.stats().found, g.cache_info().hits, weight.grad.item()) == (1, 1, 3.0)


def test_to_ask_whether_a_result_is_stored_is_no_use_of_it():
    store = Memory()
    in_new_process(store, double)(1)
    assert not in_new_process(store, double).cached(2)
    (info,) = store.infos()
    assert info.hits == 0


def test_an_array_that_was_cleared_is_anyones():
    table = Array(None, shape=10, dtype="int64")
    Memo(table)(lambda n: n + 1)(3)
    table.clear()
    assert Memo(table)(lambda n: n + 2)(3) == 5
    assert table[3] == 5


def test_a_large_result_of_a_disk_takes_no_memory_and_is_no_ones_to_spoil(tmp_path):
    def f(n):
        slowly(0)
        return torch.arange(float(n))

    g = Memo(tmp_path / "store")(f)
    first = g(1_000_000)
    again = g(1_000_000)
    assert g.cache_info().currsize == 0
    assert (called(), g.cache_info().hits) == (1, 1)
    first.zero_()
    again.zero_()
    assert torch.equal(g(1_000_000), torch.arange(1e6))


def test_it_is_explained_whether_a_result_is_stored_and_why_not():
    store = Memory()
    f = in_new_process(store, double)
    f(1)
    assert f.explain(1).stored == "has it"
    assert f.explain(2).stored == "has it not"
    far_of(f).worth.reading = 10.0
    assert "computed sooner than read" in f.explain(2).stored
    assert Memo()(double).explain(1).stored == ""
    assert repr(store) in repr(Memo(store))


def test_a_disk_may_stand_before_what_is_shared(tmp_path):
    shared = Memory()
    Memo(disk=tmp_path / "mine", shared=shared, memory="64MiB")(double)(1)
    assert shared.count() == 1
    Memo(disk=tmp_path / "mine")(double)(1)
    Memo(disk=tmp_path / "other", shared=shared)(double)(1)
    Memo(disk=tmp_path / "other")(double)(1)
    assert called() == 1


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (lambda: Memo({}, disk="x"), "write Memo(disk=..., shared=...)"),
        (lambda: Memo(memory=1, max_bytes=1), "leave one out"),
        (lambda: Memo(disk=3), "for a store, expected"),
        (lambda: memo(ttl="soon"), 'write ttl="7d"'),
        (lambda: memo(ttl=-1), "seconds above 0"),
        (lambda: memo(salt=3), "expected a str"),
    ],
)
def test_what_is_no_store_is_refused_with_what_to_write(make, advice):
    with pytest.raises((TypeError, ValueError), match=re.escape(advice)):
        make()


def drawn(n):
    return slowly(n) + random.random()


def test_a_draw_for_ever_is_given_to_those_alone_who_ask_for_one():
    store = Memory()
    random.seed(1)
    frozen = in_new_process(store, drawn, rng="freeze")(1)
    random.seed(2)
    assert in_new_process(store, drawn, rng="freeze")(1) == frozen
    assert in_new_process(store, drawn)(1) != frozen


def test_who_computes_anew_does_so_for_those_who_read(tmp_path):
    store, source = Memory(), tmp_path / "source"

    def f():
        slowly(0)
        return source.read_text()

    source.write_text("old")
    in_new_process(store, f)()
    source.write_text("new")
    g = in_new_process(store, f, mode="refresh")
    far_of(g).worth.reading = 10.0  # it is computed sooner than read
    assert g() == "new"
    assert in_new_process(store, f)() == "new"


def test_a_part_of_an_argument_stays_in_memory_without_copies_too():
    store = Memory()

    def f(x):
        slowly(0)
        return x[0]

    x = [[1], [2]]
    with pytest.warns(MemogradWarning, match="part of the arguments"):
        assert in_new_process(store, f, copy=False)(x) is x[0]
    assert store.count() == 0


@pytest.mark.parametrize(
    "form",
    [
        ("value", 2, {"evil": ()}, {}),
        ("value", 2, {"random": (3, b"abc", None)}, {}),
        ("value", 2, {"torch": (b"abc",)}, {}),
        ("value", 2, {"numpy.random": ("MT19937", bytes(2496), "uint32", 700, 0, 0.0)}, {}),
        ("value", 2, {"numpy.random": ("MT19937", bytes(2496), "uint32", -1, 0, 0.0)}, {}),
        ("value", 2, {}, {99: 1}),
        ("value", 2, {}, {0: b"x"}),
        ("signpost", ("evil",), ()),
        ("signpost", ([1],), ()),
        ("signpost", (), ([1],)),
        ("signpost", (), ("evil",)),
        ("graded", 2, 3),
        ("signpost", 3, 4),
        ("other", 1),
        (),
        7,
    ],
    ids=repr,
)
def test_an_entry_that_says_what_it_may_not_costs_a_computation(form):
    np.random.rand()
    store, states = Memory(), (random.getstate(), torch.get_rng_state(), np.random.get_state()[1].tobytes())
    in_new_process(store, double)(1)
    (info,) = store.infos()
    store.put(info.key, Entry(info.about, encode(form)))
    f = in_new_process(store, double)
    assert f(1) == f(1) == 2
    assert called() == 2
    assert (random.getstate(), np.random.get_state()[1].tobytes()) == (states[0], states[2])
    assert torch.equal(torch.get_rng_state(), states[1])


def test_functions_of_plain_arguments_step_aside_from_a_store_too():
    f = in_new_process(Memory(), double)
    f(1)
    assert f.stats().seconds.compute > 0


def forked(n):
    with torch.random.fork_rng():
        return slowly(torch.rand(n))


def test_a_draw_that_puts_the_stream_back_is_one_of_its_state():
    store = Memory()
    for wrap in (in_new_process, lambda _, f: memo(f)):
        values = []
        for seed in (0, 1, 0):
            torch.manual_seed(seed)
            values.append(wrap(store, forked)(3))
            assert torch.equal(torch.get_rng_state(), torch.manual_seed(seed).get_state())
        assert torch.equal(values[0], values[2])
        assert not torch.equal(values[0], values[1])


LAZY = """
import sys, time
import numpy as np
from memograd import Memo
assert "numpy.random" not in sys.modules
@Memo(sys.argv[1])
def f(n):
    time.sleep(0.01)
    return np.random.rand(n).tolist()
print(f(1), f(1), f(1))
"""


def test_a_stream_that_is_loaded_by_the_call_is_not_remembered(tmp_path):
    command = [sys.executable, "-W", "error", "-c", LAZY, str(tmp_path / "store")]
    outputs = {subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(2)}
    assert len(outputs) == 2
    assert all(len(set(output.split())) == 3 for output in outputs)
