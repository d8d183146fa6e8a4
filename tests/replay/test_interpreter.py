"""A program that runs as a plan says: the gradients of one graph, whatever is kept, and the draws of one pass."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memograd._replay._interpreter import Interpreter, Needs
from memograd._replay._plan import Costs, plan, smallest

STEPS, SIZE = 23, 3


class Tanh:
    """h' = tanh(h w + x), with noise where it draws; outputs are the states."""

    def __init__(self, x, draws=""):
        self.x, self.how, self.outputs, self.dx, self.dy = x, draws, {}, torch.zeros_like(x), torch.ones_like(x)
        self.drawn = []

    @property
    def draws(self):
        return bool(self.how)

    def read(self, begin, end):
        return [self.x[begin:end]]

    def run(self, begin, end, inputs, carry, weights):
        (h,), (w,) = carry, weights
        outputs = []
        for k in range(end - begin):
            h = torch.tanh(h @ w + inputs[0][k]) + self.noise(begin + k)
            outputs.append(h)
        return [torch.stack(outputs)], [h]

    def noise(self, step):
        if not self.how:
            return 0.0
        value = {"torch": lambda: torch.rand(()).item(), "random": random.random, "numpy": np.random.rand}[self.how]()
        self.drawn.append((step, value))
        return value

    def write(self, begin, end, outputs):
        assert not self.outputs.keys() & range(begin, end)
        self.outputs.update(zip(range(begin, end), outputs[0].detach(), strict=True))

    def coming(self, begin, end):
        return [self.dy[begin:end]]

    def give(self, begin, end, grads):
        self.dx[begin:end] = grads[0]

    looks_back = wants_outputs = False

    def keep(self, carry):
        return carry

    def restore(self, at, kept):  # noqa: ARG002 - all is kept
        return list(kept)


def problem():
    torch.manual_seed(0)
    x, h, w = (torch.randn(*shape, dtype=torch.float64) for shape in ((STEPS, SIZE), (SIZE,), (SIZE, SIZE)))
    return x, h, w


def plain():
    x, h, w = (t.requires_grad_() for t in problem())
    state, total = h, torch.zeros((), dtype=torch.float64)
    for t in range(STEPS):
        state = torch.tanh(state @ w + x[t])
        total = total + state.sum()
    return [state.detach(), *torch.autograd.grad(total, (x, h, w))]


@given(st.integers(0, 60), st.integers(1, 4), st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_gradients_are_those_of_one_graph_and_no_more_is_run_than_planned(more, carry, step):
    costs = Costs(carry, step)
    schedule = plan(STEPS, smallest(STEPS, costs) + more, costs)
    x, h, w = problem()
    program = Tanh(x)
    run = Interpreter(program, schedule, Needs((True,), (True,), (True,)))
    (last,) = run.forward([h], [w])
    (dh,), (dw,) = run.back([h], [w], [None])
    for ours, theirs in zip((last, program.dx, dh, dw), plain(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert run.ran == STEPS + schedule.ahead
    assert sorted(program.outputs) == list(range(STEPS))


@pytest.mark.parametrize("stream", ["torch", "random", "numpy"])
def test_steps_that_run_again_draw_what_they_drew_and_the_streams_are_left_alone(stream):
    x, h, w = problem()
    program = Tanh(x, stream)
    run = Interpreter(program, plan(STEPS, 13, Costs(2, 3)), Needs((True,), (True,), (True,)))
    run.forward([h], [w])
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes(), np.random.get_state()[2]
    run.back([h], [w], [None])
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes(), np.random.get_state()[2]
    assert torch.equal(states[0], after[0])
    assert states[1:] == after[1:]
    assert len(program.drawn) > STEPS
    assert len(set(program.drawn)) == STEPS


def test_a_second_way_back_runs_forward_once_more_and_gives_the_same():
    x, h, w = problem()
    schedule = plan(STEPS, 13, Costs(2, 3))
    run = Interpreter(Tanh(x), schedule, Needs((True,), (True,), (True,)))
    run.forward([h], [w])
    first, second = (run.back([h], [w], [None]) for _ in range(2))
    assert torch.equal(first[0][0], second[0][0])
    assert torch.equal(first[1][0], second[1][0])


def test_nothing_is_kept_where_no_gradient_is_asked_for():
    x, h, w = problem()
    run = Interpreter(Tanh(x), plan(STEPS, 13, Costs(2, 3)), Needs((False,), (False,), (False,)))
    run.forward([h], [w])
    assert run.ran == STEPS
    assert not run._kept
    assert run._recorded is None


def test_one_tensor_given_as_two_gradients_is_not_added_to():
    """The gradients of two weights that are added are one tensor."""

    class Two(Tanh):
        def run(self, begin, end, inputs, carry, weights):
            return super().run(begin, end, inputs, carry, [weights[0] + weights[1]])

    x, h, w = problem()
    run = Interpreter(Two(x), plan(STEPS, 13, Costs(2, 3)), Needs((True,), (True,), (True, True)), owns=True)
    run.forward([h], [w / 2, w / 2])
    _, (one, two) = run.back([h], [w / 2, w / 2], [None])
    torch.testing.assert_close(one, plain()[3], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(two, plain()[3], rtol=1e-12, atol=1e-12)
