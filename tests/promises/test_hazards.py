"""What goes wrong where functions are memoized, one by one: each remembered call gives what the plain call gives.

Where two calls are one call, that is a hit; where they are not, both are computed.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import importlib.util
import os
import subprocess
import sys
import threading
import time
import types
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from memograd import Memo, MemogradWarning


def counts(f):
    """Tell how many calls of a memoized function were found, and how many computed."""
    return tuple(f.cache_info()[:2])


def assert_answers(f, *calls):
    """Assert that each call gives what the plain function gives, type and bits, at first and when it comes again."""
    for _ in range(2):
        for call in calls:
            assert repr(f(*call)) == repr(f.__wrapped__(*call))
    assert counts(f) == (len(calls), len(calls))


# What two calls are, which are taken for one only by mistake.


def test_one_and_one_point_zero_and_true_are_three_calls():
    assert_answers(Memo()(lambda x: (type(x), x)), (1,), (1.0,), (True,))


def test_one_and_one_point_zero_within_a_tuple_are_two_calls():
    assert_answers(Memo()(lambda x: (type(x[0]), x)), ((1,),), ((1.0,),))


def test_numbers_of_one_hash_and_numbers_and_their_text_are_calls_of_their_own():
    assert_answers(Memo()(lambda x: [x]), (-1,), (-2,), ("1",), (1,))


def test_variadic_arguments_are_not_run_together():
    assert_answers(Memo()(lambda *x: x), (1, 2), ((1, 2),), (1,), ("a:b", "c"), ("a", "b:c"))


def test_zero_and_minus_zero_are_two_calls():
    assert_answers(Memo()(lambda x: str(x)), (0.0,), (-0.0,))


CHANGES = {
    "in place": lambda t: t.add_(1),
    "by data": lambda t: t.data.add_(1),
    "by an array that shares its memory": lambda t: t.numpy().__iadd__(1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_tensor_that_has_changed_is_another_call(change):
    total = Memo()(lambda x: x.sum().item())
    x = torch.ones(3)
    assert (total(x), total(x)) == (3, 3)
    CHANGES[change](x)
    assert (total(x), total(x)) == (6, 6)
    assert counts(total) == (2, 2)


def test_an_array_that_has_changed_is_another_call():
    total = Memo()(lambda x: float(x.sum()))
    x = np.ones(3)
    assert (total(x), total(x)) == (3, 3)
    x += 1
    assert (total(x), total(x)) == (6, 6)
    assert counts(total) == (2, 2)


def test_equal_tensors_are_one_call():
    total = Memo()(lambda x: x.sum().item())
    assert total(torch.ones(3)) == total(torch.ones(3)) == 3
    assert counts(total) == (1, 1)


def test_tensors_that_come_and_go_are_never_taken_for_each_other():
    total = Memo()(lambda x: x.sum().item())
    assert [total(torch.full((3,), float(n))) for n in range(50)] == [3.0 * n for n in range(50)]
    assert counts(total) == (0, 50)


@pytest.mark.parametrize("make", [np.zeros, torch.zeros], ids=["array", "tensor"])
@pytest.mark.parametrize("size", [2000, 600_000])
def test_one_element_in_the_midst_of_many_makes_another_call(make, size):
    total = Memo()(lambda x: float(x.sum()))
    one, other = make(size), make(size)
    other[size // 2] = 1
    assert repr(one) == repr(other)
    assert (total(one), total(other), total(one), total(other)) == (0, 1, 0, 1)
    assert counts(total) == (2, 2)


ALIKE = {
    "dtype": (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
    "shape": (torch.zeros(2, 3), torch.zeros(3, 2)),
    "strides": (torch.zeros(2, 3), torch.zeros(3, 2).t()),
    "requires_grad": (torch.zeros(2), torch.zeros(2, requires_grad=True)),
}


@pytest.mark.parametrize("name", ALIKE)
def test_tensors_that_differ_in_one_thing_alone_are_two_calls(name):
    assert_answers(Memo()(lambda x: (x.dtype, x.shape, x.stride(), x.requires_grad)), *((x,) for x in ALIKE[name]))


def test_a_tensor_without_content_is_computed_and_that_is_said():
    f = Memo()(lambda x: (x + 1).device.type)
    assert f(torch.zeros(2)) == "cpu"
    with pytest.warns(MemogradWarning, match="has no content"):
        assert f(torch.zeros(2, device="meta")) == "meta"
    assert f(torch.zeros(2, device="meta")) == "meta"
    assert counts(f) == (0, 1)


# What comes back.


RESULTS = {
    "a list": (lambda x: [x], lambda y: y.append(7)),
    "a list in a dictionary": (lambda x: {"a": [x]}, lambda y: y["a"].append(7)),
    "a tensor": (lambda x: torch.full((2,), x), lambda y: y.add_(7)),
    "an array": (lambda x: np.full(2, x), lambda y: y.__iadd__(7)),
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_that_a_caller_changes_is_not_changed_for_the_next(name):
    f = Memo()(RESULTS[name][0])
    for _ in range(3):
        result = f(1)
        assert repr(result) == repr(f.__wrapped__(1))
        RESULTS[name][1](result)
    assert counts(f) == (2, 1)


def test_none_is_a_result():
    f = Memo()(lambda x: None)
    assert (f(1), f(1)) == (None, None)
    assert counts(f) == (1, 1)


def test_one_call_is_one_call_however_it_is_written():
    f = Memo()(lambda a, b=2, *, c=3: (a, b, c))
    assert f(1) == f(1, 2) == f(a=1, b=2) == f(b=2, a=1) == f(1, c=3) == (1, 2, 3)
    assert counts(f) == (4, 1)


# What code depends on.


RATE = 2


def rated(x):
    return x * RATE


def test_a_global_that_changes_makes_another_call(monkeypatch):
    f = Memo()(rated)
    assert (f(3), f(3)) == (6, 6)
    monkeypatch.setitem(globals(), "RATE", 5)
    assert (f(3), f(3)) == (15, 15)
    monkeypatch.undo()
    assert f(3) == 6
    assert counts(f) == (3, 2)


def test_a_variable_of_a_closure_that_changes_makes_another_call():
    rate = 2
    f = Memo()(lambda x: x * rate)
    assert (f(3), f(3)) == (6, 6)
    rate = 5
    assert (f(3), f(3)) == (15, 15)
    assert counts(f) == (2, 2)


def test_two_functions_of_one_name_do_not_meet():
    def make(rate):
        return lambda x: x * rate

    store = {}
    double, triple = (Memo(store)(make(rate)) for rate in (2, 3))
    pair = [Memo(store)(f) for f in (lambda x: x + 1, lambda x: x + 2)]
    for _ in range(2):
        assert (double(5), triple(5), pair[0](5), pair[1](5)) == (10, 15, 6, 7)
    assert [counts(f) for f in (double, triple, *pair)] == [(1, 1)] * 4


FILES = {
    "program_of_this_test.py": "from helper_of_this_test import helped\ndef f(x):\n    return helped(x) + 1\n",
    "helper_of_this_test.py": "def helped(x):\n    return x * 2\n",
}
PRINTS_CODE = (
    "import sys; sys.path.insert(0, '.'); sys.dont_write_bytecode = True\n"
    "from program_of_this_test import f\nfrom memograd import Memo, fingerprint\n"
    "print(f(3), Memo()(f)(3), fingerprint(f))"
)


def printed(program, folder, seed="0"):
    """Run a program in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("file", "old", "new", "given"),
    [("helper_of_this_test.py", "* 2", "* 5", "16"), ("program_of_this_test.py", "+ 1", "+ 2", "8")],
    ids=["a helper", "the source"],
)
def test_an_edit_is_seen_in_a_new_process_and_code_that_only_moved_is_not(tmp_path, file, old, new, given):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    first = printed(PRINTS_CODE, tmp_path)
    assert first[:2] == ["7", "7"]
    (tmp_path / file).write_text("# It has moved.\n\n\n" + FILES[file])
    assert printed(PRINTS_CODE, tmp_path, seed="1") == first
    (tmp_path / file).write_text(FILES[file].replace(old, new))
    after = printed(PRINTS_CODE, tmp_path)
    assert after[:2] == [given, given]
    assert after[2] != first[2]


