"""A store that is full, slow, forgetful or failing costs computations: never a wrong value, never the call."""

from __future__ import annotations

import random
import threading
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memograd import Memo
from memograd._errors import MemogradWarning


class Moody(dict):
    """Forgets, fails and refuses at random, but never gives a value that was not put."""

    def __init__(self, seed, mood):
        super().__init__()
        self.random = random.Random(seed)
        self.mood = mood

    def sulk(self):
        if self.random.random() < self.mood:
            raise self.random.choice([OSError("no disk"), KeyError("lost"), ValueError("odd"), MemoryError()])

    def get(self, key, default=None):
        self.sulk()
        return default if self.random.random() < self.mood else super().get(key, default)

    def __setitem__(self, key, value):
        self.sulk()
        if self.random.random() >= self.mood:
            super().__setitem__(key, value)

    def pop(self, key, default=None):
        self.sulk()
        return super().pop(key, default)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.sampled_from([0.01, 0.2, 0.7, 1.0]), st.sampled_from([None, 0, 5]))
def test_a_moody_store_never_makes_a_recursion_wrong_or_fail(seed, mood, max_entries):
    store = Moody(seed, mood)

    @Memo(store)(max_entries=max_entries)
    def fibonacci(n):
        return n if n < 2 else (fibonacci(n - 1) + fibonacci(n - 2)) % 1_000_003

    a, b = 0, 1
    for _ in range(1500):
        a, b = b, (a + b) % 1_000_003
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MemogradWarning)
        assert fibonacci(1500) == a
        assert [fibonacci(n) for n in (2, 3, 4, 10)] == [1, 2, 3, 55]


class Awkward:
    """As an argument: equal to everything, hashed at random, and it prints by raising."""

    def __eq__(self, other):
        return True

    def __hash__(self):
        return random.randrange(5)

    def __repr__(self):
        raise RuntimeError("no words")


class Raising:
    def __getattribute__(self, name):
        raise RuntimeError(name)


class Odd(dict):
    keys = items = __iter__ = None


@pytest.mark.parametrize(
    "make",
    [Awkward, Raising, lambda: [Awkward()], lambda: {"a": Raising()}, lambda: Odd(a=1), lambda: {(1, Awkward())}],
)
def test_an_awkward_argument_costs_at_most_a_warning(make):
    value = make()
    f = Memo()(lambda _: 7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MemogradWarning)
        assert [f(value) for _ in range(3)] == [7, 7, 7]


@pytest.mark.filterwarnings("ignore::memograd._errors.MemogradWarning")
@pytest.mark.parametrize("make", [Awkward, Raising, lambda: (Raising(), [Raising()]), lambda: Odd(a=Raising())])
def test_an_awkward_result_comes_back(make):
    f = Memo()(lambda _: make())
    assert type(f(1)) is type(f(1)) is type(make())
    assert f.cache_info()[:2] == (1, 1)


def test_warnings_that_are_errors_are_the_users_choice_and_leave_everything_whole():
    f = Memo()(list)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(MemogradWarning):
            f(iter([1]))
        assert f(iter([1])) == [1]
    assert f((1, 2)) == f((1, 2)) == [1, 2]


@pytest.mark.filterwarnings("ignore:.*changes its argument:memograd._errors.MemogradWarning")
def test_an_argument_that_another_thread_changes_meanwhile_raises_nothing():
    items = {n: [n] for n in range(50)}
    stop = threading.Event()

    def stir():
        for n in range(10**9):
            items[n % 97] = [n]
            items.pop(n * 31 % 97, None)
            if stop.is_set():
                return

    f = Memo()(len)
    thread = threading.Thread(target=stir)
    thread.start()
    try:
        for _ in range(300):
            assert 0 <= f(items) <= 97
    finally:
        stop.set()
        thread.join()
