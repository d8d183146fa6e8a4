"""A layer whose outputs are known has the gradients of one whose steps are taken."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from memograd import memo
from memograd._scan._directions import Direction
from memograd._scan._hindsight import hindsight, knows
from memograd._scan._layer import layer
from memograd._share._trie import Rows, chains

KINDS = {
    "LSTM": nn.LSTM,
    "GRU": nn.GRU,
    "tanh": nn.RNN,
    "relu": lambda e, h, **k: nn.RNN(e, h, nonlinearity="relu", **k),
}


def gradients(way, of, y=None):
    outputs, c = way() if y is None else way(y)
    ends = [outputs.square().sum(), *([c.sum()] if c.numel() else [])]
    return [outputs.detach(), *torch.autograd.grad(ends, of)]


@settings(deadline=None, max_examples=40)
@given(
    kind=st.sampled_from([*KINDS]),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    bias=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_gradients_are_those_of_the_steps(kind, lengths, bias, dtype):
    torch.manual_seed(len(lengths))
    module = KINDS[kind](5, 8, bias=bias, dtype=dtype)
    stack = memo.scan(module)._stack()
    lengths = torch.tensor(sorted(lengths, reverse=True)).numpy()
    trie = chains(Rows.of(lengths), torch.arange(len(lengths)).numpy())
    levels = Direction.of(trie, torch.device("cpu")).levels(None, 0, trie.levels)
    x = torch.randn(len(trie), 5, dtype=dtype, requires_grad=True)
    h = torch.randn(len(lengths), 8, dtype=dtype, requires_grad=True)
    c = torch.randn(len(lengths), 8, dtype=dtype, requires_grad=True) if kind == "LSTM" else None
    w, of = stack.at(0, 0), [x, h, *([c] if kind == "LSTM" else []), *module.parameters()]
    taken = gradients(lambda: layer(stack.cell, w, levels, x, h, c), of)
    known = gradients(lambda y: hindsight(stack.cell, w, levels, x, h, c, y), of, taken[0])
    for a, b in zip(known, taken, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * max(float(b.abs().max()), 1))


def test_projected_outputs_and_rounded_ones_do_not_hold_the_states():
    x = torch.zeros(3, 5)
    assert knows(memo.scan(nn.LSTM(5, 8))._stack().at(0, 0), x)
    assert not knows(memo.scan(nn.LSTM(5, 8, proj_size=2))._stack().at(0, 0), x)
    assert not knows(memo.scan(nn.LSTM(5, 8).bfloat16())._stack().at(0, 0), x.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert not knows(memo.scan(nn.LSTM(5, 8))._stack().at(0, 0), x)
