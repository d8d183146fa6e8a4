"""One thread computes, the others wait; nothing that happens to one of them leaves another waiting."""

from __future__ import annotations

import _thread
import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.threads import TIMEOUT, together

from memograd import Memo, _single
from memograd._key import MISSING
from memograd._single import ALONE, Turn, Turns


def is_waited_for(turns, key, waiters=1):
    """Wait until so many threads wait for the turn at a key."""
    end = time.monotonic() + TIMEOUT
    while sum(other is turns.turns.get(key) for other in list(_single._waiting.values())) < waiters:
        assert time.monotonic() < end, "nobody waits"
        time.sleep(0.001)


class Memory:
    """As a wrapped function uses turns: look, join, look again, compute, put, leave."""

    def __init__(self):
        self.turns = Turns()
        self.store = {}
        self.computed = []
        self.given = []

    def get(self, key, compute, put=True, alone=False):
        if key in self.store:
            return self.store[key]
        turn = Turn()
        try:
            value = self.turns.join(turn, key)
            if value is not MISSING:
                self.given.append(key)
                return value
            if self.turns.crowded and key in self.store:
                turn.value = self.store[key]
                return turn.value
            self.computed.append(key)
            value = compute()
            if alone:
                turn.value = ALONE
            if put:
                self.store[key] = turn.value = value
            return value
        finally:
            turn.owner = 0
            self.turns.leave(turn, key)


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    yield
    assert (_single._waiting, _single._bells) == ({}, {})


