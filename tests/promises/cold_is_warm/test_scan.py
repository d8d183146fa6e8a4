"""Cold = warm: the bits of a memoized recurrent module do not depend on what was computed before."""

from __future__ import annotations

import pytest
import torch
from tests.scan.pairs import CELLS, few
from torch import nn

from memograd import Shared, memo
from memograd._scan import _buffers


def everything(mine, x):
    """Give all bits of a training step."""
    mine.zero_grad()
    y, last = mine(x)
    (y.square().sum() + sum(s.sum() for s in (last if isinstance(last, tuple) else (last,)))).backward()
    grad = [] if x.grad is None else [x.grad.clone()]
    return [y.detach().clone(), *(p.grad.clone() for p in mine.parameters()), *grad]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def prompted(requires_grad):
    """Give a prompt of 20 steps and its answers: a stretch for the fused kernel, then own steps."""
    return torch.cat([few(1, 20).expand(5, -1, -1), few()], 1).detach().requires_grad_(requires_grad)


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_the_same_call_gives_the_same_bits_whatever_ran_before(cell, requires_grad):
    torch.manual_seed(0)
    mine, other = (memo.scan(cell(3, 4, num_layers=2, batch_first=True), engine="levels") for _ in range(2))
    _buffers.release_buffers()
    first = everything(mine, prompted(requires_grad))
    assert same(everything(mine, prompted(requires_grad)), first)
    everything(other, few(60, 9).requires_grad_())
    assert same(everything(mine, prompted(requires_grad)), first)
    _buffers.release_buffers()
    assert same(everything(mine, prompted(requires_grad)), first)


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_what_lies_in_memory_that_is_used_again_is_never_read(cell, requires_grad):
    """Every idle block is filled with NaN, and so is what PyTorch hands out uninitialized."""
    torch.manual_seed(0)
    mine = memo.scan(cell(3, 4, num_layers=2, bidirectional=True, batch_first=True), engine="levels")
    first = everything(mine, prompted(requires_grad))
    assert _buffers._idle
    for block in _buffers._idle:
        block.fill(0xFF)
    torch.use_deterministic_algorithms(mode=True)
    try:
        assert same(everything(mine, prompted(requires_grad)), first)
    finally:
        torch.use_deterministic_algorithms(mode=False)


def test_a_program_from_the_source_gives_the_same_bits_again():
    torch.manual_seed(0)
    parts = nn.Embedding(3, 4), memo.scan(nn.LSTM(4, 5)), nn.Linear(5, 3)
    table = torch.randint(0, 3, (20, 8))

    def step():
        loss = parts[1](Shared.prefixes(table).map(parts[0]))[0].map(parts[2]).cross_entropy(table)
        return torch.autograd.grad(loss, [p for part in parts for p in part.parameters()])

    assert same(step(), step())
