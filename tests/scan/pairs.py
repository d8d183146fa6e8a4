"""A plain module and a memoized one, on rows of two letters."""

from __future__ import annotations

import copy

import torch
from torch import nn

from memograd import memo

CELLS = [nn.LSTM, nn.GRU, nn.RNN]
EVERY = {
    "one layer": {},
    "three layers": {"num_layers": 3},
    "both directions": {"bidirectional": True, "num_layers": 2},
    "no bias": {"bias": False},
}


def few(rows=5, steps=6, size=3, dtype=torch.float32):
    """Give (B, T, E) rows of two letters, the first two of them equal."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, size, generator=g, dtype=dtype)[torch.randint(0, 2, (rows, steps), generator=g)]
    x[1:2] = x[0]
    return x


def pair(cell, **options):
    """Give a plain module, and a memoized one with weights of its own."""
    torch.manual_seed(0)
    plain = cell(3, 4, batch_first=True, **options)
    return plain, memo.scan(copy.deepcopy(plain), engine="levels")


def gradients(module):
    return [p.grad for p in module.parameters()]


def assert_all_close(ours, theirs):
    for mine, yours in zip(ours, theirs, strict=True):
        assert (mine is None) == (yours is None)
        if mine is not None:
            torch.testing.assert_close(mine, yours, rtol=1e-4, atol=1e-5)


def module(cell=nn.LSTM, **options):
    torch.manual_seed(0)
    return cell(3, 4, batch_first=True, **options)


def shared(plain):
    return memo.scan(plain, engine="levels")


def assert_same(one, other, x=None):
    x = few() if x is None else x
    torch.testing.assert_close(one(x)[0], other(x)[0])