PRINTS_ARGUMENTS = (
    "import torch\nfrom memograd import Memo, fingerprint\n"
    "torch.manual_seed(0)\n"
    "for value in ('text', {'a', 'b', 'c'}, {'a': frozenset('xyz')}, torch.arange(6.0), torch.nn.Linear(1, 1)):\n"
    "    print(fingerprint(value))\n"
    "print(''.join({'a', 'b', 'c', 'd', 'e', 'f', 'g'}))"
)


def test_text_sets_tensors_and_modules_are_in_a_new_process_what_they_were(tmp_path):
    one, other = (printed(PRINTS_ARGUMENTS, tmp_path, seed) for seed in ("1", "2"))
    assert one[:-1] == other[:-1]
    assert len(set(one[:-1])) == 5
    assert one[-1] != other[-1]


# What modules and modes of torch do to a call.


def stepped(net):
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(net.parameters(), lr=0.5).step()


NETS = {
    "a step of an optimizer": stepped,
    "by data": lambda net: net[0].weight.data.add_(1),
    "from training to evaluation": lambda net: net.eval(),
}


@pytest.mark.parametrize("change", NETS)
def test_a_module_that_has_changed_is_another_call(change):
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(1.0))
    f = Memo()(lambda net, x: (net[0](x) + net.training).tolist())
    x = torch.ones(1, 2)
    with torch.no_grad():
        before = f(net, x)
        assert f(net, x) == before == f.__wrapped__(net, x)
        assert counts(f) == (1, 1)
    NETS[change](net)
    with torch.no_grad():
        assert f(net, x) == f.__wrapped__(net, x) != before
    assert counts(f) == (1, 2)


