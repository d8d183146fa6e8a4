"""Sharing from the source: ids, embedding, recurrent layers, head and loss, once per distinct prefix.

The whole program is judged as a module is: its loss and every gradient, the embedding's among them, against a float64
copy of the plain program.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.scan.batches import ids, modules
from tests.scan.judge import error, floor
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from memograd import Shared, memo

CELLS = [nn.LSTM, nn.GRU, nn.RNN]
CLASSES = 5


@dataclass(frozen=True)
class Program:
    """A language model, and one batch of it.

    Attributes:
        embedding, rnn, head: its modules.
        table: (B, T) token ids.
        lengths: (B,) steps of each row.
        targets: (B, T) classes.
        ignored: the target that does not count.
        reduction: of the loss.
    """

    embedding: nn.Embedding
    rnn: nn.RNNBase
    head: nn.Linear
    table: Tensor
    lengths: Tensor
    targets: Tensor
    ignored: int = -100
    reduction: str = "mean"

    def copied(self, dtype: torch.dtype | None = None) -> Program:
        """Give a program with weights of its own."""
        parts = [copy.deepcopy(m).to(dtype) for m in (self.embedding, self.rnn, self.head)]
        return Program(*parts, self.table, self.lengths, self.targets, self.ignored, self.reduction)

    def run(self, forward: Any) -> dict[str, Tensor]:
        """Take a training step; give the loss and all gradients."""
        loss = forward(self)
        loss.backward()
        found = {"loss": loss.detach()}
        for part in ("embedding", "rnn", "head"):
            found |= {f"{part}.{name}": p.grad for name, p in getattr(self, part).named_parameters()}
        return found


def plain(p: Program) -> Tensor:
    """Run the program as PyTorch programs are written: packed, for rows of one step or more."""
    x = p.embedding(p.table)
    packed = pack_padded_sequence(x, p.lengths, batch_first=True, enforce_sorted=False)
    y, _ = pad_packed_sequence(p.rnn(packed)[0], batch_first=True, total_length=p.table.shape[1])
    ended = torch.arange(p.table.shape[1]) >= p.lengths[:, None]
    targets = p.targets.masked_fill(ended, p.ignored)
    return functional.cross_entropy(
        p.head(y).flatten(0, 1), targets.flatten(), ignore_index=p.ignored, reduction=p.reduction
    )


def memoized(p: Program) -> Tensor:
    """Run the program from the source."""
    s = Shared.prefixes(p.table, p.lengths)
    y, _ = memo.scan(p.rnn, engine="levels")(s.map(p.embedding))
    return y.map(p.head).cross_entropy(p.targets, p.ignored, p.reduction)


def assert_as_exact(program: Program, ours: Any = memoized) -> None:
    """Assert that the memoized program's errors against float64 are no larger than the plain program's."""
    exact = program.copied(torch.float64).run(plain)
    noise = [_shaken(program, seed).run(plain) for seed in range(2)]
    theirs, mine = program.copied().run(plain), program.copied().run(ours)
    eps = torch.finfo(program.head.weight.dtype).eps
    for name, truth in exact.items():
        allowed = floor(max(error(moved[name], truth) for moved in noise), truth, eps)
        assert error(mine[name], truth) <= 1.5 * error(theirs[name], truth) + allowed, name
        assert mine[name].dtype == theirs[name].dtype


class _Shaken(nn.Module):
    """Moves what passes by about one rounding, each value by its own share."""

    def __init__(self, eps: float, drawn: torch.Generator) -> None:
        super().__init__()
        self.eps, self.drawn = eps, drawn

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + self.eps * torch.randn(x.shape, generator=self.drawn, dtype=x.dtype))


def _shaken(program: Program, seed: int) -> Program:
    """Move every weight by about one rounding, and the logits too, which are the loss's operands."""
    shaken = _Shaken(torch.finfo(program.head.weight.dtype).eps, torch.Generator().manual_seed(seed))
    moved = program.copied(torch.float64)
    with torch.no_grad():
        for part in (moved.embedding, moved.rnn, moved.head):
            for p in part.parameters():
                p.copy_(shaken(p))
    moved.head.register_forward_hook(lambda _, __, logits: shaken(logits))
    return moved


@st.composite
def programs(draw: Any) -> Program:
    rnn = draw(modules([torch.float32, torch.float64]))
    given = draw(ids())
    dtype, size = rnn.weight_ih_l0.dtype, (rnn.proj_size or rnn.hidden_size) * (2 if rnn.bidirectional else 1)
    embedding = nn.Embedding(int(given.table.max()) + 1, rnn.input_size, dtype=dtype)
    head = nn.Linear(size, CLASSES, dtype=dtype)
    drawn = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    targets = torch.randint(0, CLASSES, given.table.shape, generator=drawn)
    targets[:, 0] = 1  # so that something counts
    options = draw(st.sampled_from([-100, 0, 3])), draw(st.sampled_from(["mean", "sum"]))
    return Program(embedding, rnn, head, given.table, given.lengths, targets, *options)


@given(programs())
@settings(max_examples=120)
def test_loss_and_every_gradient_are_as_exact_as_the_plain_programs(program):
    assert_as_exact(program)


@pytest.mark.slow
@given(programs())
@settings(max_examples=800)
def test_loss_and_every_gradient_are_as_exact_as_the_plain_programs_in_a_long_sweep(program):
    assert_as_exact(program)


def a_program(cell=nn.LSTM, rows=7, steps=6, letters=3, **options):
    torch.manual_seed(0)
    table = torch.randint(0, letters, (rows, steps))
    lengths = torch.randint(1, steps + 1, (rows,))
    size = (options.get("proj_size") or 4) * (2 if options.get("bidirectional") else 1)
    parts = nn.Embedding(letters, 3), cell(3, 4, **options), nn.Linear(size, CLASSES)
    return Program(*parts, table, lengths, torch.randint(0, CLASSES, (rows, steps)))


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


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}])
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


def pick(states, cell):
    return states if cell is nn.LSTM else states[0]


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
