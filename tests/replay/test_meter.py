"""Bytes that operations hold at once."""

from __future__ import annotations

import torch

from memograd._replay._meter import Meter


def test_what_is_held_at_once_is_counted_and_what_is_let_go_is_not():
    with Meter() as meter:
        for _ in range(5):
            a = torch.ones(1000)
            b = a + 1
            del a, b
    assert meter.peak == 8000
    assert meter.now == 0


def test_views_and_what_is_written_into_count_once():
    given = torch.ones(1000)
    with Meter() as meter:
        given.add_(1)
        a = given.view(10, 100)[2:]
        b = torch.empty(1000)
        torch.add(given, 1, out=b)
        c = b[:10]
    assert meter.peak == 4000
    assert a is not c


def test_what_a_graph_saves_counts_until_it_is_gone():
    x = torch.ones(1000, requires_grad=True)
    with Meter() as meter:
        y = x.exp().exp()
        assert meter.now == 8000
        y.sum().backward()
        x.grad = None
        del y
    assert meter.now == 0