def test_a_dropout_is_drawn_anew_at_every_call():
    net = nn.Dropout(0.5)
    f = Memo()(lambda x: net(x))
    x = torch.ones(64)

    def drawn(f):
        torch.manual_seed(0)
        return [f(x).tolist() for _ in range(4)]

    expected = drawn(net)
    assert len(set(map(str, expected))) == 4
    assert drawn(f) == expected
    assert drawn(f) == expected
    assert counts(f) == (4, 4)


def test_after_a_hit_the_next_draw_is_that_of_the_plain_program():
    def f(x):
        return torch.rand(x).tolist()

    def drawn(f):
        torch.manual_seed(0)
        return [f(3), torch.rand(1).item()]

    remembered = Memo()(f)
    assert drawn(remembered) == drawn(remembered) == drawn(f)
    assert counts(remembered) == (1, 1)


@contextlib.contextmanager
def doubles():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


MODES = {
    "autocast": (lambda x: (x @ x).dtype, lambda: torch.autocast("cpu")),
    "grad mode": (lambda x: (x * torch.ones(2, 2, requires_grad=True)).requires_grad, torch.no_grad),
    "the default dtype": (lambda x: torch.ones(2).dtype, doubles),
}


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_of_torch_makes_another_call(mode):
    body, enter = MODES[mode]
    f = Memo()(body)
    x = torch.ones(2, 2)
    outside = f(x)
    with enter():
        inside = f(x)
        assert f(x) == inside == body(x) != outside
    assert f(x) == outside == body(x)
    assert counts(f) == (2, 2)


# Gradients.


def test_each_of_two_hits_can_be_run_back():
    weight = torch.ones(2, requires_grad=True)
    f = Memo()(lambda x: (weight * x).sum())
    kept = f(3)
    for times in (1, 2):
        f(3).backward()
        assert weight.grad.tolist() == [3.0 * times] * 2
    kept.backward()
    assert weight.grad.tolist() == [9.0] * 2
    assert counts(f) == (2, 1)


def test_two_calls_in_one_loss_give_the_plain_gradient():
    x = torch.ones(2, requires_grad=True)
    f = Memo()(lambda x: x**3)
    (f(x) + f(x)).sum().backward()
    assert x.grad.tolist() == [6.0] * 2
    assert counts(f) == (1, 1)


