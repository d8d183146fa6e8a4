"""The receipt says what the last call did: how much was shared, by which engine, and why."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from memograd import Shared, memo

CELLS = [nn.LSTM, nn.GRU, nn.RNN]
TABLE = torch.tensor([[1, 2, 3], [1, 2, 4], [1, 5, 3], [1, 2, 3]])
LETTERS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))


def receipt_of(x, *args, engine="levels", cell=nn.LSTM, call=None, **options):
    mine = memo.scan(cell(3, 4, batch_first=True, **options), engine=engine)
    assert mine.receipt is None
    mine(x, *args, **(call or {}))
    return mine.receipt


@pytest.mark.parametrize("cell", CELLS)
def test_it_counts_the_steps_of_the_data_and_the_distinct_prefixes(cell):
    receipt = receipt_of(LETTERS[TABLE], cell=cell)
    assert (receipt.steps, receipt.nodes, receipt.engine, receipt.exact) == (12, 6, "levels", "rounding")


def test_layers_and_directions_do_not_count():
    receipt = receipt_of(LETTERS[TABLE], num_layers=3, bidirectional=True)
    assert (receipt.steps, receipt.nodes) == (12, 6)


def test_of_a_packed_batch_it_counts_the_steps_that_there_are():
    packed = pack_padded_sequence(LETTERS[TABLE], torch.tensor([3, 1, 2, 3]), batch_first=True, enforce_sorted=False)
    receipt = receipt_of(packed)
    assert (receipt.steps, receipt.nodes) == (9, 4)


def test_an_input_that_requires_grad_is_shared_forward_all_the_same():
    receipt = receipt_of(LETTERS[TABLE].requires_grad_())
    assert (receipt.steps, receipt.nodes) == (12, 6)


def test_of_a_shared_it_counts_its_nodes():
    receipt = receipt_of(Shared.prefixes(TABLE).map(lambda v: LETTERS[v]), engine="auto")
    assert (receipt.steps, receipt.nodes, receipt.engine) == (12, 6, "levels")


def test_rows_with_different_first_states_are_counted_apart():
    h = torch.zeros(1, 4, 4)
    h[:, 3] = 1
    receipt = receipt_of(LETTERS[TABLE], h, cell=nn.GRU)
    assert (receipt.steps, receipt.nodes) == (12, 9)


@pytest.mark.parametrize(
    ("x", "engine", "why"),
    [
        (LETTERS[TABLE], "plain", "engine='plain'"),
        (LETTERS[TABLE], "auto", "too small"),
        (LETTERS[TABLE[0]], "levels", "the plain module judges this input"),
    ],
)
def test_where_the_plain_module_runs_it_says_so_and_why(x, engine, why):
    receipt = receipt_of(x, engine=engine)
    assert (receipt.engine, receipt.exact) == ("plain", "bits")
    assert why in receipt.reason


def test_where_little_is_shared_it_says_how_little():
    torch.manual_seed(0)
    mine = memo.scan(nn.LSTM(128, 256))
    x = torch.randn(20, 64, 128)
    y, _ = mine(x)
    assert (mine.receipt.engine, mine.receipt.exact) == ("plain", "bits")
    assert "1280 steps, 1280 distinct" in mine.receipt.reason
    assert torch.equal(y, mine.__wrapped__(x)[0])


@pytest.mark.parametrize("cell", CELLS)
def test_exact_bits_means_the_bits_of_the_plain_call(cell):
    torch.manual_seed(0)
    plain = cell(3, 4, batch_first=True)
    for engine in ("plain", "auto", "levels"):
        mine = memo.scan(plain, engine=engine)
        y, _ = mine(LETTERS[TABLE])
        assert mine.receipt.exact == "rounding" or torch.equal(y, plain(LETTERS[TABLE])[0])


def test_it_cannot_be_changed():
    receipt = receipt_of(LETTERS[TABLE])
    with pytest.raises(AttributeError):
        receipt.nodes = 1
