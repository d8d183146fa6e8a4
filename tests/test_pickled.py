"""Memoized functions travel: by name to processes that can import them, by value (cloudpickle) to those that cannot."""

from __future__ import annotations

import pickle
import subprocess
import sys

import cloudpickle
import pytest

from memograd import Memo, memo
from memograd._memo import memo as default

HERE = """
import sys
import torch
from memograd import Memo, memo

FACTOR = 3

def scaled(n):
    return n * FACTOR

@memo
def f(n, m=2):
    return scaled(n) + m

@memo
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

@Memo(max_entries=3)
def bounded(n, *, k=1):
    return [n, k]

@memo(store={})
async def slow(n):
    return n + 1

@memo(version="1")
def noisy(x):
    return x + torch.rand(2)

class Model:
    @memo
    def times(self, n):
        return 2 * n

    @classmethod
    @memo
    def named(cls, n):
        return cls.__name__ * n

f(3), f(3), f(3), fibonacci(30), bounded(1), Model().times(2)
import cloudpickle
sys.stdout.buffer.write(cloudpickle.dumps((f, fibonacci, bounded, slow, noisy, Model)))
"""

THERE = """
import asyncio, pickle, sys
from memograd import memo
f, fibonacci, bounded, slow, noisy, Model = pickle.load(sys.stdin.buffer)
assert f.cache_info() == (0, 0, None, 0), f.cache_info()
assert [f(3), f(n=3, m=2), f(3, 4)] == [11, 11, 13]
assert f.cache_info()[:2] == (1, 2)
f.__wrapped__.__globals__["FACTOR"] = 5
assert f(3) == 17
assert fibonacci(200) == 280571172992510140037611932413038677189525
assert fibonacci(5000) > 0
for n in range(5):
    assert bounded(n) == [n, 1]
assert bounded.cache_info().currsize == 3
assert bounded.cache_parameters()["maxsize"] == 3
assert asyncio.run(slow(1)) == asyncio.run(slow(1)) == 2
assert slow.cache_info()[:2] == (1, 1)
import torch
torch.manual_seed(0)
one = noisy(torch.ones(2)), torch.rand(1)
torch.manual_seed(0)
two = noisy(torch.ones(2)), torch.rand(1)
assert all(map(torch.equal, one, two)) and noisy.cache_info().hits == 1
assert Model().times(4) == 8 and Model.named(2) == "ModelModel"
assert f.cached(3) and f.forget(3) and not f.cached(3)
assert "f(n=3, m=2)" in str(f.explain(3))
assert f.stats().nbytes == memo.store.nbytes
f.cache_clear()
assert f.cache_info() == (0, 0, None, 0)
"""


def test_functions_of_a_script_travel_by_value_and_begin_anew():
    made = subprocess.run([sys.executable, "-c", HERE], capture_output=True, check=True).stdout
    there = subprocess.run([sys.executable, "-c", THERE], input=made, capture_output=True, check=False)
    assert there.returncode == 0, there.stderr.decode()


@memo
def imported(n):
    return n + 1


def test_a_function_of_a_module_travels_by_name():
    assert pickle.loads(pickle.dumps(imported)) is imported  # noqa: S301 - it is ours
    assert len(pickle.dumps(imported)) < 200


def here(own):
    """Make a function that only its value tells: its module does not know it by name."""

    @own
    def f(n):
        return n + 1

    return f


@pytest.mark.parametrize("own", [default, Memo(max_bytes="1MiB"), Memo({})], ids=["default", "memory", "mapping"])
def test_results_do_not_travel(own):
    f = here(own)
    f(1), f(1), f(1)
    again = pickle.loads(cloudpickle.dumps(f))  # noqa: S301
    assert again is not f
    assert again.cache_info() == (0, 0, None, 0)
    assert [again(1), again(1)] == [2, 2]
    assert again.cache_info()[:2] == (1, 1)
    assert f.cache_info()[:2] == (2, 1)


def test_a_store_that_can_travel_does(tmp_path):
    from collections import UserDict

    f = here(Memo(UserDict()))
    again = pickle.loads(cloudpickle.dumps(f))  # noqa: S301
    assert again(1) == 2
    assert again.cache_info().currsize == 1


def test_options_travel():
    f = here(Memo()(max_entries=2, rng="freeze", verify=0.5, live="1MiB", trust="versions"))
    again = pickle.loads(cloudpickle.dumps(f))  # noqa: S301
    assert again.cache_parameters() == f.cache_parameters()
    assert again.cache_clear.__self__._recall.options == f.cache_clear.__self__._recall.options
