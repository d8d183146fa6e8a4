"""Never stale: whatever changes between two calls, alone and together with another change, is seen."""

from __future__ import annotations

import functools
import itertools

import pytest
import torch
from torch import nn

from memograd import Memo

PREPARED = {"by": 1.0}


def prepared(x):
    return x * PREPARED["by"]


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = 2.0
        self.table = {"offset": [1.0]}
        self.inner = nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.GELU(), nn.Linear(32, 8))
        self.inner.eval().requires_grad_(False)

    def forward(self, x):
        return self.inner(prepared(x)) * self.scale + self.table["offset"][0]


def through_numpy(model):
    model.inner[0].weight.detach().numpy()[0] += 1


def ones(model):
    return torch.ones_like(model.inner[0].weight)


CHANGES = {
    "a weight, .data": lambda m: m.inner[0].weight.data.add_(0.5),
    "a weight, through numpy": through_numpy,
    "a weight, replaced": lambda m: setattr(m.inner[0], "weight", nn.Parameter(ones(m))),
    "a weight, swapped": lambda m: setattr(m.inner[0].weight, "data", ones(m)),
    "one number of a bias": lambda m: m.inner[3].bias.data[3:4].add_(1),
    "running statistics": lambda m: m.inner[1].running_var.add_(1),
    "weights, loaded": lambda m: m.load_state_dict(Model().state_dict()),
    "an attribute": lambda m: setattr(m, "scale", m.scale + 1),
    "deep in an attribute": lambda m: m.table["offset"].append(m.table["offset"].pop() + 1),
    "preprocessing": lambda _: PREPARED.update(by=PREPARED["by"] + 1),
    "a layer": lambda m: setattr(m.inner, "2", nn.ReLU()),
    "a layer's option": lambda m: setattr(m.inner[2], "approximate", "tanh"),
    "forward": lambda m: setattr(m, "forward", functools.partial(lambda x, inner: inner(x), inner=m.inner)),
    "dtype": lambda m: m.double(),
}


PAIRS = [("module", pair) for pair in itertools.permutations(CHANGES, 2)]
ALONE = [(kind, (change,)) for kind in ("function", "method") for change in CHANGES]


@pytest.mark.filterwarnings("ignore::memograd.MemogradWarning")
@pytest.mark.parametrize(("kind", "changes"), [*PAIRS, *ALONE], ids=str)
def test_a_change_is_seen(changes, kind):
    torch.manual_seed(0)
    PREPARED["by"] = 1.0
    model = Model()
    f = {"module": model, "function": lambda t: model(t), "method": model.forward}[kind]
    mine = Memo().rows(f, always=True)
    x = torch.randn(6, 16)
    mine(x)
    for change in changes:
        CHANGES[change](model)
        given = x.to(model.inner[0].weight.dtype)
        if kind == "method" and change == "forward":
            continue
        for _ in range(2):
            torch.testing.assert_close(mine(given), f(given))


@pytest.mark.parametrize("mode", [lambda: torch.autocast("cpu", torch.bfloat16), torch.inference_mode, torch.no_grad])
def test_modes_of_the_moment_are_seen(mode):
    model = Model()
    mine = Memo().rows(model, always=True)
    x = torch.randn(6, 16)
    mine(x)
    with mode():
        y, plain = mine(x), model(x)
        assert (y.dtype, y.is_inference(), y.requires_grad) == (plain.dtype, plain.is_inference(), plain.requires_grad)
        torch.testing.assert_close(y, plain)
    torch.testing.assert_close(mine(x), model(x))


def test_batches_that_hold_the_same_bits_as_other_columns_are_others():
    mine = Memo().rows(lambda a, b: 2 * a - b, always=True)
    a, b = torch.randn(4, 3), torch.randn(4, 3)
    mine(a, b)
    torch.testing.assert_close(mine(b, a), 2 * b - a)
    torch.testing.assert_close(mine(b=a, a=b), 2 * b - a)
    wide = Memo().rows(lambda a, b: a.sum(1) - b.sum(1), always=True)
    x = torch.randn(4, 6)
    wide(x[:, :2], x[:, 2:])
    torch.testing.assert_close(wide(x[:, :4], x[:, 4:]), x[:, :4].sum(1) - x[:, 4:].sum(1))
