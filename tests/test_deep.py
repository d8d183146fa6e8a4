"""Recursion without end: right results, linear time, plain exceptions, under every recursion limit."""

from __future__ import annotations

import contextlib
import contextvars
import decimal
import gc
import random
import sys
import threading
import traceback
import types
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.threads import together

from memograd import Memo, memo
from memograd._ambient._streams import read_streams, set_streams
from memograd._deep._flight import here
from memograd._deep._landing import MOST_WAITING, Leave


def depth():
    frame, count = sys._getframe(), 0
    while frame.f_back:
        frame, count = frame.f_back, count + 1
    return count


@contextlib.contextmanager
def recursion_limit(limit):
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(limit)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def under(frames, f):
    """Call f from so many frames further down."""
    return f() if frames == 0 else under(frames - 1, f)


def counted(**options):
    """Make the function of the Fibonacci numbers, and what tells how many bodies it began."""
    count = 0

    @Memo()(**options)
    def fibonacci(n):
        nonlocal count
        count += 1
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    return fibonacci, lambda: count


def climb(**options):
    """Make a function that goes down to 0 and counts its levels, and a list of the bodies that it began."""
    began = []

    @Memo()(**options)
    def level(n):
        began.append(n)
        return 0 if n == 0 else level(n - 1) + 1

    return level, began


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    limit = sys.getrecursionlimit()
    yield
    assert here.flight is None
    assert sys.getrecursionlimit() == limit


