"""What is told of what happened."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from tests.threads import together

from memograd import Memo
from memograd._errors import MemogradWarning
from memograd._events import Evict, Hit, Miss, Put, Refuse, Wait, listeners, subscribe


@pytest.fixture
def seen():
    events = []
    end = subscribe(events.append)
    yield events
    end()


def test_a_call_tells_what_became_of_it(seen):
    f = Memo()(lambda x: x)
    f(1), f(1), f([2])
    key, other = f.cache_key(1), f.cache_key([2])
    assert seen == [Miss(key), Put(key), Hit(key), Miss(other), Put(other)]
    assert f.cache_info()[:2] == (1, 2)


def test_who_waits_for_another_thread_is_told(seen):
    began, gate = threading.Event(), threading.Event()

    def slow(x):
        began.set()
        gate.wait(60)
        return x

    f = Memo()(slow, version="1")

    def second():
        began.wait(60)
        return f(1)

    def opens():
        while not any(isinstance(event, Wait) for event in seen):
            time.sleep(0.001)
        gate.set()

    assert together(lambda: f(1), second, opens)[:2] == [1, 1]
    key = f.cache_key(1)
    assert seen == [Wait(key), Miss(key), Put(key), Hit(key)]


def test_who_waits_for_another_task_is_told(seen):
    @Memo()(version="1")
    async def f(x):
        await asyncio.sleep(0)
        return x

    async def main():
        return await asyncio.gather(f(1), f(1))

    assert asyncio.run(main()) == [1, 1]
    key = f.cache_key(1)
    assert seen == [Wait(key), Miss(key), Put(key), Hit(key)]


def test_what_leaves_to_make_room_is_told(seen):
    f = Memo(max_entries=1)(lambda x: x)
    f(1), f(2)
    assert seen[2] == Evict(f.cache_key(1), "max_entries")


def test_what_is_not_remembered_is_told_each_time_with_the_reason(seen):
    f = Memo()(lambda x: iter([x]))
    with pytest.warns(MemogradWarning):
        f(1), f(1)
    refusals = [event for event in seen if isinstance(event, Refuse)]
    assert [event.key for event in refusals] == [f.cache_key(1)] * 2
    assert "used up by being read" in refusals[0].reason


def test_a_hit_inside_a_recursion_is_told(seen):
    @Memo()
    def fibonacci(n):
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    fibonacci(5)
    counts = {kind: sum(type(event) is kind for event in seen) for kind in (Hit, Miss, Put)}
    assert counts == {Hit: 3, Miss: 6, Put: 6}


def test_events_are_frozen_and_equal_by_type_and_fields():
    event = Hit("key")
    with pytest.raises(AttributeError, match="frozen"):
        event.key = "other"
    assert event == Hit("key")
    assert event != Miss("key")
    assert event != Hit("other")
    assert event != "key"
    assert len({event, Hit("key"), Miss("key"), Refuse("key", "a"), Refuse("key", "b")}) == 4
    assert repr(Refuse("key", "why")) == "Refuse('key', reason='why')"


def test_a_subscription_ends_once():
    before = len(listeners)
    seen = []
    end, other = subscribe(seen.append), subscribe(seen.append)
    end()
    end()
    assert len(listeners) == before + 1
    other()
    assert len(listeners) == before
