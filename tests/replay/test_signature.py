"""Calls that differ in data alone have one signature."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from memograd._replay import signature


class Config:
    def __init__(self, *, on=False):
        self.on = on


def trained(net):
    net.train(not net.training)


def noted(net):
    net[0].flag = True


def deep(net):
    net[0].config = Config()


def hooked(net):
    net[0].register_forward_hook(lambda *_: None)


@pytest.mark.parametrize("change", [trained, noted, deep, hooked])
def test_what_a_module_is_counts(change):
    net = nn.Sequential(nn.Linear(2, 2))
    before = signature([net])
    assert signature([net]) == before
    change(net)
    assert signature([net]) != before


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (1, True),
        (1, 2),
        (0.0, -0.0),
        ("a", "b"),
        ([1], (1,)),
        ([[1], 2], [[1, 2]]),
        ({"on": True}, {"on": False}),
        ({"on": 1}, {"off": 1}),
        (Config(), Config(on=True)),
        (torch.ones(2), torch.ones(2, requires_grad=True)),
        (torch.ones(2), torch.ones(2, dtype=torch.float64)),
    ],
)
def test_types_and_plain_values_count(a, b):
    assert signature([a]) != signature([b])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (torch.ones(2), torch.zeros(3)),
        (np.ones(2), np.zeros(3)),
        (nn.Linear(2, 2), nn.Linear(3, 3, bias=True).requires_grad_()),
        (Config(), Config()),
    ],
)
def test_data_do_not(a, b):
    if isinstance(b, nn.Linear):
        b.in_features = b.out_features = 2
    assert signature([a]) == signature([b])


def test_what_contains_itself_has_one():
    loop = [1]
    loop.append(loop)
    assert signature([loop]) != signature([[1, [1]]])