# Depth.


def fibonacci(n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


@pytest.mark.parametrize(("n", "limit"), [(900, 1000), (5000, 10**6), (100_000, 10**6)])
def test_a_recursion_returns_whatever_the_limit_is(n, limit):
    @Memo()
    def recursive(n):
        return n if n < 2 else recursive(n - 1) + recursive(n - 2)

    before = sys.getrecursionlimit()
    sys.setrecursionlimit(limit)
    try:
        assert recursive(n) == fibonacci(n)
    finally:
        sys.setrecursionlimit(before)
    assert recursive.cache_info().misses == n + 1


# Who computes.


def test_sixteen_threads_that_ask_for_one_call_compute_it_once():
    began = []
    start = threading.Barrier(16)

    @Memo()(version="1")
    def f(x):
        began.append(x)
        time.sleep(0.05)
        return [x]

    def ask(_):
        start.wait(30)
        return f(1)

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, range(16))) == [[1]] * 16
    assert began == [1]


def test_sixteen_tasks_that_ask_for_one_call_compute_it_once():
    began = []

    @Memo()(version="1")
    async def f(x):
        began.append(x)
        await asyncio.sleep(0)
        return [x]

    async def main():
        return await asyncio.gather(*(f(1) for _ in range(16)))

    assert asyncio.run(main()) == [[1]] * 16
    assert began == [1]


def test_an_exception_is_raised_each_time_and_keeps_nobody_waiting():
    broken = True

    def f(x):
        if broken:
            raise ValueError(x)
        return x

    remembered = Memo()(f)
    for _ in range(3):
        with pytest.raises(ValueError, match="1"):
            remembered(1)
    broken = False
    assert (remembered(1), remembered(1)) == (1, 1)
    assert counts(remembered) == (1, 4)


def test_what_is_used_up_by_being_read_comes_whole_each_time():
    def generator(n):
        yield from range(n)

    with pytest.raises(TypeError, match="a generator function"):
        Memo()(generator)
    f = Memo()(lambda n: generator(n))
    with pytest.warns(MemogradWarning, match="used up by being read"):
        assert list(f(3)) == [0, 1, 2]
    assert list(f(3)) == [0, 1, 2]


def test_what_is_gone_is_free():
    class Thing:
        def __init__(self, size):
            self.size = size
            self.data = torch.ones(size)

        @Memo()
        def total(self, by):
            return self.data.sum().item() * by.sum().item()

    thing, by = Thing(3), torch.ones(2)
    assert thing.total(by) == thing.total(by) == 6
    assert counts(Thing.total) == (1, 1)
    gone = [weakref.ref(each) for each in (thing, thing.data, by)]
    del thing, by
    gc.collect()
    assert [each() for each in gone] == [None] * 3


# What arguments may be.


@dataclasses.dataclass
class Point:
    x: int
    y: list


def frame():
    import pandas as pd

    return pd.DataFrame({"a": [1, 2], "b": ["x", None]})


ARGUMENTS = {
    "a list": (lambda: [1, [2]], lambda x: x[1].append(3)),
    "a dictionary": (lambda: {"a": [1], "b": 2}, lambda x: x["a"].append(3)),
    "a set": (lambda: {1, 2}, lambda x: x.add(3)),
    "a dataclass": (lambda: Point(1, [2]), lambda x: x.y.append(3)),
    "an object": (lambda: types.SimpleNamespace(a=[1]), lambda x: x.a.append(3)),
    "an array": (lambda: np.arange(3), lambda x: x.__iadd__(1)),
    **({"a frame": (frame, lambda x: x.insert(0, "c", 3))} if importlib.util.find_spec("pandas") else {}),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_what_has_no_hash_is_an_argument_by_its_content(name):
    make, change = ARGUMENTS[name]
    f = Memo(strict=True)(lambda x: repr(x))
    value = make()
    assert f(value) == f(make()) == repr(make())
    assert counts(f) == (1, 1)
    change(value)
    assert f(value) == f(value) == repr(value) != repr(make())
    assert counts(f) == (2, 2)
