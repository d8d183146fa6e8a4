"""Nothing hidden: after a remembered call the program is where the call itself would have left it."""

from __future__ import annotations

import random
import threading
import time

import numpy as np
import pytest
import torch

from memograd import Memo, MemogradWarning

LIBRARIES = {
    "random": (random.seed, random.random, lambda: random.gauss(0, 1)),
    "numpy": (np.random.seed, np.random.rand, np.random.standard_normal),
    "torch": (torch.manual_seed, lambda: torch.rand(()).item(), lambda: torch.randn(3).sum().item()),
}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("kind", [1, 2])
def test_a_memoized_run_draws_what_the_plain_run_draws(library, kind):
    seed, draw = LIBRARIES[library][0], LIBRARIES[library][kind]

    def f(x):
        return x + draw()

    memoized = Memo()(f)

    def run(f):
        seed(0)
        drawn = [f(1), f(1), draw(), f(2), f(1)]
        seed(0)
        return [*drawn, f(1), f(1), draw(), draw()]

    expected = run(f)
    assert run(memoized) == expected
    assert run(memoized) == expected
    assert memoized.cache_info().hits >= 2


def test_a_hit_leaves_every_stream_where_the_call_would_have_left_it():
    @Memo()
    def f(n):
        return random.random(), np.random.rand(n).tolist(), torch.rand(n).tolist()

    def seed():
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)

    seed()
    first = f(3)
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    seed()
    assert f(3) == first
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == after
    assert f.cache_info()[:2] == (1, 1)


def test_what_draws_nothing_is_remembered_whatever_the_streams_are():
    @Memo()
    def f(n):
        return torch.ones(n).sum().item()

    f(3)
    torch.rand(1)
    f(3)
    assert f.cache_info()[:2] == (1, 1)


def test_one_draw_can_be_frozen_or_refused():
    frozen = Memo()(rng="freeze")(lambda n: torch.rand(n).tolist())
    assert frozen(2) == frozen(2)
    refused = Memo()(rng="refuse")(lambda n: torch.rand(n).tolist())
    with pytest.warns(MemogradWarning, match="draws from torch"):
        refused(2)
    assert refused(2) != refused(2)
    assert refused.cache_info().currsize == 0


def test_while_another_thread_works_a_draw_is_not_remembered():
    f = Memo()(lambda n: [torch.rand(n).tolist(), time.sleep(0.05)])
    done = threading.Event()

    def work():
        while not done.is_set():
            sum(range(1000))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        with pytest.warns(MemogradWarning, match="other threads"):
            f(2)
        assert f.cache_info().currsize == 0
    finally:
        done.set()
        thread.join()


def stands_still(thread):
    """Wait until a thread has come to where it waits."""
    clock, then = time.pthread_getcpuclockid(thread.ident), -1.0
    while then != (then := time.clock_gettime(clock)):
        time.sleep(0.05)


def test_a_thread_that_only_waits_draws_nothing():
    f = Memo()(lambda n: torch.rand(n).tolist())
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        stands_still(thread)
        f(2)
        assert f.cache_info().currsize == 1
    finally:
        done.set()
        thread.join()


def test_a_function_that_changes_its_argument_is_not_remembered():
    @Memo()
    def f(values, x):
        values.append(x)
        return len(values)

    values = [1]
    with pytest.warns(MemogradWarning, match=r"f\(\) changes its argument values"):
        assert f(values, 5) == 2
    assert f([1], 5) == 2
    assert f.cache_info().currsize == 0


def test_a_function_that_changes_a_tensor_in_place_is_not_remembered():
    f = Memo()(lambda x: x.add_(1).sum().item())
    x = torch.zeros(3)
    with pytest.warns(MemogradWarning, match="changes its argument x"):
        assert f(x) == 3
    assert f(x) == 6


def test_rng_that_is_no_word_is_refused():
    with pytest.raises(ValueError, match="expected one of 'replay', 'freeze', 'refuse'"):
        Memo()(rng="once")


@pytest.mark.parametrize("depth", [3, 8])
def test_calls_within_a_call_draw_what_they_draw_in_the_plain_program(depth):
    """They are trusted to draw nothing until it shows; then all is computed as if they never had been."""

    def walk(level, n):
        if not n:
            return [random.random()]
        return [*level(n - 1)[-3:], random.random(), *level(n - 1)[-3:]]

    def plain(n):
        return walk(plain, n)

    @Memo()
    def level(n):
        return walk(level, n)

    random.seed(5)
    expected, after = plain(depth), random.random()
    for _ in range(3):
        random.seed(5)
        assert (level(depth), random.random()) == (expected, after)


GENERATORS = {
    "torch": (lambda: torch.Generator().manual_seed(3), lambda g: torch.rand(2, generator=g).tolist()),
    "numpy": (lambda: np.random.default_rng(3), lambda g: g.standard_normal(2).tolist()),
    "numpy's old one": (lambda: np.random.RandomState(3), lambda g: [g.standard_normal()]),
    "random": (lambda: random.Random(3), lambda g: [g.gauss(0, 1)]),
}


@pytest.mark.parametrize("library", GENERATORS)
def test_a_generator_that_is_an_argument_is_left_where_the_call_leaves_it(library):
    make, draw = GENERATORS[library]
    f = Memo()(lambda x, generator: [x, *draw(generator)])
    plain, first, again = make(), make(), make()
    expected = [[n, *draw(plain)] for n in range(4)]
    for generator in (first, again):
        assert [f(n, generator) for n in range(4)] == expected
        assert draw(generator) == draw(make_after(make, draw, 4))
    assert f.cache_info()[:2] == (4, 4)


def make_after(make, draw, times):
    generator = make()
    for _ in range(times):
        draw(generator)
    return generator


def set_dtype():
    torch.set_default_dtype(torch.float64)


def set_deterministic():
    torch.use_deterministic_algorithms(True)


def set_grad():
    torch.set_grad_enabled(False)


MODES = {"dtype": set_dtype, "deterministic": set_deterministic, "grad": set_grad}


@pytest.fixture
def modes():
    yield
    torch.set_default_dtype(torch.float32)
    torch.use_deterministic_algorithms(False)
    torch.set_grad_enabled(True)


@pytest.mark.usefixtures("modes")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", [lambda: 3, lambda: torch.ones(2), lambda: torch.ones(2, requires_grad=True)])
def test_a_function_that_changes_modes_of_torch_is_not_remembered(mode, make):
    change = MODES[mode]

    def f(x):
        y = x * 2
        change()
        return y

    memoized, x = Memo()(f), make()
    before = torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled(), torch.is_grad_enabled()
    with pytest.warns(MemogradWarning, match=r"f\(\) changes torch's modes"):
        y = memoized(x)
    assert getattr(y, "requires_grad", None) == getattr(x, "requires_grad", None)
    for _ in range(2):
        torch.set_default_dtype(before[0])
        torch.use_deterministic_algorithms(before[1])
        torch.set_grad_enabled(before[2])
        memoized(x)
        after = torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled(), torch.is_grad_enabled()
        assert after != before
    assert memoized.cache_info()[0] == memoized.cache_info().currsize == 0


def test_the_first_use_of_a_mode_that_is_left_again_is_remembered():
    @Memo()
    def f(x):
        with torch.no_grad():
            return x * 2

    f(torch.ones(2))
    assert f(torch.ones(2)).tolist() == [2, 2]
    assert f.cache_info().hits == 1