@pytest.fixture
def often():
    """Let threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("repeat", range(20))
def test_sixteen_threads_that_want_one_key_compute_it_once(monkeypatch, repeat):
    monkeypatch.setattr(_single, "LOOK_UP", 2 * TIMEOUT)
    memory = Memory()

    def compute():
        time.sleep(0)
        return object()

    results = together(*[lambda: memory.get("key", compute)] * 16)
    assert memory.computed == ["key"]
    assert len(set(results)) == 1
    assert memory.turns.turns == {}


def test_those_who_wait_get_the_value_at_once_though_no_store_takes_it(monkeypatch):
    monkeypatch.setattr(_single, "LOOK_UP", 2 * TIMEOUT)
    memory = Memory()
    value = object()

    def compute():
        is_waited_for(memory.turns, "key", 3)
        turn = memory.turns.turns["key"]
        turn.value = value
        return value

    assert together(*[lambda: memory.get("key", compute, put=False)] * 4) == [value] * 4
    assert (memory.computed, memory.given, memory.store) == (["key"], ["key"] * 3, {})


def test_different_keys_are_computed_at_the_same_time():
    memory, meeting = Memory(), threading.Barrier(8)
    together(*[lambda key=key: memory.get(key, lambda: meeting.wait(TIMEOUT)) for key in range(8)])
    assert sorted(memory.computed) == list(range(8))


def test_a_thread_that_asks_for_what_it_computes_computes_it():
    memory = Memory()

    def down(n):
        return memory.get("key", lambda: down(n - 1) + 1, put=False) if n else 0

    assert down(5) == 5
    assert memory.turns.turns == {}


def test_the_turn_of_a_recursion_is_that_of_its_outermost_call():
    turns = Turns()
    outer, inner = begun(turns, "key"), begun(turns, "key")
    turns.leave(inner, "key")
    assert turns.turns == {"key": outer}
    turns.leave(outer, "key")
    assert turns.turns == {}


@pytest.mark.parametrize("size", [2, 3, 7])
def test_threads_that_wait_for_each_other_in_a_circle_all_return(size):
    """Thread i computes i and then wants i + 1, which the next one computes; the last who asks computes beside it."""
    memory, began = Memory(), threading.Barrier(size)

    def compute(key):
        began.wait(TIMEOUT)
        return memory.get((key + 1) % size, lambda: "beside", put=False)

    start = time.monotonic()
    results = together(*[lambda key=key: memory.get(key, lambda: compute(key)) for key in range(size)])
    assert results == ["beside"] * size
    # Two who ask at the same moment may both see it.
    assert size < len(memory.computed) <= 2 * size
    assert time.monotonic() - start < TIMEOUT / 2
    assert memory.turns.turns == {}


def test_a_circle_through_two_tables_is_seen():
    one, other, began = Memory(), Memory(), threading.Barrier(2)

    def compute(memory, key):
        began.wait(TIMEOUT)
        return memory.get(key, lambda: "beside", put=False)

    results = together(
        lambda: one.get("a", lambda: compute(other, "b")), lambda: other.get("b", lambda: compute(one, "a"))
    )
    assert results == ["beside", "beside"]


def test_who_only_waits_is_in_no_circle():
    """While 1 waits for 0, and 2 for 1, nothing is computed twice."""
    memory = Memory()
    has_begun = [threading.Event() for _ in range(3)]

    def zero():
        has_begun[0].set()
        is_waited_for(memory.turns, 1)
        return 0

    def one():
        has_begun[1].set()
        return memory.get(0, pytest.fail) + 1

    def after(event, f):
        assert event.wait(TIMEOUT)
        return f()

    assert together(
        lambda: memory.get(0, zero),
        lambda: after(has_begun[0], lambda: memory.get(1, one)),
        lambda: after(has_begun[1], lambda: memory.get(1, pytest.fail)),
    ) == [0, 1, 1]


def test_after_an_exception_one_at_a_time_computes():
    memory, lock = Memory(), threading.Lock()
    failures = iter(range(3))

    def compute():
        assert lock.acquire(blocking=False), "two compute at a time"
        try:
            time.sleep(0.001)
            if next(failures, None) is not None:
                raise ValueError("no")
            return "yes"
        finally:
            lock.release()

    def call():
        with contextlib.suppress(ValueError):
            return memory.get("key", compute)

    results = together(*[call] * 16)
    assert sorted(map(str, results)) == ["None"] * 3 + ["yes"] * 13
    assert len(memory.computed) == 4


def test_after_a_result_that_serves_nobody_else_all_compute_at_the_same_time():
    memory, meeting = Memory(), threading.Barrier(3)
    began = []

    def compute():
        began.append(threading.get_ident())
        if len(began) == 1:
            is_waited_for(memory.turns, "key", 3)
        else:
            meeting.wait(TIMEOUT)
        return threading.get_ident()

    results = together(*[lambda: memory.get("key", compute, put=False, alone=True)] * 4)
    assert len(set(results)) == len(memory.computed) == 4


class Leaves(BaseException):
    """As a call leaves that is too deep."""


def test_a_call_that_is_unwound_and_begun_again_keeps_nobody_waiting():
    """The deep recursion of `memograd._deep`: bodies are unwound, the lowest is computed from above, the rest again."""
    memory, unwound = Memory(), threading.Event()

    def level(n, limit):
        if n == limit and not unwound.is_set():
            is_waited_for(memory.turns, 3)
            unwound.set()
            raise Leaves
        return 0 if n == 0 else memory.get(n - 1, lambda: level(n - 1, limit)) + 1

    def deep():
        try:
            return memory.get(9, lambda: level(9, 1))
        except Leaves:
            memory.store[1] = 1
            return memory.get(9, lambda: level(9, 1))

    def shallow():
        end = time.monotonic() + TIMEOUT
        while 3 not in memory.turns.turns and time.monotonic() < end:
            time.sleep(0)
        return memory.get(3, lambda: level(3, -1))

    assert together(deep, shallow) == [9, 3]
    assert memory.turns.turns == {}


def test_until_a_second_thread_asks_nobody_need_look_again():
    turns = Turns()
    turns.leave(begun(turns, 1), 1)
    assert not turns.crowded
    together(lambda: turns.leave(begun(turns, 1), 1))
    assert turns.crowded


def begun(turns, key):
    turn = Turn()
    assert turns.join(turn, key) is MISSING
    return turn


def test_an_interrupt_while_waiting_ends_the_wait_and_nobody_elses(monkeypatch):
    monkeypatch.setattr(_single, "LOOK_UP", 0.05)
    memory, began, interrupted = Memory(), threading.Event(), threading.Event()

    def compute():
        began.set()
        is_waited_for(memory.turns, "key", 2)
        _thread.interrupt_main()
        assert interrupted.wait(TIMEOUT)
        return "value"

    owner_began = threading.Event()
    results = []
    owner = threading.Thread(
        target=lambda: results.append(memory.get("key", lambda: (owner_began.set(), compute())[1]))
    )
    owner.start()
    assert owner_began.wait(TIMEOUT)
    waiter = threading.Thread(target=lambda: results.append(memory.get("key", pytest.fail)))
    waiter.start()
    with pytest.raises(KeyboardInterrupt):
        memory.get("key", pytest.fail)
    interrupted.set()
    owner.join(TIMEOUT)
    waiter.join(TIMEOUT)
    assert results == ["value", "value"]


def test_an_interrupt_while_computing_gives_the_next_the_turn():
    memory, results = Memory(), []
    waiter = threading.Thread(target=lambda: results.append(memory.get("key", lambda: "value")))

    def compute():
        waiter.start()
        is_waited_for(memory.turns, "key")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        memory.get("key", compute)
    waiter.join(TIMEOUT)
    assert results == ["value"]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers here")
def test_interrupts_at_any_moment_leave_nothing_locked(monkeypatch):
    """An alarm comes at a random moment of a call, thousands of times; then another thread asks for the same key."""
    monkeypatch.setattr(_single, "LOOK_UP", 0.01)
    memory, rng, interrupts = Memory(), random.Random(1), 0

    def interrupt(*_):
        raise KeyboardInterrupt

    before, timer = signal.signal(signal.SIGALRM, interrupt), signal.getitimer(signal.ITIMER_REAL)
    try:
        for step in range(3000):
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, 2e-5))
                for _ in range(20):
                    memory.get(step % 3, lambda: None, put=False)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:  # noqa: PERF203 - it is what is tested
                interrupts += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer)
    assert interrupts > 100
    assert together(*[lambda key=key: memory.get(key, lambda: "value") for key in range(3)]) == ["value"] * 3


def test_a_bell_that_stays_silent_is_noticed(monkeypatch):
    monkeypatch.setattr(_single, "LOOK_UP", 0.01)
    turns = Turns()
    turn = begun(turns, "key")

    def interrupted():
        is_waited_for(turns, "key")
        turn.owner = 0

    assert together(interrupted, lambda: turns.join(Turn(), "key")) == [None, MISSING]


def test_the_turn_of_a_thread_that_is_gone_is_over(monkeypatch):
    monkeypatch.setattr(_single, "LOOK_UP", 0.01)
    turns = Turns()
    together(lambda: begun(turns, "key") and None)
    mine = begun(turns, "key")
    assert turns.turns == {"key": mine}


def test_who_holds_what_the_one_at_work_needs_computes_in_the_end(monkeypatch):
    """The plain program does not stand still here: the lock is reentrant, and each of the two would compute."""
    monkeypatch.setattr(_single, "LOOK_UP", 0.01)
    monkeypatch.setattr(_single, "PATIENCE", 0.2)
    memory, lock, has_lock = Memory(), threading.RLock(), threading.Event()

    def compute():
        assert has_lock.wait(TIMEOUT)
        with lock:
            return "value"

    def at_work():
        return memory.get("key", compute)

    def holding():
        with lock:
            while "key" not in memory.turns.turns:
                time.sleep(0)
            has_lock.set()
            return memory.get("key", compute)

    assert together(at_work, holding) == ["value", "value"]
    assert memory.turns.turns == {}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="nothing tells here how long a thread has worked")
def test_who_works_longer_than_patience_lasts_is_not_overtaken(monkeypatch):
    """Whenever it is looked at, it is at the same place: in the call that takes nearly all of the time."""
    monkeypatch.setattr(_single, "LOOK_UP", 0.01)
    monkeypatch.setattr(_single, "PATIENCE", 0.2)
    memory = Memory()

    def compute():
        is_waited_for(memory.turns, "key")
        end = time.monotonic() + 1
        while time.monotonic() < end:
            sum(range(300_000))
        return "value"

    assert together(*[lambda: memory.get("key", compute)] * 3) == ["value"] * 3
    assert memory.computed == ["key"]


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("seed", range(10))
def test_random_schedules_end_with_right_values_and_an_empty_table(seed):
    """A hundred times: threads ask for random keys, which need random others, circles too, and some of which fail."""
    rng = random.Random(seed)
    for _ in range(100):
        keys = range(rng.randint(1, 6))
        needs = {key: rng.sample(keys, rng.randint(0, min(2, len(keys)))) for key in keys}
        failing = {key: rng.random() < 0.2 for key in keys}
        assert_schedule(needs, failing, [[rng.choice(keys) for _ in range(3)] for _ in range(rng.randint(2, 6))])


def assert_schedule(needs, failing, plans):
    memory, here = Memory(), threading.local()
    at_work = dict.fromkeys(needs, 0)

    def value(key):
        if key in here.inside:
            return
        memory.get(key, lambda: compute(key), put=not failing[key])

    def compute(key):
        before, here.inside = here.inside, {*here.inside, key}
        at_work[key] += 1
        try:
            for needed in needs[key]:
                with contextlib.suppress(ValueError):
                    value(needed)
            if failing[key]:
                raise ValueError(key)
            return key
        finally:
            here.inside = before

    def run(plan):
        for key in plan:
            here.inside = frozenset()
            with contextlib.suppress(ValueError):
                assert memory.get(key, lambda key=key: compute(key)) == key
        return True

    assert all(together(*[lambda plan=plan: run(plan) for plan in plans]))
    assert memory.turns.turns == {}
    assert _single._waiting == {}
    if not has_circle(needs):
        assert all(count == 1 for key, count in at_work.items() if count and not failing[key])


def has_circle(needs):
    reached = {key: set(needed) for key, needed in needs.items()}
    for _ in needs:
        reached = {key: one.union(*(reached[other] for other in one)) for key, one in reached.items()}
    return any(key in others for key, others in reached.items())


PROGRAM = """
import os, threading, time, warnings
from memograd._key import MISSING
from memograd._single import Turn, Turns, _waiting
warnings.simplefilter("ignore", DeprecationWarning)
turns = Turns()
began, done = threading.Event(), threading.Event()