def fibonacci_numbers(n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


@pytest.mark.slow
def test_fibonacci_of_100_000_returns_and_begins_each_body_twice():
    fibonacci, began = counted()
    assert fibonacci(100_000) == fibonacci_numbers(100_000)
    assert began() <= 2 * 100_001
    assert fibonacci.cache_info() == (99_998, 100_001, None, 100_001)


def test_a_plain_function_of_that_depth_does_not_return():
    """The test above is one only if plain recursion fails."""

    def fibonacci(n, known):
        if n not in known:
            known[n] = n if n < 2 else fibonacci(n - 1, known) + fibonacci(n - 2, known)
        return known[n]

    with pytest.raises(RecursionError):
        fibonacci(100_000, {})


def edit_distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


@pytest.mark.slow
def test_an_edit_distance_is_right_and_begins_few_bodies_more_than_twice():
    rng = random.Random(1)
    a, b = ("".join(rng.choices("abcd", k=300)) for _ in range(2))
    began = 0

    @Memo()
    def distance(i, j):
        nonlocal began
        began += 1
        if i == 0 or j == 0:
            return i + j
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    assert distance(300, 300) == edit_distance(a, b)
    computed = distance.cache_info().misses
    assert computed <= 301 * 301
    assert began <= 2.5 * computed


def test_bodies_begin_at_most_n_plus_k_d_times():
    """The bound of NOTE [deep]: d calls leave, and each makes at most a stack of k levels begin again."""
    left = 0
    began = []

    class Counting(Leave):
        def __init__(self, call):
            nonlocal left
            left += 1
            super().__init__(call)

    @Memo()
    def comb(n, m):
        """Go down one way, and from every level another way as far: many leave just below the landing's stack."""
        began.append((n, m))
        if n == 0:
            return m
        return comb(n - 1, m) + (comb(n - 1, 1) if m == 0 else 0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("memograd._deep._flight.Leave", Counting)
        comb(3000, 0)
    computed = comb.cache_info().misses
    assert left > 10
    assert len(began) <= computed + 150 * left
    assert len(began) < 3 * computed


@pytest.mark.parametrize("helpers", [0, 1, 2, 5, 17, 60, 150, 300, 400])
def test_plain_helper_functions_between_the_levels(helpers):
    @Memo()
    def level(n):
        return 0 if n == 0 else help_on(n, helpers) + 1

    def help_on(n, more):
        return help_on(n, more - 1) if more else level(n - 1)

    assert level(2000) == 2000


def test_generators_comprehensions_and_c_functions_between_the_levels():
    @Memo()
    def level(n):
        if n == 0:
            return 0
        if n % 3 == 0:
            return max(level(k) for k in range(n - 1, n - 3, -1) if k >= 0) + 1
        if n % 3 == 1:
            [n - 1, n - 1].sort(key=level)
            return max(map(level, [n - 1])) + 1
        return {k: level(k) for k in [n - 1]}[n - 1] + 1

    assert level(3001) == 3001


def test_mutual_recursion_of_functions_of_several_memos():
    @Memo()
    def even(n):
        return n == 0 or odd(n - 1)

    @Memo({})
    def odd(n):
        return n != 0 and third(n - 1)

    @Memo(max_entries=1)
    def third(n):
        return even(n)

    assert (even(10_000), odd(10_001), even(9999)) == (True, True, False)


def test_methods():
    class Tree:
        def __init__(self, weight):
            self.weight = weight

        @memo
        def height(self, n):
            return 0 if n == 0 else self.height(n - 1) + self.weight

    assert (Tree(1).height(2000), Tree(2).height(2000)) == (2000, 4000)


def test_arguments_that_are_compared_by_content():
    @Memo()
    def total(items):
        return items[0] + total(items[1:]) if items else 0

    assert total(list(range(1500))) == sum(range(1500))


@pytest.mark.filterwarnings("ignore::memograd._errors.MemogradWarning")
def test_threads_go_deep_each_on_its_own():
    level, _ = climb()
    depths = range(2000, 2008)
    assert together(*[partial(level, n) for n in depths]) == [*depths]


@pytest.mark.parametrize("used", [0, 500, 700, 850, 900])
def test_from_a_caller_that_is_deep_already(used):
    level, began = climb()
    assert under(used, lambda: level(2000)) == 2000
    assert len(began) <= 2.5 * 2001


def test_where_not_even_a_few_frames_are_left_it_is_a_plain_recursion_error():
    level, _ = climb()
    left = sys.getrecursionlimit() - depth()
    with pytest.raises(RecursionError):
        under(left - 15, lambda: level(5000))
    assert level(5000) == 5000


@pytest.mark.parametrize("frames", [60, 100, 300, 3000, 10_000])
def test_under_a_recursion_limit_that_the_user_has_changed(frames):
    level, began = climb()
    deep = max(frames, 2000)  # each level takes some frames
    with recursion_limit(depth() + frames):
        assert level(deep) == deep
    assert len(began) <= 2.5 * (deep + 1)


@pytest.mark.slow
def test_a_limit_of_millions_does_not_fill_the_stack():
    deepest = 0

    @Memo()
    def level(n):
        nonlocal deepest
        if n % 97 == 0:
            deepest = max(deepest, depth())
        return 0 if n == 0 else level(n - 1) + 1

    with recursion_limit(10**6):
        assert level(50_000) == 50_000
    assert deepest < 2000


@pytest.mark.parametrize("options", [{"max_entries": 10}, {"max_entries": 0}, {"max_bytes": 5000}, {"max_bytes": 0}])
def test_a_small_bound_does_not_cost_time(options):
    """What was computed under an outermost call in progress is found until that ends."""
    fibonacci, began = counted(**options)
    assert fibonacci(5000) == fibonacci_numbers(5000)
    assert began() <= 2.2 * 5001
    assert fibonacci.cache_info().currsize <= options.get("max_entries", 10)


class Forgetful(dict):
    def __setitem__(self, key, value):
        pass


def test_a_store_that_keeps_nothing_does_not_cost_time():
    level, began = climb(store=Forgetful())
    assert level(3000) == 3000
    assert len(began) <= 2.2 * 3001


def test_an_outermost_call_keeps_its_results_until_it_ends_and_no_longer():
    calls = []

    @Memo()(max_entries=1)
    def inner(n):
        calls.append(n)

    @Memo()
    def outer():
        for n in (1, 2, 3, 1, 2, 3):
            inner(n)

    outer()
    assert calls == [1, 2, 3]
    inner(1)
    assert calls == [1, 2, 3, 1]


@pytest.mark.filterwarnings("ignore::memograd._errors.MemogradWarning")
def test_threads_pin_each_its_own():
    calls = []
    started, go_on = threading.Event(), threading.Event()

    @Memo()(max_entries=1)
    def inner(n):
        calls.append(n)
        return n

    @Memo()
    def outer():
        inner(1)
        started.set()
        go_on.wait(10)
        return inner(1)

    thread = threading.Thread(target=outer)
    thread.start()
    started.wait(10)
    inner(2), inner(1)
    go_on.set()
    thread.join()
    assert calls == [1, 2, 1]


class Bottom(Exception):  # noqa: N818 - where it is raised
    pass


def failing():
    @Memo()
    def level(n):
        if n == 0:
            raise Bottom("the floor")
        return level(n - 1) + 1

    return level


@pytest.mark.parametrize("n", [10, 200, 10_000])
def test_an_exception_at_the_bottom_arrives_as_it_was_raised(n):
    level = failing()
    with pytest.raises(Bottom, match="the floor") as raised:
        level(n)
    assert (raised.value.__cause__, raised.value.__context__) == (None, None)
    frames = traceback.extract_tb(raised.value.__traceback__)
    assert frames[-1].line == 'raise Bottom("the floor")'
    assert len(frames) < 1000
    assert level.cache_info() == (0, n + 1, None, 0)


def test_handlers_between_the_levels_see_exceptions_from_below():
    seen = []

    @Memo()
    def level(n):
        if n == 0:
            raise Bottom
        try:
            return level(n - 1) + 1
        except Bottom:
            seen.append(n)
            if n < 2000:
                raise
            return 0

    assert level(3000) == 1000
    assert max(seen) == 2000
    assert set(range(1, 2001)) == set(seen)


def test_every_level_may_turn_an_exception_into_another():
    @Memo()
    def level(n):
        if n == 0:
            raise Bottom(0)
        try:
            return level(n - 1)
        except Bottom as error:
            raise Bottom(error.args[0] + 1) from None

    with pytest.raises(Bottom) as raised:
        level(3000)
    assert raised.value.args == (3000,)


def test_a_call_that_failed_is_computed_again_when_it_is_asked_for_again():
    tries = {}

    @Memo()
    def level(n):
        if n == 0:
            tries[n] = tries.get(n, 0) + 1
            if tries[n] < 4:
                raise Bottom
            return 0
        for _ in range(5):
            with contextlib.suppress(Bottom):
                return level(n - 1) + 1
        raise AssertionError

    assert level(2000) == 2000
    assert tries[0] == 4


class Stop(BaseException):
    pass


@pytest.mark.parametrize("error", [Stop, SystemExit, GeneratorExit])
def test_handlers_between_the_levels_see_exceptions_that_are_no_exception(error):
    @Memo()
    def level(n):
        if n == 0:
            raise error
        if n == 1000:
            try:
                return level(n - 1)
            except error:
                return 7
        return level(n - 1) + 1

    assert level(3000) == 2007


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_passes_at_once(error):
    @Memo()
    def level(n):
        if n == 0:
            raise error
        return level(n - 1)

    with pytest.raises(error):
        level(5000)
    assert level.cache_info().currsize == 0


def swallow_by_bare_except(ask):
    try:
        return ask()
    except:  # noqa: E722 - what people write
        return -(10**9)


def swallow_by_suppress(ask):
    with contextlib.suppress(BaseException):
        return ask()
    return -(10**9)


def swallow_by_return_in_finally(ask):
    value = -(10**9)
    try:
        value = ask()
    finally:
        return value  # noqa: B012 - what people write


def swallow_by_raising_another(ask):
    try:
        return ask()
    except BaseException as error:
        raise KeyError("lost") from error


def swallow_by_exiting(ask):
    try:
        return ask()
    except BaseException:  # noqa: BLE001 - what people write
        sys.exit(3)


def swallow_and_try_again(ask):
    for _ in range(40):
        with contextlib.suppress(BaseException):
            return ask()
    return -(10**9)


def swallow_and_ask_for_something_else(ask):
    try:
        return ask()
    except BaseException:  # noqa: BLE001 - what people write
        return elsewhere(random.randrange(10**9)) - 10**9


@memo
def elsewhere(n):
    return n


@pytest.mark.slow
@pytest.mark.parametrize(
    "swallow",
    [
        swallow_by_bare_except, swallow_by_suppress, swallow_by_return_in_finally, swallow_by_raising_another,
        swallow_by_exiting, swallow_and_try_again, swallow_and_ask_for_something_else,
    ],
)  # fmt: skip
def test_a_body_that_swallows_the_internal_exception_gives_no_wrong_result(swallow):
    store = {}

    @memo(store=store)
    def level(n):
        return 0 if n == 0 else swallow(lambda: level(n - 1)) + 1

    assert level(3000) == 3000
    assert {key.parts["n"]: value for key, value in store.items()} == {n: n for n in range(3001)}


def test_except_exception_does_not_see_the_internal_exception():
    seen = []

    @Memo()
    def level(n):
        try:
            return 0 if n == 0 else level(n - 1) + 1
        except Exception as error:
            seen.append(error)
            raise

    assert level(3000) == 3000
    assert seen == []


def test_finally_and_with_run_for_every_body_that_began():
    began, ended = [], []

    @Memo()
    def level(n):
        began.append(n)
        try:
            return 0 if n == 0 else level(n - 1) + 1
        finally:
            ended.append(n)
            elsewhere(n)

    assert level(3000) == 3000
    assert sorted(began) == sorted(ended)


@pytest.mark.parametrize("length", [1, 2, 7, 90, 101, 1000, 2000])
def test_a_call_that_needs_itself_raises_and_says_so(length):
    @Memo()
    def around(n):
        return around((n + 1) % length)

    with pytest.raises(
        RecursionError, match=r"^around\(n=\d+\) needs its own result: with these arguments the recursion"
    ):
        around(0)
    assert around.cache_info().currsize == 0


def test_a_call_that_asks_for_itself_a_few_times_and_then_no_more_returns():
    tries = []

    @Memo()
    def patient(n):
        tries.append(n)
        return n if len(tries) > 5 else patient(n)

    assert patient(3) == 3


def test_a_recursion_without_end_ends_with_an_error(monkeypatch):
    monkeypatch.setattr("memograd._deep._landing.MOST_WAITING", 50)

    @Memo()
    def forever(n):
        return forever(n + 1)

    with pytest.raises(
        RecursionError, match=r"^forever\(n=\d+\) leads to calls without end, among them forever\(n=\d+\)$"
    ):
        forever(0)
    assert MOST_WAITING >= 10_000


def test_plain_recursion_without_end_inside_a_call_is_a_recursion_error():
    def forever(n):
        return forever(n + 1)

    @Memo()
    def level(n):
        return forever(0) if n == 0 else level(n - 1)

    for n in (3, 150, 2000):
        with pytest.raises(RecursionError):
            level(n)


def test_arguments_that_differ_at_every_run_are_an_error_that_says_so():
    @Memo()
    def drift(n, tick):
        ticks.append(tick)
        return n and drift(n - 1, len(ticks))

    ticks = []
    with pytest.raises(RecursionError, match="leads to calls whose arguments differ each time"):
        drift(3000, 0)
    ticks.clear()
    assert drift(50, 0) == 0


@pytest.mark.parametrize("library", ["random", "numpy", "torch"])
def test_random_streams_are_those_of_a_run_that_never_began_again(library):
    """Each level draws on its way down and on its way up; the plain loop draws in that order, too."""
    if library == "random":
        seed, draw = random.seed, random.random
    elif library == "numpy":
        numpy = pytest.importorskip("numpy")
        seed, draw = numpy.random.seed, numpy.random.rand
    else:
        torch = pytest.importorskip("torch")
        seed, draw = torch.manual_seed, lambda: torch.rand(()).item()

    @Memo()
    def level(n):
        down = draw()
        below = level(n - 1) if n else []
        return [*below[-5:], (n, down, draw())]

    seed(7)
    results, after = level(1500), draw()
    seed(7)
    down = [draw() for _ in range(1501)]
    up = [draw() for _ in range(1501)]
    assert results == [(n, down[1500 - n], up[n]) for n in range(1495, 1501)]
    assert after == draw()


def test_a_call_that_left_sees_what_was_entered_between_the_levels():
    torch = pytest.importorskip("torch")
    place = contextvars.ContextVar("place", default=0)

    @Memo()(version="1")  # else a call that reads a context variable is computed plainly
    def level(n):
        """Give what is seen here that is not as it was entered above, or nothing."""
        seen = place.get(), decimal.getcontext().prec, torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
        if n < 3000 and seen != (3000 - n, n + 5, n % 2 == 0, n < 10):
            return f"level {n} sees {seen}"
        if not n:
            return ""
        token = place.set(3001 - n)
        try:
            with (
                torch.set_grad_enabled(n % 2 == 1),
                torch.autocast("cpu", enabled=n < 11),
                decimal.localcontext() as own,
            ):
                own.prec = n + 4
                return level(n - 1)
        finally:
            place.reset(token)

    assert level(3000) == ""
    assert (place.get(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")) == (0, True, False)


def test_streams_are_set_back_to_where_they_were_read():
    torch = pytest.importorskip("torch")
    numpy = pytest.importorskip("numpy")
    numpy.random.standard_normal()  # leaves a second normal number behind, which is part of the state
    states = read_streams()
    assert set(states) == {"random", "numpy.random", "torch"}
    first = [random.gauss(), random.random(), numpy.random.standard_normal(3).tolist(), torch.rand(3).tolist()]
    assert read_streams() != states
    set_streams(states)
    assert read_streams() == states
    again = [random.gauss(), random.random(), numpy.random.standard_normal(3).tolist(), torch.rand(3).tolist()]
    assert first == again


def test_a_shallow_recursion_never_begins_a_body_again():
    level, began = climb()
    with recursion_limit(depth() + 1000):
        assert level(40) == 40
    assert sorted(began) == list(range(41))


def test_what_a_deep_recursion_held_is_freed():
    class Big:
        pass

    @Memo()(max_entries=1)
    def level(n):
        return Big() if n == 0 else (level(n - 1), Big())[1]

    level(3000)
    gc.collect()
    assert sum(type(thing) is Big for thing in gc.get_objects()) == 1


graphs = st.integers(1, 6).flatmap(
    lambda reach: st.tuples(st.just(reach), st.integers(0, 2**32), st.integers(300, 1200), st.sampled_from([0, 1, 9]))
)


@settings(deadline=None, max_examples=40)
@given(graphs, st.sampled_from([None, 0, 3]), st.sampled_from(["plain", "swallow", "catch"]))
def test_any_recursion_over_an_acyclic_graph_gives_what_a_loop_gives(graph, max_entries, manner):
    """Nodes ask for random earlier nodes; some raise; bodies swallow or catch; helpers stand between."""
    reach, seed, size, helpers = graph
    rng = random.Random(seed)
    edges = {n: [rng.randint(max(0, n - 9), n - 1) for _ in range(rng.randint(1, reach))] for n in range(1, size)}
    failing = {n for n in range(size) if rng.random() < 0.02 and manner == "catch"}

    @Memo(max_entries=max_entries)
    def value(n):
        if n in failing:
            raise Bottom(n)
        return 1 if n == 0 else sum(ask(m, helpers) for m in edges[n]) % 1_000_003 + n

    def ask(n, more):
        if more:
            return ask(n, more - 1)
        if manner == "swallow":
            return swallow_by_bare_except(lambda: value(n))
        try:
            return value(n)
        except Bottom as error:
            return -error.args[0]

    expected = {0: 1}
    for n in range(size):
        if n:
            expected[n] = sum(-m if m in failing else expected[m] for m in edges[n]) % 1_000_003 + n
    last = max(set(range(size)) - failing)
    assert value(last) == expected[last]


def test_a_module_of_the_users_may_be_anything():
    """Nothing is asked of the frames in between: they may even be of code that was made by exec."""
    space = types.ModuleType("made")
    space.memo = Memo()
    exec("@memo\ndef f(n):\n    return n and eval('f(n - 1)', {'f': f, 'n': n}) + 1", space.__dict__)  # noqa: S102
    assert space.f(2000) == 2000
