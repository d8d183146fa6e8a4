"""The engine level by level: chunks, threads, and scratch memory that is handed on."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from tests.threads import together
from torch import nn

from memograd import memo

CELLS = [nn.LSTM, nn.GRU, nn.RNN]


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def branching(widths, size, rows):
    """Give rows of which the first ``widths[t]`` differ from one another at step t: a trie with these levels."""
    g = torch.Generator().manual_seed(0)
    ids = torch.stack([torch.arange(rows) % width for width in widths], 1)
    return torch.randn(rows, size, generator=g)[ids]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.usefixtures("two_threads")
def test_a_chunk_reads_what_the_chunk_before_has_left_and_not_what_it_writes_itself(cell):
    """A narrow level before a wide one: states of the second chunk lie where its own first level writes."""
    torch.manual_seed(0)
    plain = cell(16, 64, batch_first=True)
    x = branching([10, 4000, 4000], 16, 4000)
    expected = plain(x)[0]
    for _ in range(5):
        torch.testing.assert_close(memo.scan(plain, engine="levels")(x)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_threads_do_not_write_into_one_anothers_scratch_memory(cell):
    torch.manual_seed(0)
    plain = cell(16, 48, batch_first=True)
    batches = [branching([3, 9, 27, 81, 81, 200], 16, 200) * (k + 1) for k in range(3)]

    def gradients(x, rounds=1):
        mine = memo.scan(copy.deepcopy(plain), engine="levels")
        for _ in range(rounds):
            mine.zero_grad()
            y, _ = mine(x)
            y.square().sum().backward()
            yield [y.detach().clone(), *(p.grad.clone() for p in mine.parameters())]

    expected = [next(gradients(x)) for x in batches]
    wrong = []

    def train(k):
        for found in gradients(batches[k], rounds=20):
            wrong.extend(k for a, b in zip(found, expected[k], strict=True) if not torch.equal(a, b))

    together(*[partial(train, k) for k in range(3)])
    assert not wrong


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("widths", [[1] * 300, [3, 9, 9, 81, 400], [400, 400, 400]])
def test_a_gradient_that_comes_in_is_read_where_it_lies_and_left_as_it_is(cell, widths):
    torch.manual_seed(0)
    y, _ = memo.scan(cell(8, 16, batch_first=True), engine="levels")(branching(widths, 8, max(widths)), shared=True)
    dy = torch.randn_like(y.values)
    kept = dy.clone()
    for _ in range(2):
        y.values.backward(dy, retain_graph=True)
    assert torch.equal(dy, kept)
