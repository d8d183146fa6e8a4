"""Among the tasks of a loop one call computes and all who want it wait; whoever is cancelled, the others get it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import random
import sys
import threading

import pytest
from tests.threads import together

from memograd._async import AsyncFlight, _inside
from memograd._key import MISSING


class Memory:
    """As a wrapped function uses a flight."""

    def __init__(self, f, keeps=True, shares=True, gives=True):
        self.f, self.keeps, self.shares, self.gives = f, keeps, shares, gives
        self.flight = AsyncFlight()
        self.store = {}
        self.began = []
        self.taken = []

    async def __call__(self, *args):
        return await self.flight.answer(
            args,
            lambda: self.store.get(args, MISSING),
            lambda: self.compute(*args),
            lambda value: self.put(args, value),
            lambda shared: self.taken.append(args) or (shared if self.gives else MISSING),
        )

    async def compute(self, *args):
        self.began.append(args)
        return await self.f(*args)

    async def put(self, args, value):
        if self.keeps:
            self.store[args] = value
        return value if self.shares else MISSING


def run(main):
    """Run a coroutine function in a loop of its own; nothing is logged, and nothing is left behind."""
    logged = []

    async def watched():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
        result = await asyncio.wait_for(main(), 30)
        await ticks(3)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        gc.collect()
        return result

    result = asyncio.run(watched())
    assert logged == []
    return result


async def ticks(count):
    for _ in range(count):
        await asyncio.sleep(0)


class Gate:
    """A body that waits until it is let go, and notes what becomes of it."""

    def __init__(self):
        self.began = asyncio.Event()
        self.open = asyncio.Event()
        self.became = []

    async def __call__(self, _):
        self.began.set()
        try:
            await self.open.wait()
        except BaseException as error:
            self.became.append(type(error))
            await asyncio.sleep(0)
            self.became.append("cleaned up")
            raise
        self.became.append("done")
        return object()


def test_sixteen_tasks_that_want_one_key_compute_it_once():
    async def main():
        async def f(x):
            await ticks(3)
            return object()

        memory = Memory(f, keeps=False)
        results = await asyncio.gather(*(memory(1) for _ in range(16)))
        assert (len(set(results)), memory.began, memory.taken) == (1, [(1,)], [(1,)] * 15)
        assert memory.flight.running == {}

    run(main)


def test_what_is_remembered_is_not_computed():
    async def main():
        async def f(x):
            return object()

        memory = Memory(f)
        assert await memory(1) is await memory(1)
        assert memory.began == [(1,)]

    run(main)


def test_different_keys_are_computed_at_the_same_time():
    async def main():
        inside, all_are_inside = set(), asyncio.Event()

        async def f(x):
            inside.add(x)
            if len(inside) == 8:
                all_are_inside.set()
            await all_are_inside.wait()
            return x

        assert await asyncio.gather(*map(Memory(f), range(8))) == list(range(8))

    run(main)


def test_each_loop_is_by_itself():
    async def f(x):
        here.add(threading.get_ident())
        while len(here) < 2:  # noqa: ASYNC110 - the other is in another loop
            await asyncio.sleep(0.001)
        return x

    here, memory = set(), Memory(f, keeps=False)

    async def main():
        return await memory(1)

    assert together(*[lambda: run(main)] * 2) == [1, 1]
    assert len(memory.began) == 2


async def begun(callers=1):
    """A call that so many tasks wait for: what its body waits for, what remembers it, and the tasks."""
    gate = Gate()
    memory = Memory(gate)
    tasks = [asyncio.create_task(memory(1)) for _ in range(callers)]
    await gate.began.wait()
    return gate, memory, tasks


@pytest.mark.parametrize("gone", [[0], [1], [0, 1], [2, 0], [1, 2, 3]])
def test_whoever_is_cancelled_the_others_get_the_value(gone):
    async def main():
        gate, memory, tasks = await begun(4)
        for index in gone:
            tasks[index].cancel()
        await ticks(3)
        assert [task.cancelled() for task in tasks] == [index in gone for index in range(4)]
        gate.open.set()
        left = [task for index, task in enumerate(tasks) if index not in gone]
        assert len(set(await asyncio.gather(*left))) == 1
        assert (gate.became, memory.began, len(memory.store)) == (["done"], [(1,)], 1)

    run(main)


@pytest.mark.parametrize("callers", [1, 2, 5])
def test_when_nobody_waits_any_longer_the_call_is_cancelled_and_cleans_up_before_the_last_goes(callers):
    async def main():
        gate, memory, tasks = await begun(callers)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
        assert gate.became == [asyncio.CancelledError, "cleaned up"]
        assert (memory.store, memory.flight.running) == ({}, {})

    run(main)


def test_who_asks_while_a_call_is_being_cancelled_computes_anew():
    async def main():
        gate, memory, (first,) = await begun()
        first.cancel()
        await asyncio.sleep(0)
        second = asyncio.create_task(memory(1))
        await asyncio.wait([first])
        gate.open.set()
        assert (await second, memory.began) == (memory.store[1,], [(1,), (1,)])

    run(main)


def test_a_body_that_answers_a_cancellation_with_a_value_gives_it():
    async def f():
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            return "swallowed"

    async def plain_and_memo(call):
        task = asyncio.create_task(call())
        await ticks(5)
        task.cancel()
        return await task

    async def main():
        return await plain_and_memo(f), await plain_and_memo(Memory(f))

    assert run(main) == ("swallowed", "swallowed")


def test_a_second_cancellation_reaches_a_body_that_is_slow_to_end():
    async def main():
        async def f():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(30)
            await asyncio.sleep(30)

        task = asyncio.create_task(Memory(f)())
        await ticks(3)
        task.cancel()
        await ticks(3)
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    run(main)


def test_a_timeout_ends_one_wait_only():
    async def main():
        gate = Gate()
        memory = Memory(gate)
        patient = asyncio.create_task(memory(1))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(memory(1), 0.01)
        gate.open.set()
        assert await patient is memory.store[1,]

    run(main)


def test_an_exception_is_raised_for_all_who_wait_and_not_remembered():
    async def main():
        async def f():
            await ticks(2)
            if len(memory.began) == 1:
                raise ValueError("no")
            return "yes"

        memory = Memory(f)
        results = await asyncio.gather(*(memory() for _ in range(5)), return_exceptions=True)
        assert [str(result) for result in results] == ["no"] * 5
        assert (await memory(), len(memory.began)) == ("yes", 2)

    run(main)


def test_a_body_that_cancels_itself_cancels_its_callers_as_the_plain_one_does():
    async def main():
        async def f():
            raise asyncio.CancelledError

        memory = Memory(f)
        for call in (f, memory):
            with pytest.raises(asyncio.CancelledError):
                await call()
        assert memory.flight.running == {}

    run(main)


def test_an_exception_that_comes_with_the_last_cancellation_is_not_logged():
    async def main():
        async def f():
            try:
                await asyncio.sleep(30)
            finally:
                raise ValueError("while cleaning up")

        task = asyncio.create_task(Memory(f)())
        await ticks(3)
        task.cancel()
        with pytest.raises(ValueError, match="while cleaning up"):
            await task

    run(main)


@pytest.mark.parametrize("options", [{"shares": False}, {"gives": False}])
def test_after_a_result_that_serves_one_caller_the_others_compute(options):
    async def main():
        async def f(x):
            await ticks(2)
            return object()

        memory = Memory(f, keeps=False, **options)
        results = await asyncio.gather(*(memory(1) for _ in range(4)))
        assert (len(set(results)), len(memory.began)) == (4, 4)

    run(main)


def test_a_call_that_needs_itself_recurs_as_the_plain_one_does():
    async def main():
        depth = 0

        async def f():
            nonlocal depth
            depth += 1
            return depth if depth == 5 else await memory()

        memory = Memory(f, keeps=False)
        assert await memory() == 5

    run(main)


def test_calls_that_wait_for_each_other_in_a_circle_all_return():
    async def main():
        began = []

        async def f(x):
            began.append(x)
            if len(began) > 3:
                return "beside"
            if len(began) == 3:
                all_began.set()
            await all_began.wait()
            return await memory((x + 1) % 3)

        all_began, memory = asyncio.Event(), Memory(f)
        assert await asyncio.gather(*map(memory, range(3))) == ["beside"] * 3
        assert len(began) == 4

    run(main)


def test_a_circle_through_gathered_calls_is_seen():
    async def main():
        async def f(x):
            path = inside.get()
            if x in path:
                return 0
            inside.set((*path, x))
            await asyncio.sleep(0)
            return 1 + sum(await asyncio.gather(memory((x + 1) % 3), memory((x + 2) % 3)))

        inside = contextvars.ContextVar("inside", default=())
        memory = Memory(f, keeps=False)
        assert len(await asyncio.gather(*map(memory, range(3)))) == 3

    run(main)


def test_a_recursion_deeper_than_the_stack_returns():
    async def main():
        async def f(n):
            return n if n < 2 else await memory(n - 1) + await memory(n - 2)

        memory = Memory(f)
        value = await memory(3000)
        assert len(str(value)) == 627
        assert len(memory.began) == 3001

    run(main)


def test_a_body_runs_in_the_context_of_the_first_caller_and_what_it_sets_is_set_for_that_one():
    async def main():
        name, note = contextvars.ContextVar("name"), contextvars.ContextVar("note", default=None)

        async def f():
            await ticks(2)
            note.set(f"called by {name.get()}")
            return name.get()

        memory = Memory(f)

        async def caller(who):
            name.set(who)
            return await memory(), note.get()

        assert await asyncio.gather(caller("a"), caller("b")) == [("a", "called by a"), ("a", None)]

    run(main)


def test_a_body_that_raises_has_set_its_context_variables_too():
    async def main():
        note = contextvars.ContextVar("note", default=None)

        async def f():
            note.set("set")
            raise ValueError

        with contextlib.suppress(ValueError):
            await Memory(f)()
        assert note.get() == "set"

    run(main)


def test_a_caller_is_not_inside_a_call_that_has_ended():
    async def main():
        await Memory(lambda: asyncio.sleep(0))()
        assert _inside.get() is None

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tasks never share a context here")
def test_what_is_set_for_a_caller_meanwhile_stays():
    async def main():
        name = contextvars.ContextVar("name")
        name.set("before")
        context, gate = contextvars.copy_context(), Gate()
        memory = Memory(gate)

        async def caller():
            await memory(1)
            return name.get()

        task = asyncio.create_task(caller(), context=context)
        await gate.began.wait()
        context.run(name.set, "meanwhile")
        gate.open.set()
        assert await task == "meanwhile"

    run(main)


def test_a_body_begins_in_the_modes_of_its_caller():
    """Another task has set the modes of the thread by the time that the call gets its first step."""
    torch = pytest.importorskip("torch")

    async def f(x):
        y = x * 2
        await ticks(3)
        return y

    async def without_grad(call, x):
        with torch.no_grad():
            return await call(x)

    async def with_grad(steps):
        with torch.enable_grad():
            await ticks(steps)

    async def main():
        x = torch.ones(2, requires_grad=True)
        found = []
        for call in (f, Memory(f)):
            y, _ = await asyncio.gather(without_grad(call, x), with_grad(1))
            found.append(y.requires_grad)
            await ticks(5)
            torch.set_grad_enabled(True)
        return found

    assert run(main) == [False, False]


def test_outside_of_asyncio_calls_are_remembered():
    async def f(x):
        return object()

    def drive(coroutine):
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value

    memory = Memory(f)
    assert drive(memory(1)) is drive(memory(1))


def test_a_caller_whose_loop_was_closed_leaves_nothing():
    memory = Memory(lambda: asyncio.sleep(30))
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    coroutine = memory()
    task = loop.create_task(coroutine)
    loop.run_until_complete(asyncio.sleep(0.01))
    assert len(memory.flight.running) == 1
    loop.close()
    coroutine.close()
    assert memory.flight.running == {}
    del task


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="tasks are never eager here")
def test_tasks_that_begin_eagerly_do_as_well():
    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)

        async def f(x):
            return x

        memory = Memory(f)
        assert await asyncio.gather(*(memory(x % 3) for x in range(9))) == [0, 1, 2] * 3
        assert len(memory.began) == 3

    run(main)


@pytest.mark.parametrize("seed", range(10))
def test_random_schedules_of_calls_and_cancellations_end_right(seed):
    """A hundred times: tasks ask for keys that need others, some fail, and some tasks are cancelled at any moment."""
    rng = random.Random(seed)

    async def schedule():
        before = asyncio.all_tasks()
        keys = range(rng.randint(1, 6))
        needs = {key: rng.sample(range(key), rng.randint(0, min(2, key))) for key in keys}
        steps = {key: rng.randint(0, 3) for key in keys}
        failing = {key for key in keys if rng.random() < 0.1}
        at_work = dict.fromkeys(keys, 0)

        async def f(key):
            at_work[key] += 1
            assert at_work[key] == 1 or doomed
            try:
                await ticks(steps[key])
                values = await asyncio.gather(*map(memory, needs[key]))
                assert values == needs[key]
                if key in failing:
                    raise ValueError(key)
                return key
            finally:
                at_work[key] -= 1

        memory = Memory(f, keeps=rng.random() < 0.5)

        async def ask(key, steps):
            await ticks(steps)
            return await memory(key)

        tasks = [asyncio.create_task(ask(rng.choice(keys), rng.randint(0, 8))) for _ in range(rng.randint(1, 12))]
        doomed = [task for task in tasks if rng.random() < 0.3]
        for task in doomed:
            await ticks(rng.randint(0, 4))
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for task, result in zip(tasks, results, strict=True):
            assert isinstance(result, (int, ValueError)) or task in doomed
        await asyncio.gather(*asyncio.all_tasks() - before, return_exceptions=True)
        assert memory.flight.running == {}
        assert set(at_work.values()) == {0}

    async def main():
        for _ in range(100):
            await schedule()

    run(main)