def own():
    turn = Turn()
    turns.join(turn, "key")
    began.set()
    done.wait()
    turns.leave(turn, "key")

def wait():
    turn = Turn()
    turns.join(turn, "key")
    turns.leave(turn, "key")

threads = [threading.Thread(target=own), threading.Thread(target=wait)]
threads[0].start()
began.wait()
threads[1].start()
while not _waiting:
    time.sleep(0.001)
mine = Turn()
turns.join(mine, "mine")
child = os.fork()
if child == 0:
    clean = not (_waiting or turns.turns or turns.crowded)
    turns.leave(mine, "mine")
    turn = Turn()
    free = turns.join(turn, "key") is MISSING
    turns.leave(turn, "key")
    os._exit(10 + clean + free)
status = (0, 1)
ended = time.monotonic() + 10
while status[0] == 0 and time.monotonic() < ended:
    status = os.waitpid(child, os.WNOHANG)
    time.sleep(0.01)
if status[0] == 0:
    os.kill(child, 9)
turns.leave(mine, "mine")
done.set()
for thread in threads:
    thread.join(10)
print(os.waitstatus_to_exitcode(status[1]), turns.turns)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_in_a_forked_child_nobody_is_at_work():
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout.split() == ["12", "{}"], ran.stderr


# From here on: wrapped functions.


