"""A tensor that a call has put somewhere is found where the call can have put it."""

from __future__ import annotations

import functools
from collections import deque
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from memograd._replay._run import _sequence_number
from memograd._replay._stashes import stashes

KEPT = {}


def save(_module, _args, out):
    KEPT["out"] = out


def hooked(hook):
    net = nn.Sequential(nn.Linear(2, 2))
    net[0].register_forward_hook(hook)
    return net


def closing(value):
    return lambda: value


def with_attribute(value):
    net = nn.Sequential(nn.Linear(2, 2))
    net[0].features = value
    return net


class Saver:
    def __init__(self, value):
        self.value = value

    def save(self, *_):
        pass

    __call__ = save


@pytest.mark.parametrize(
    "put",
    [
        lambda y: y,
        lambda y: [[y]],
        lambda y: {"a": (y,)},
        lambda y: deque([y]),
        lambda y: [*range(10_000), y],
        lambda y: SimpleNamespace(y=y),
        with_attribute,
        lambda y: hooked(closing(y)),
        lambda y: hooked(Saver(y).save),
        lambda y: hooked(Saver(y)),
        lambda y: hooked(functools.partial(save, None, None, y)),
        lambda y: hooked(lambda m, a, o, kept=y: kept),
    ],
)
def test_it_is_found(put):
    x = torch.ones(2, requires_grad=True)
    before = x * 2
    start = _sequence_number()
    assert stashes([put(x * 2)], start)
    assert not stashes([put(before)], start)
    assert not stashes([put(x)], start)
    assert not stashes([put((x * 2).detach())], start)


def test_a_global_that_a_hook_names_is_looked_at():
    net, start = hooked(save), _sequence_number()
    assert not stashes([net], start)
    net(torch.ones(2))
    assert stashes([net], start)
    KEPT.clear()


def test_what_leads_back_to_itself_ends():
    loop = []
    loop.append(loop)
    assert not stashes([loop, hooked(lambda: loop)], 0)
