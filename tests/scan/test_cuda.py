"""Budgets, cells, streamed losses and remembered states on a CUDA device."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.scan.judge import Trial, assert_no_worse, results
from tests.scan.test_budget import tight
from tests.scan.test_loss import smallest_of
from torch import nn
from torch.nn import functional

from memograd import Memo, memo

KINDS = [nn.RNN, nn.LSTM, nn.GRU]
STEPS, ROWS, INPUTS, HIDDEN = 120, 4, 16, 32

pytestmark = pytest.mark.gpu


def inputs(rows_first=False):
    torch.manual_seed(0)
    x = torch.randn(STEPS, ROWS, INPUTS)
    return x.transpose(0, 1).contiguous() if rows_first else x


@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2}, {"batch_first": True}, {"dropout": 0.0, "bias": False}], ids=str
)
@pytest.mark.parametrize("kind", KINDS)
def test_within_a_budget_results_and_gradients_are_the_plain_ones(kind, options):
    module = kind(INPUTS, HIDDEN, **options)
    trial = Trial(module, inputs(module.batch_first), device="cuda")
    ours = tight(copy.deepcopy(module).cuda(), trial.x.cuda())
    theirs, shape = results(copy.deepcopy(module).cuda(), trial)
    found, ours_shape = results(ours, trial)
    assert ours_shape == shape
    assert_no_worse(found, theirs, trial)
    assert ours.receipt.within.peak <= ours.budget


@pytest.mark.parametrize("kind", KINDS)
def test_a_budget_is_kept_by_the_allocators_account(kind):
    module, x = kind(64, 128).cuda(), torch.randn(600, 16, 64, device="cuda")
    ours, dy = tight(module, x), torch.randn(600, 16, 128, device="cuda")
    for _ in range(2):
        module.zero_grad()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        ours(x)[0].backward(dy)
        torch.cuda.synchronize()
        taken = torch.cuda.max_memory_allocated() - before
    given = dy.nbytes + sum(p.nbytes for p in module.parameters())
    assert taken - given <= 1.05 * ours.budget


def test_a_cell_has_the_loops_bits_and_gradients():
    torch.manual_seed(0)
    linear = nn.Linear(INPUTS + HIDDEN, HIDDEN).cuda()

    def cell(x, h):
        h = functional.dropout(torch.tanh(linear(torch.cat((x, h), 1))), 0.1)
        return h * 2, h

    x, h = inputs().cuda().requires_grad_(), torch.zeros(ROWS, HIDDEN, device="cuda", requires_grad=True)
    of, found = [x, h, *linear.parameters()], []
    for scan in (memo.scan(cell), memo.scan(cell, budget=150_000)):
        torch.manual_seed(1)
        ys, last = scan(x, h)
        found.append([ys, last, *torch.autograd.grad(ys.square().sum() + last.sum(), of)])
    assert scan.receipt.within.ahead > 0
    assert torch.equal(found[0][0], found[1][0])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * max(float(b.detach().abs().max()), 1e-3))


@pytest.mark.parametrize("kind", KINDS)
def test_a_streamed_loss_has_the_gradients_of_the_whole(kind):
    module, head, x = kind(INPUTS, HIDDEN).cuda(), nn.Linear(HIDDEN, INPUTS).cuda(), inputs()
    of = [*module.parameters(), *head.parameters()]

    def fn(y, target):
        return functional.mse_loss(head(y), target)

    expected = fn(module(x.cuda())[0][:-1], x[1:].cuda())
    call = x[:-1].numpy(), x[1:].numpy(), fn
    least = smallest_of(lambda: memo.scan(module, budget=1).loss(*call))
    scan = memo.scan(module, budget=int(1.1 * least))
    loss = scan.loss(*call)
    torch.testing.assert_close(loss, expected)
    for a, b in zip(torch.autograd.grad(loss, of), torch.autograd.grad(expected, of), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-3 * float(b.abs().max()))  # cuDNN computes in TF32


@pytest.mark.parametrize("kind", KINDS)
def test_remembered_prefixes_give_the_bits_of_a_cold_store(kind):
    module, x = kind(INPUTS, HIDDEN).cuda(), torch.randn(700, 2, INPUTS, device="cuda")
    warm = Memo().scan(module, remember=True)
    with torch.no_grad():
        for length in (100, 300, 700):
            y, _ = warm(x[:length])
            assert torch.equal(y, Memo().scan(module, remember=True)(x[:length])[0])
            torch.testing.assert_close(y, module(x[:length])[0])
    if warm.receipt.resumed.least is not None:
        assert warm.receipt.resumed.lengths == (300, 300)