@pytest.fixture
def tables():
    """See that at the end no function has a turn left."""
    yield
    assert [turns.turns for turns in _single._all if turns.turns] == []


@pytest.mark.usefixtures("often", "tables")
@pytest.mark.parametrize("options", [{}, {"max_entries": 0}, {"store": {}}])
def test_sixteen_threads_that_call_a_wrapped_function_compute_once(options):
    """Whether the store keeps the result or not: all have asked before the first has it."""
    began, gate = [], threading.Event()

    # With a version of its own: what it does to `began` is not looked at.
    @Memo()(version="1", **options)
    def f(x):
        began.append(x)
        assert gate.wait(TIMEOUT)
        return [x]

    def open_gate():
        end = time.monotonic() + TIMEOUT
        while len(_single._waiting) < 15 and time.monotonic() < end:
            time.sleep(0.001)
        gate.set()

    *results, _ = together(*[lambda: f(1)] * 16, open_gate)
    assert results == [[1]] * 16
    assert began == [1]
    assert f.cache_info()[:2] == (15, 1)
    assert len(set(map(id, results))) == 16, "what one of them changes, the others would see"


@pytest.mark.usefixtures("tables")
def test_exceptions_of_a_wrapped_function_reach_every_thread():
    began = []

    @Memo()(version="1")
    def f(x):
        began.append(x)
        raise ValueError(x)

    def call():
        with pytest.raises(ValueError, match="1"):
            f(1)

    together(*[call] * 8)
    assert began == [1] * 8


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("starts", [[3000, 3000], [3000, 2999, 2998], [3000, 2500, 1000, 2923]])
def test_threads_in_one_deep_recursion_share_it(starts):
    """Calls leave from far down and begin again, in every thread; nobody waits for a call that was unwound."""
    began = []

    @Memo()(version="1")
    def fibonacci(n):
        began.append(n)
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    def plain(n):
        a, b = 0, 1
        for _ in range(n):
            a, b = b, a + b
        return a

    results = together(*[lambda n=n: fibonacci(n) for n in starts])
    assert results == [plain(n) for n in starts]
    assert len(began) < len(starts) * 2 * 3001


