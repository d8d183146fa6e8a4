"""Never fatal: where the plain module works, nothing of memograd's own raises."""

from __future__ import annotations

import copy
import os
import signal
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.promises.small import few
from tests.scan.batches import ids, inputs, modules, states
from tests.scan.pairs import CELLS, module
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from memograd import memo

SPECIAL = [0.0, -0.0, float("nan"), float("inf"), -float("inf"), 1e38, -1e38, 1e-45]


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@given(st.data())
@settings(max_examples=60, derandomize=True, deadline=None)
def test_whatever_the_values_what_is_not_a_number_is_so_in_both(data):
    plain = data.draw(modules([torch.float32]))
    rows = data.draw(ids())
    x = data.draw(inputs(plain, rows))
    every, special = data.draw(st.integers(2, 5)), data.draw(st.sampled_from(SPECIAL))
    values = x.data if isinstance(x, nn.utils.rnn.PackedSequence) else x
    with torch.no_grad():
        values[torch.arange(values.numel()).view(values.shape) % every == 0] = special
        mine = memo.scan(plain, engine="levels")
        hx = data.draw(states(plain, len(rows.table)))
        ours, theirs = mine(x, hx)[0], plain(x, hx)[0]
    ours, theirs = (y.data if isinstance(y, nn.utils.rnn.PackedSequence) else y for y in (ours, theirs))
    torch.testing.assert_close(ours, theirs, equal_nan=True, rtol=1e-4, atol=1e-5)


def in_deterministic_mode(call):
    torch.use_deterministic_algorithms(mode=True)
    try:
        return call()
    finally:
        torch.use_deterministic_algorithms(mode=False)


def with_double_as_default(call):
    torch.set_default_dtype(torch.float64)
    try:
        return call()
    finally:
        torch.set_default_dtype(torch.float32)


def under(context):
    def run(call):
        with context():
            return call()

    return run


def without_onednn(call):
    torch._C._set_mkldnn_enabled(False)
    try:
        return call()
    finally:
        torch._C._set_mkldnn_enabled(True)


class Passing(TorchFunctionMode):
    def __torch_function__(self, f, types, args=(), kwargs=None):
        return f(*args, **(kwargs or {}))


CIRCUMSTANCES = {
    "deterministic": in_deterministic_mode,
    "double as default": with_double_as_default,
    "meta as default": under(lambda: torch.device("meta")),
    "a function mode": under(Passing),
    "a dispatch mode": under(lambda: FlopCounterMode(display=False)),
    "without oneDNN": without_onednn,
    "autocast": under(lambda: torch.autocast("cpu", dtype=torch.bfloat16)),
    "saved elsewhere": under(torch.autograd.graph.save_on_cpu),
    "no grad": under(torch.no_grad),
    "inference": under(torch.inference_mode),
}


@pytest.mark.parametrize("circumstance", CIRCUMSTANCES)
@pytest.mark.parametrize("cell", CELLS)
def test_under_every_circumstance_it_works_as_plain_does(cell, circumstance):
    """Forward and, where there is a graph, backward."""
    plain, x = module(cell), few()

    def step(each):
        y, _ = each(x)
        return y, *(torch.autograd.grad(y.sum(), list(each.parameters())) if y.requires_grad else ())

    run, mine = CIRCUMSTANCES[circumstance], memo.scan(plain, engine="levels")
    ours, theirs = run(lambda: step(mine)), run(lambda: step(plain))
    allowed = 3e-2 if circumstance == "autocast" else 1e-5
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=allowed, atol=allowed)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_can_go_on():
    """On one thread, as the workers of a DataLoader do: a child has none of OpenMP's, and torch would wait for them."""
    mine = memo.scan(module(), engine="levels")
    mine(few())[0].sum().backward()
    child = os.fork()
    if not child:
        signal.alarm(60)
        torch.set_num_threads(1)
        mine(few())[0].sum().backward()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_threads_may_share_one_module():
    mine, plain = memo.scan(module(), engine="levels"), module()
    expected = plain(few())[0]
    wrong = []

    def use():
        for _ in range(20):
            with torch.no_grad():
                wrong.extend(() if torch.allclose(mine(few())[0], expected, atol=1e-6) else [1])

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("cell", CELLS)
def test_long_rows_are_no_deep_recursion(cell):
    """One prompt of 5,000 steps, two answers: forward and backward."""
    x = torch.randn(1, 5000, 3, generator=torch.Generator().manual_seed(0)).expand(2, -1, -1).clone()
    x[1, -1] = 0
    mine, plain = memo.scan(module(cell), engine="levels"), copy.deepcopy(module(cell))
    for each in (mine, plain):
        each(x)[0][:, -1].sum().backward()
    torch.testing.assert_close(mine.weight_hh_l0.grad, plain.weight_hh_l0.grad, rtol=1e-3, atol=1e-5)


def test_vectors_of_many_numbers_and_of_one():
    for size in (1, 5000):
        x = torch.randn(2, size, generator=torch.Generator().manual_seed(0))[torch.tensor([[0, 1], [0, 0], [0, 1]])]
        plain = nn.GRU(size, 2, batch_first=True)
        torch.testing.assert_close(memo.scan(plain, engine="levels")(x)[0], plain(x)[0], rtol=1e-4, atol=1e-5)
