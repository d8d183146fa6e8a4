"""Rows on a GPU: found, shared and recalled as on a CPU."""

from __future__ import annotations

import pytest
import torch
from tests.rows.models import CASES, frozen, mlp, vectors

from memograd import Memo

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def without_tf32(monkeypatch):
    # Convolutions in TF32 give a row other values in a batch of another size, and then rows are not told apart.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("case", CASES)
def test_rows_are_recalled_with_the_same_bits(case):
    make, batch = CASES[case]
    module, x = frozen(make()).cuda(), batch(40).cuda()
    mine = Memo().rows(module)
    first = mine(x)
    torch.testing.assert_close(first, module(x), rtol=1e-3, atol=1e-4)
    again = mine(torch.cat([x[5:35], batch(10, seed=1).cuda()]))
    assert (mine.receipt.hits, mine.receipt.computed) == (30, 10)
    assert torch.equal(again[:30], first[5:35])
    assert again.is_cuda


@pytest.mark.parametrize("case", CASES)
def test_gradients_to_weights_are_those_of_the_plain_program(case):
    make, batch = CASES[case]
    module, x = make().eval().cuda(), batch(8).cuda()
    x = x.repeat(4, *[1] * (x.dim() - 1))
    mine = Memo().rows(module)
    mine(x).square().sum().backward()
    found = [p.grad.clone() for p in module.parameters()]
    assert mine.receipt.computed == 8
    module.zero_grad()
    module(x).square().sum().backward()
    for one, p in zip(found, module.parameters(), strict=True):
        torch.testing.assert_close(one, p.grad, rtol=1e-3, atol=1e-3)


def test_a_row_on_another_device_is_another():
    mine = Memo().rows(lambda x: 2 * x)
    mine(vectors(4))
    assert mine(vectors(4).cuda()).is_cuda
    assert mine.receipt.hits == 0


def test_rows_on_a_gpu_are_stored(tmp_path):
    module = frozen(mlp()).cuda()
    expected = Memo(tmp_path).rows(module, always=True)(vectors(6).cuda())
    mine = Memo(tmp_path).rows(module, always=True)
    assert torch.equal(mine(vectors(6).cuda()), expected)
    assert mine.receipt.hits == 6
