"""A ``Shared`` as input and as output: layouts, first states, rows of no steps, dropout."""

from __future__ import annotations

import pytest
import torch
from tests.scan.pairs import CELLS
from tests.scan.programs import a_program, pick
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from memograd import Shared, memo


@pytest.mark.parametrize("form", ["dense", "packed"])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"num_layers": 3}])
@pytest.mark.parametrize("cell", CELLS)
def test_last_states_and_layouts_are_the_plain_ones(cell, options, form):
    p = a_program(cell, **options)
    s = Shared.prefixes(p.table, p.lengths).map(p.embedding)
    y, last = memo.scan(p.rnn, engine="levels")(s)
    packed = pack_padded_sequence(p.embedding(p.table), p.lengths, batch_first=True, enforce_sorted=False)
    expected, theirs = p.rnn(packed)
    for mine, yours in zip(last, theirs, strict=True) if cell is nn.LSTM else [(last, theirs)]:
        torch.testing.assert_close(mine, yours)
        assert mine.stride() == yours.stride()
    if form == "packed":
        for mine, yours in zip(y.packed(), expected, strict=True):
            torch.testing.assert_close(mine, yours)
    else:
        torch.testing.assert_close(y.dense(), pad_packed_sequence(expected, batch_first=True)[0])


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"proj_size": 2}])
def test_a_row_of_no_steps_keeps_its_first_state_and_changes_nothing_else(options):
    p = a_program(**options)
    lengths = torch.cat([p.lengths, torch.zeros(2, dtype=torch.long)])
    table = torch.cat([p.table, p.table[:2]])
    depth = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    h = torch.randn(depth, 1, options.get("proj_size", 4), requires_grad=True)
    c = torch.randn(depth, 1, 4, requires_grad=True)
    mine = memo.scan(p.rnn, engine="levels")
    y, (h_n, c_n) = mine(Shared.prefixes(table, lengths).map(p.embedding), (h, c))
    z, (h_m, c_m) = mine(Shared.prefixes(p.table, p.lengths).map(p.embedding), (h, c))
    torch.testing.assert_close(y.dense()[:7], z.dense())
    assert y.dense()[7:].count_nonzero() == 0
    torch.testing.assert_close(h_n, torch.cat([h_m, h.expand(-1, 2, -1)], 1))
    torch.testing.assert_close(c_n, torch.cat([c_m, c.expand(-1, 2, -1)], 1))
    (h_n[:, 7:].sum() + c_n[:, 7:].sum()).backward()
    torch.testing.assert_close(h.grad, torch.full_like(h, 2.0))


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"num_layers": 2, "dropout": 0.5}])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("table", [torch.zeros(3, 4, dtype=torch.long), torch.zeros(0, 4, dtype=torch.long)])
def test_a_batch_of_no_steps_at_all_gives_its_first_states(table, cell, options):
    p = a_program(cell, **options)
    s = Shared.prefixes(table, torch.zeros(len(table), dtype=torch.long)).map(p.embedding)
    y, last = memo.scan(p.rnn, engine="levels")(s)
    assert y.dense().numel() == 0
    for state in last if cell is nn.LSTM else (last,):
        assert state.shape[1:] == (len(table), 4)
        assert state.count_nonzero() == 0
    y.map(p.head).cross_entropy(table, reduction="sum").backward()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("per_row", [False, True])
def test_first_states_may_be_given_with_a_shared(cell, per_row):
    p = a_program(cell)
    states = [torch.randn(1, 1, 4).expand(1, 7 if per_row else 1, 4) for _ in range(2)]
    whole = [s.expand(1, 7, 4).contiguous() for s in states]
    y, last = memo.scan(p.rnn)(Shared.prefixes(p.table).map(p.embedding), pick(tuple(states), cell))
    expected, theirs = p.rnn(p.embedding(p.table).transpose(0, 1), pick(tuple(whole), cell))
    torch.testing.assert_close(y.dense(), expected.transpose(0, 1))
    torch.testing.assert_close(last, theirs)


@pytest.mark.parametrize("cell", CELLS)
def test_one_learned_state_for_all_rows_gets_the_plain_gradient(cell):
    p = a_program(cell)
    found = []
    for rnn in (memo.scan(p.rnn, engine="levels"), p.rnn):
        learned = [torch.full((1, 1, 4), 0.2, requires_grad=True) for _ in range(2)]
        if rnn is p.rnn:
            y = rnn(p.embedding(p.table).transpose(0, 1), pick(tuple(s.expand(1, 7, 4) for s in learned), cell))[0]
        else:
            y = rnn(Shared.prefixes(p.table).map(p.embedding), pick(tuple(learned), cell))[0].dense()
        y.square().sum().backward()
        found.append([s.grad for s in learned])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("lengths", [None, [6, 0, 3, 2, 0, 6, 1]])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}])
