"""Memo is plain: the bits where the receipt says so, else an error against float64 that is no larger than plain's."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.rows.models import CASES, frozen
from torch import nn

from memograd import Memo

NOISE = 1.5


def error(y, reference):
    return float((y.double() - reference).abs().max())


@pytest.mark.parametrize("size", [1, 5, 16, 40, 130])
@pytest.mark.parametrize("case", CASES)
def test_results_are_as_near_to_float64_as_plain_ones(case, size):
    make, batch = CASES[case]
    model, x = frozen(make()), batch(size)
    mine = Memo().rows(model, always=True)
    y, plain = mine(x), model(x)
    reference = copy.deepcopy(model).double()(x.double())
    assert error(y, reference) <= NOISE * error(plain, reference) + 1e-7
    if mine.receipt.exact == "bits":
        assert torch.equal(y, plain)
    else:
        assert 0 < mine.receipt.error < 1e-5


@pytest.mark.parametrize("times", [2, 4])
@pytest.mark.parametrize("case", CASES)
def test_gradients_are_as_near_to_float64_as_plain_ones(case, times):
    make, batch = CASES[case]
    model, x = make().eval(), batch(12)
    x = x.repeat(times, *[1] * (x.dim() - 1))

    def grads(f, module, given):
        module.zero_grad()
        f(given).square().sum().backward()
        return [p.grad.clone() for p in module.parameters()]

    exact = copy.deepcopy(model).double()
    reference = grads(exact, exact, x.double())
    mine, plain = grads(Memo().rows(model, always=True), model, x), grads(model, model, x)
    for one, other, known in zip(mine, plain, reference, strict=True):
        assert error(one, known) <= 3 * error(other, known) + 1e-6 * float(known.abs().max())


def test_an_encoder_that_pads_is_rounding():
    torch.manual_seed(0)
    embedding, head = nn.Embedding(128, 16), nn.Linear(16, 8)

    def encode(texts):
        longest = max(map(len, texts))
        ids = torch.tensor([[*map(ord, text), *[0] * (longest - len(text))] for text in texts])
        mask = (ids > 0).float().unsqueeze(2)
        return head((embedding(ids) * mask).sum(1) / mask.sum(1))

    for module in (embedding, head):
        frozen(module)
    texts = [f"{'a longer text ' * (k % 5)}{k}" for k in range(30)]
    mine = Memo().rows(encode, always=True)
    torch.testing.assert_close(mine(texts), encode(texts))
    torch.testing.assert_close(mine(texts[::2]), encode(texts[::2]))
    assert mine.receipt.hits == 15
    assert mine.receipt.exact == "rounding"
