"""Inside a recorded call nothing is set apart again."""

from __future__ import annotations

import threading
import time

import torch
from tests.replay.replayed import Replayed
from torch import nn

from memograd._replay import inside


def test_a_recursion_over_tensors_goes_back_in_linear_time():
    weight = torch.tensor([0.5, 0.25], requires_grad=True)

    def run(n):
        def step(k):
            return torch.ones(()) if k < 2 else f(k - 1) * weight[0] + f(k - 2) * weight[1]

        f = Replayed(step, key=lambda k: k)

        def climb(_):
            for k in range(n):  # Bottom-up, as the landing does: each call finds those below it.
                f(k)
            return f(n)

        outer = Replayed(climb)
        y = outer(0)
        begin = time.process_time()
        y.backward()
        return f.calls, time.process_time() - begin

    run(200)
    short = min(run(1_000)[1] for _ in range(3))
    calls, long = run(10_000)
    assert calls == 10_001
    assert long < 40 * short


def test_gradients_of_nested_calls_agree_with_the_plain_program():
    net = nn.Linear(3, 3)
    inner = Replayed(lambda x: net(x).tanh())
    outer = Replayed(lambda x: inner(x) + inner(x).exp())
    x = torch.ones(2, 3, requires_grad=True)
    (outer(x) + outer(x)).sum().backward()
    found = [x.grad, net.weight.grad, net.bias.grad]
    x.grad = net.weight.grad = net.bias.grad = None
    for _ in range(2):
        y = net(x).tanh()
        (y + y.exp()).sum().backward()
    for a, b in zip(found, [x.grad, net.weight.grad, net.bias.grad], strict=True):
        torch.testing.assert_close(a, b)
    assert (inner.calls, outer.calls) == (1, 1)


def test_changing_what_a_nested_call_gave_spoils_nothing():
    inner = Replayed(lambda x: x * 2)

    def both(x):
        y = inner(x)
        y.add_(100)
        return inner(x) + y

    x = torch.ones(2, requires_grad=True)
    y = Replayed(both)(x)
    assert y.tolist() == [104, 104]
    y.sum().backward()
    assert x.grad.tolist() == [4, 4]


def test_the_scope_ends_with_its_call():
    scopes = []

    def f(x):
        scopes.append(inside())
        return x * 2

    Replayed(f)(torch.ones(2, requires_grad=True))
    assert scopes[0] is not None
    assert not scopes[0].open
    assert inside() is None


def test_other_threads_are_not_inside():
    found = []

    def f(x):
        thread = threading.Thread(target=lambda: found.append(inside()))
        thread.start()
        thread.join()
        return x * 2

    Replayed(f)(torch.ones(2, requires_grad=True))
    assert found == [None]