@pytest.mark.parametrize("cell", CELLS)
def test_first_states_may_depend_on_the_first_token(cell, options, lengths):
    """A speaker's state for a speaker's token, say: rows that share a prefix share it."""
    p = a_program(cell, **options)
    depth = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    states = [torch.randn(depth, 3, 4)[:, p.table[:, 0]] for _ in range(2)]
    lengths = torch.tensor(lengths or [6] * 7)
    s = Shared.prefixes(p.table, lengths).map(p.embedding)
    y, last = memo.scan(p.rnn, engine="levels")(s, pick(tuple(states), cell))
    some = lengths > 0
    packed = pack_padded_sequence(p.embedding(p.table[some]), lengths[some], batch_first=True, enforce_sorted=False)
    expected, theirs = p.rnn(packed, pick(tuple(state[:, some] for state in states), cell))
    torch.testing.assert_close(y.dense()[some], pad_packed_sequence(expected, batch_first=True)[0])
    for mine, yours, first in zip(
        *((last, theirs, states) if cell is nn.LSTM else ([last], [theirs], states[:1])), strict=True
    ):
        torch.testing.assert_close(mine[:, some], yours)
        torch.testing.assert_close(mine[:, ~some], first[:, ~some])


def test_rows_that_share_no_prefix_may_have_states_of_their_own():
    p = a_program()
    s = Shared.prefixes(torch.tensor([[0, 1], [1, 1]])).map(p.embedding)
    states = torch.randn(1, 2, 4), torch.randn(1, 2, 4)
    y, _ = memo.scan(p.rnn)(s, states)
    torch.testing.assert_close(y.dense(), p.rnn(s.dense().transpose(0, 1), states)[0].transpose(0, 1))


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"batch_first": True}])
@pytest.mark.parametrize("cell", CELLS)
def test_the_output_may_be_asked_for_as_a_shared(cell, options, requires_grad):
    """With an input that requires grad every position has a node of its own, since it has a gradient of its own."""
    p = a_program(cell, **options)
    x = p.embedding(p.table if options.get("batch_first") else p.table.t()).detach().requires_grad_(requires_grad)
    y, last = memo.scan(p.rnn, engine="levels")(x, shared=True)
    expected, theirs = p.rnn(x)
    assert isinstance(y, Shared)
    assert len(y) == y.steps if requires_grad else len(y) <= y.steps
    torch.testing.assert_close(y.dense(), expected)
    torch.testing.assert_close(last, theirs)
    weight = torch.randn_like(expected)
    mine = torch.autograd.grad((y.dense() * weight).sum(), [*p.rnn.parameters(), *([x] if requires_grad else [])])
    yours = torch.autograd.grad((expected * weight).sum(), [*p.rnn.parameters(), *([x] if requires_grad else [])])
    torch.testing.assert_close(mine, yours)


def test_a_packed_input_gives_a_shared_in_its_order():
    p = a_program()
    packed = pack_padded_sequence(p.embedding(p.table).detach(), p.lengths, batch_first=True, enforce_sorted=False)
    y, _ = memo.scan(p.rnn)(packed, shared=True)
    for mine, theirs in zip(y.packed(), p.rnn(packed)[0], strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_dropout_between_layers_draws_what_the_packed_plain_call_draws(cell, bidirectional, ragged):
    p = a_program(cell, num_layers=3, dropout=0.4, bidirectional=bidirectional)
    lengths = p.lengths if ragged else torch.full((7,), 6)
    s = Shared.prefixes(p.table, lengths).map(p.embedding)
    packed = pack_padded_sequence(p.embedding(p.table), lengths, batch_first=True, enforce_sorted=False)
    torch.manual_seed(1)
    y, last = memo.scan(p.rnn, engine="levels")(s)
    torch.manual_seed(1)
    expected, theirs = p.rnn(packed)
    torch.testing.assert_close(y.packed().data, expected.data)
    torch.testing.assert_close(last, theirs)
    mine = torch.autograd.grad(y.packed().data.square().sum(), [*p.rnn.parameters(), p.embedding.weight])
    yours = torch.autograd.grad(expected.data.square().sum(), [*p.rnn.parameters(), p.embedding.weight])
    torch.testing.assert_close(mine, yours, rtol=1e-4, atol=1e-5)


def test_rows_of_no_steps_pass_a_dropout():
    p = a_program(num_layers=2, dropout=0.5)
    lengths = torch.tensor([0, 5, 3, 0, 2, 5, 6])
    y, (h, _) = memo.scan(p.rnn)(Shared.prefixes(p.table, lengths).map(p.embedding))
    assert h[:, lengths == 0].count_nonzero() == 0
    y.values.sum().backward()