@pytest.mark.usefixtures("often", "tables")
def test_wrapped_functions_of_several_threads_that_need_each_other_in_circles_return():
    """Thread by thread the recursion ends; between threads there are circles, which the plain program does not have."""
    limit = threading.local()

    @Memo()(version="1")
    def f(x):
        limit.left -= 1
        return 0 if limit.left <= 0 else f((x + 1) % 5)

    def call(x):
        limit.left = 12
        return f(x)

    for _ in range(20):
        f.cache_clear()
        assert together(*[lambda x=x: call(x) for x in range(5)]) == [0] * 5


LIBRARY = """
from memograd import Memo

@Memo()
def square(x):
    return x * x

class Squares:
    def __init__(self):
        self.square = square

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.square(index) + self.square(index)
"""
SPAWNED = """
import multiprocessing
from library import Squares, square

if __name__ == "__main__":
    assert square(2) == 4
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(square, [1, 2, 3, 2]), square.cache_info()[:2])
"""
LOADED = """
import sys
from library import Squares, square
from torch.utils.data import DataLoader

if __name__ == "__main__":
    loader = DataLoader(Squares(), num_workers=1, multiprocessing_context=sys.argv[1])
    print([batch.item() for batch in loader], square.cache_info()[:2])
"""


def program(folder, source, *args):
    (folder / "library.py").write_text(LIBRARY)
    (folder / "program.py").write_text(source)
    command = [sys.executable, str(folder / "program.py"), *args]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_a_wrapped_function_goes_to_a_spawned_process(tmp_path):
    assert program(tmp_path, SPAWNED) == "[1, 4, 9, 4] (0, 1)"


@pytest.mark.parametrize("start", ["fork", "spawn"] if hasattr(os, "fork") else ["spawn"])
def test_a_wrapped_function_goes_to_a_worker_of_a_data_loader(tmp_path, start):
    pytest.importorskip("torch")
    assert program(tmp_path, LOADED, start) == "[0, 2, 8, 18] (0, 0)"
