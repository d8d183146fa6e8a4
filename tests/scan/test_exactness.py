"""Outputs and every gradient are as near to float64 as the plain module's own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.scan.judge import Trial, assert_fair
from tests.scan.pytorch_inputs import samples
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from memograd import memo

CELLS = [nn.LSTM, nn.GRU, nn.RNN]
DTYPES = [torch.float32, torch.float64, torch.bfloat16]


def as_batch(module, x, hx):
    """Stack an unbatched sample into a batch whose rows share all, some and none of it."""
    rows = torch.stack([x, x, torch.cat([x[:-1], -x[-1:]]), -x, x])
    return rows if module.batch_first else rows.transpose(0, 1), each(hx, of_five_rows)


def of_five_rows(state):
    """Give one first state to four rows, and another to the fifth."""
    return torch.stack([state, state, state, state, -state], 1)


def each(states, f):
    if isinstance(states, tuple):
        return tuple(f(s) for s in states)
    return None if states is None else f(states)


def batched_trials(cell, dtype, requires_grad):
    """Give PyTorch's inputs as rows of batches: all but the packed ones are unbatched, and one row shares nothing."""

    def leaf(t):
        return t.detach().requires_grad_(requires_grad)

    for _, module, x, hx in samples(cell, dtype):
        if isinstance(x, PackedSequence):
            yield Trial(module, PackedSequence(leaf(x.data), *x[1:]), each(hx, leaf))
        else:
            rows, states = as_batch(module, x, hx)
            yield Trial(module, leaf(rows), each(states, leaf))


@pytest.mark.parametrize("engine", ["levels", "auto"])
@pytest.mark.parametrize("cell", CELLS)
def test_on_the_inputs_of_pytorchs_own_tests(cell, engine):
    torch.manual_seed(0)
    found = samples(cell, torch.float32)
    assert len(found) >= 32
    for _, module, x, hx in found:
        assert_fair(Trial(module, x, hx), engine)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_on_the_inputs_of_pytorchs_own_tests_as_rows_of_a_batch(cell, requires_grad, dtype):
    torch.manual_seed(0)
    for trial in batched_trials(cell, dtype, requires_grad):
        receipt = assert_fair(trial).receipt
        assert receipt.engine == "levels"
        assert receipt.nodes < receipt.steps or isinstance(trial.x, PackedSequence)


def words(rows, steps, letters, size, ragged=False):
    """Give rows of few letters, as a padded or packed batch (time first)."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(letters, size, generator=g)[torch.randint(0, letters, (steps, rows), generator=g)]
    lengths = torch.randint(1, steps + 1, (rows,), generator=g)
    return pack_padded_sequence(x, lengths, enforce_sorted=False) if ragged else x


def prompt_and_answers(prompt, answers, steps, size):
    """Give answers to one prompt, drawn from few letters (time first)."""
    asked = torch.randn(prompt, 1, size, generator=torch.Generator().manual_seed(1)).expand(-1, answers, -1)
    return torch.cat([asked, words(answers, steps, 3, size)])


SHAPES = {
    "more nodes than a chunk": lambda: words(700, 12, 3, 24),
    "more nodes than a chunk, ragged": lambda: words(1500, 12, 3, 24, ragged=True),
    "a prompt and its answers": lambda: prompt_and_answers(40, 9, 12, 24),
    "nothing shared": lambda: torch.randn(9, 20, 24, generator=torch.Generator().manual_seed(0)),
    "all rows equal": lambda: prompt_and_answers(30, 20, 1, 24)[:30],
}


def shaped(shape, requires_grad):
    x = SHAPES[shape]()
    if isinstance(x, PackedSequence):
        return PackedSequence(x.data.requires_grad_(requires_grad), *x[1:])
    return x.requires_grad_(requires_grad)


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cell", CELLS)
def test_on_shapes_that_take_every_way_through_the_engine(cell, shape, requires_grad):
    torch.manual_seed(0)
    assert_fair(Trial(cell(24, 32, num_layers=2, bidirectional=requires_grad), shaped(shape, requires_grad)))


@pytest.mark.parametrize("cell", CELLS)
def test_where_auto_finds_that_sharing_pays_it_shares_and_is_as_exact(cell):
    torch.manual_seed(0)
    receipt = assert_fair(Trial(cell(64, 128), prompt_and_answers(60, 40, 12, 64)), engine="auto").receipt
    assert receipt.engine == "levels"
    assert receipt.nodes < receipt.steps / 4


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("cell", CELLS)
def test_a_nan_stays_in_the_rows_that_hold_it(cell, bad, requires_grad):
    """Outputs and input gradients are finite where the plain module's are, and NaN where they are not."""
    torch.manual_seed(0)
    x = words(6, 8, 2, 3)
    x[4, 2] = bad
    for relu in ({"nonlinearity": "relu"},) if cell is nn.RNN else ({},):
        plain = cell(3, 4, **relu)
        ours, theirs = ([t.clone().requires_grad_(requires_grad)] for t in (x, x))
        for module, leaf in ((memo.scan(plain, engine="levels"), ours), (plain, theirs)):
            y, _ = module(leaf[0])
            leaf.append(y.detach())
            if requires_grad:
                y[:, [0, 1, 3]].sum().backward()
                leaf.append(leaf[0].grad)
        for mine, yours in zip(ours[1:], theirs[1:], strict=True):
            torch.testing.assert_close(mine, yours, equal_nan=True)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_gradcheck_holds_in_float64_for_every_row_of_a_dense_input(cell, size):
    """Rows with equal bits have gradients of their own: numerical differences move one row at a time."""
    torch.manual_seed(0)
    mine = memo.scan(cell(2, 3, bidirectional=size == 3, dtype=torch.float64), engine="levels")
    x = words(3, size, 2, 2).double().requires_grad_()
    depth = 2 if size == 3 else 1
    states = [torch.zeros(depth, 3, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    states = states if cell is nn.LSTM else states[:1]

    def outputs(x, *states):
        y, last = mine(x, states if len(states) > 1 else states[0])
        return (y, *(last if isinstance(last, tuple) else (last,)))

    assert torch.autograd.gradcheck(outputs, (x, *states))


@pytest.mark.parametrize("cell", CELLS)
def test_gradcheck_holds_in_float64_for_the_weights(cell):
    torch.manual_seed(0)
    mine = memo.scan(cell(2, 3, num_layers=2, dtype=torch.float64), engine="levels")
    x = words(3, 4, 2, 2, ragged=True)
    x = PackedSequence(x.data.double(), *x[1:])
    names = [name for name, _ in mine.named_parameters()]

    def outputs(*weights):
        y, last = torch.func.functional_call(mine, dict(zip(names, weights, strict=True)), (x,))
        return (y.data, *(last if isinstance(last, tuple) else (last,)))

    assert torch.autograd.gradcheck(outputs, tuple(p.detach().requires_grad_() for p in mine.parameters()))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_on_cuda_on_the_inputs_of_pytorchs_own_tests_as_rows_of_a_batch(cell, requires_grad, dtype):
    torch.manual_seed(0)
    for trial in batched_trials(cell, dtype, requires_grad):
        assert_fair(replace(trial, device="cuda"))


@pytest.mark.gpu
@pytest.mark.parametrize("autocast", [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cell", CELLS)
def test_on_cuda_on_shapes_that_take_every_way_through_the_engine(cell, shape, requires_grad, autocast):
    torch.manual_seed(0)
    module = cell(24, 32, num_layers=2, bidirectional=requires_grad)
    assert_fair(Trial(module, shaped(shape, requires_grad), device="cuda", autocast=autocast))
