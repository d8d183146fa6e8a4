"""Sharing from the source: ids, embedding, recurrent layers, head and loss, once per distinct prefix."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from tests.scan.pairs import CELLS
from tests.scan.programs import CLASSES, Program, a_program, assert_as_exact, memoized, plain, programs
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence

from memograd import Shared, memo


@given(programs())
@settings(max_examples=120)
def test_loss_and_every_gradient_are_as_exact_as_the_plain_programs(program):
    assert_as_exact(program)


@pytest.mark.slow
@given(programs())
@settings(max_examples=800)
def test_loss_and_every_gradient_are_as_exact_as_the_plain_programs_in_a_long_sweep(program):
    assert_as_exact(program)


@pytest.mark.parametrize("cell", CELLS)
def test_the_time_may_come_first(cell):
    def time_first(p):
        s = Shared.prefixes(p.table.t(), p.lengths, batch_first=False)
        y, _ = memo.scan(p.rnn, engine="levels")(s.map(p.embedding))
        logits = y.map(p.head)
        assert logits.dense().shape == (int(p.lengths.max()), len(p.lengths), CLASSES)
        return logits.cross_entropy(p.targets.t(), p.ignored, p.reduction)

    assert_as_exact(a_program(cell), time_first)


@pytest.mark.parametrize("cell", CELLS)
def test_the_loss_of_the_dense_or_packed_logits_is_the_same(cell):
    def dense(p):
        y, _ = memo.scan(p.rnn)(Shared.prefixes(p.table, p.lengths).map(p.embedding))
        ended = torch.arange(p.table.shape[1]) >= p.lengths[:, None]
        targets = p.targets.masked_fill(ended, p.ignored)
        logits = y.map(p.head).dense(total_length=p.table.shape[1])
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=p.ignored)

    def packed(p):
        y, _ = memo.scan(p.rnn)(Shared.prefixes(p.table, p.lengths).map(p.embedding))
        targets = pack_padded_sequence(p.targets, p.lengths, batch_first=True, enforce_sorted=False)
        return functional.cross_entropy(y.map(p.head).packed().data, targets.data, ignore_index=p.ignored)

    assert_as_exact(a_program(cell), dense)
    assert_as_exact(a_program(cell), packed)


@pytest.mark.parametrize("cell", CELLS)
def test_two_memoized_modules_in_a_row_share_through_both(cell):
    """What a memoized module gives is a Shared, and so the next one's input."""
    torch.manual_seed(0)
    first, second = cell(3, 4), cell(4, 4)

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = first, second

        def forward(self, x):
            return self.second(self.first(x)[0])

    def through_both(p):
        s = Shared.prefixes(p.table, p.lengths).map(p.embedding)
        y, _ = memo.scan(p.rnn.first, engine="levels")(s)
        z, _ = memo.scan(p.rnn.second, engine="levels")(y)
        assert len(z) == len(y) == len(s)
        return z.map(p.head).cross_entropy(p.targets)

    base = a_program(cell)
    assert_as_exact(Program(base.embedding, Both(), base.head, base.table, base.lengths, base.targets), through_both)


def test_a_sparse_embedding_gets_a_sparse_gradient():
    p = a_program()
    sparse = nn.Embedding(3, 3, sparse=True, _weight=p.embedding.weight.detach().clone())
    mine = Program(sparse, p.rnn, p.head, p.table, p.lengths, p.targets).run(memoized)["embedding.weight"]
    assert mine.is_sparse
    p.rnn.zero_grad(), p.head.zero_grad()
    torch.testing.assert_close(mine.to_dense(), p.run(plain)["embedding.weight"])


def test_a_large_batch_is_as_exact():
    """Thousands of nodes, several chunks, levels that branch and levels that do not."""
    torch.manual_seed(0)
    table = torch.randint(0, 6, (3000, 10))
    parts = nn.Embedding(6, 24), nn.LSTM(24, 32), nn.Linear(32, CLASSES)
    lengths, targets = torch.randint(1, 11, (3000,)), torch.randint(0, CLASSES, (3000, 10))
    assert_as_exact(Program(*parts, table, lengths, targets))


@pytest.mark.gpu
@pytest.mark.parametrize("cell", CELLS)
def test_on_cuda_the_program_takes_the_same_steps(cell):
    p = a_program(cell, num_layers=2)
    ours, theirs = p.copied(), p.copied()
    for part in (ours.embedding, ours.rnn, ours.head):
        part.cuda()
    s = Shared.prefixes(p.table, p.lengths).to("cuda")
    y, _ = memo.scan(ours.rnn, engine="levels")(s.map(ours.embedding))
    loss = y.map(ours.head).cross_entropy(p.targets.cuda())
    loss.backward()
    torch.testing.assert_close(loss.cpu(), theirs.run(plain)["loss"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.embedding.weight.grad.cpu(), theirs.embedding.weight.grad, rtol=1e-3, atol=1e-5)
