"""Who has the lease of a key gives it back, whatever happens, and nobody waits for himself or for a loop."""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
import threading
from pathlib import Path

import pytest
from tests.threads import together

from memograd import Memo, MemogradWarning, _far, _single, subscribe
from memograd._events import Wait
from memograd._worth import PATIENCE, PATIENCE_AT_FIRST, Worth
from memograd.store import Disk, Memory, Tiered

TIMEOUT = 10

STORES = {
    "memory": lambda _: Memory(),
    "disk": lambda path: Disk(path / "store"),
    "tiered": lambda path: Tiered(Memory(), Disk(path / "store")),
}


@pytest.fixture(params=STORES)
def store(request, tmp_path):
    return STORES[request.param](tmp_path)


@pytest.fixture
def waits():
    seen = []
    end = subscribe(lambda event: seen.append(event) if isinstance(event, Wait) else None)
    yield seen
    end()


# In a file: a list would be a thing that the functions read, and change.
NOTES = tempfile.mkstemp()[1]


@pytest.fixture(autouse=True)
def no_calls():
    Path(NOTES).write_text("", encoding="utf-8")


def note(x):
    with Path(NOTES).open("a", encoding="utf-8") as file:
        file.write(f"{x}\n")


def called():
    """List the calls that were computed."""
    return [int(line) for line in Path(NOTES).read_text(encoding="utf-8").splitlines()]


def double(x):
    note(x)
    return [2 * x]


async def double_async(x):
    note(x)
    await asyncio.sleep(0)
    return [2 * x]


# A thread that waits for itself:


@pytest.mark.parametrize("version", [None, "1"])
@pytest.mark.parametrize("same", [True, False])
def test_two_wrappers_of_one_function_do_not_wait_for_each_other(store, version, same, waits):
    a = Memo(store)
    b = a if same else Memo(store)
    assert together(lambda: b(a(double, version=version), version=version)(6)) == [[12]]
    assert called() == [6]
    assert len(waits) <= 1


def test_two_wrappers_of_one_async_function_do_not_wait_for_each_other(store):
    a, b = Memo(store), Memo(store)
    assert together(lambda: asyncio.run(b(a(double_async))(6))) == [[12]]
    assert called() == [6]


def wrapped_again(x):
    note(x)
    if len(called()) == 1:
        INSIDE[0](x)
    return x


INSIDE = [None]


def in_a_thread(f):
    def ask(x):
        thread = threading.Thread(target=f, args=(x,), daemon=True)
        thread.start()
        thread.join(TIMEOUT)
        assert not thread.is_alive()

    return ask


def in_a_forked_child(f):
    def ask(x):
        child = multiprocessing.get_context("fork").Process(target=f, args=(x,), daemon=True)
        child.start()
        child.join(TIMEOUT)
        assert child.exitcode == 0

    return ask


def test_a_thread_that_was_begun_inside_a_call_computes_what_the_call_stands_still_for(store, monkeypatch):
    monkeypatch.setattr(_single, "PATIENCE", 0.2)
    monkeypatch.setattr(_far, "LOOK_UP", 0.01)
    INSIDE[0] = in_a_thread(Memo(store)(wrapped_again, version="1"))
    Memo(store)(wrapped_again, version="1")(1)
    assert called() == [1, 1]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_that_was_forked_inside_a_call_does_not_wait_for_it(store):
    INSIDE[0] = in_a_forked_child(Memo(store)(wrapped_again, version="1"))
    Memo(store)(wrapped_again, version="1")(1)
    assert called() == [1, 1]


def test_others_are_waited_for_in_proportion_to_what_calls_take():
    worth = Worth()
    assert worth.patience == PATIENCE_AT_FIRST
    worth.note_computed(0.1)
    assert worth.patience == PATIENCE
    worth.note_computed(30.0)
    worth.note_computed(0.1)
    assert worth.patience == 300.0


# A lease that nobody gives back:


class Gate:
    """Stands in the way of who waits for a store, until it is opened."""

    def __init__(self):
        self.began, self.open = threading.Event(), threading.Event()
        self.passed = []

    def pass_through(self):
        self.began.set()
        self.passed.append(self.open.wait(TIMEOUT))

    async def reached(self):
        while not self.began.is_set():  # noqa: ASYNC110 - it is set by another thread
            await asyncio.sleep(0.001)


class Lent:
    """A lease that takes its time to be given back."""

    def __init__(self, lease, gate):
        self.lease, self.gate = lease, gate

    def release(self):
        self.gate.pass_through()
        self.lease.release()


class Slow(Memory):
    """A store of which one method waits behind a gate, the first time."""

    def __init__(self, method):
        super().__init__()
        self.method, self.gate = method, Gate()
        self.given = []

    def _pass(self, method):
        if method == self.method and not self.gate.began.is_set():
            self.gate.pass_through()

    def put(self, key, entry, *, read=0.0):
        self._pass("put")
        return super().put(key, entry, read=read)

    def contains(self, key):
        if self.method == "contains":
            raise OSError("broken")
        return super().contains(key)

    def lease(self, key):
        self._pass("lease")
        lease = super().lease(key)
        if lease is not None:
            self.given.append(lease)
            if self.method == "release" and not self.gate.began.is_set():
                return Lent(lease, self.gate)
        return lease


async def cancelled(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_lease_that_comes_after_its_call_was_cancelled_is_given_back():
    store = Slow("lease")

    async def main():
        f = Memo(store)(double_async)
        task = asyncio.create_task(f(1))
        await store.gate.reached()
        await cancelled(task)
        store.gate.open.set()
        return await asyncio.wait_for(f(1), TIMEOUT)

    assert asyncio.run(main()) == [2]
    assert called() == [1]
    assert not any(lease.held for lease in store.given)


@pytest.mark.parametrize("moment", range(12))
def test_whenever_a_call_is_cancelled_its_lease_is_free(tmp_path, moment):
    store = Disk(tmp_path / "store")

    async def main():
        f = Memo(store)(double_async)
        for key in range(40):
            task = asyncio.create_task(f(key))
            for _ in range(moment):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return await asyncio.wait_for(asyncio.gather(*map(f, range(40))), TIMEOUT)

    assert asyncio.run(main()) == [[2 * key] for key in range(40)]


def test_a_call_that_is_cancelled_while_its_result_is_stored_has_it_stored():
    store = Slow("put")

    async def main():
        task = asyncio.create_task(Memo(store)(double_async, always=True)(1))
        await store.gate.reached()
        await cancelled(task)
        store.gate.open.set()
        return await asyncio.wait_for(Memo(store)(double_async)(1), TIMEOUT)

    assert asyncio.run(main()) == [2]
    assert called() == [1]
    assert not any(lease.held for lease in store.given)


def test_a_lease_is_given_back_where_the_store_fails_after_it():
    store = Slow("contains")
    with pytest.warns(MemogradWarning, match="could not take a lease of"):
        assert Memo(store)(double)(1) == [2]
    assert store.given
    assert not any(lease.held for lease in store.given)


# A loop that is held up:


async def fails(x):
    raise ValueError(x)


@pytest.mark.parametrize(
    ("method", "f"), [("put", double_async), ("release", double_async), ("lease", double_async), ("release", fails)]
)
def test_a_loop_goes_on_while_a_store_takes_its_time(method, f):
    store = Slow(method)

    async def main():
        task = asyncio.create_task(Memo(store)(f, always=True)(1))
        await store.gate.reached()
        store.gate.open.set()
        return await asyncio.gather(task, return_exceptions=True)

    (result,) = asyncio.run(main())
    assert result == [2] or isinstance(result, ValueError)
    assert store.gate.passed == [True]
    assert not any(lease.held for lease in store.given)


def test_of_a_large_result_that_is_mapped_at_each_hit_nothing_stays_in_memory(tmp_path):
    async def large(x):
        note(x)
        return bytes(x)

    async def main():
        f = Memo(Disk(tmp_path / "store"))(large, always=True)
        return [len(await f(2 << 20)) for _ in range(2)], f.cache_info().currsize

    assert asyncio.run(main()) == ([2 << 20] * 2, 0)
