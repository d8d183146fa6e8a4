"""Never stale: a memoized recurrent module sees every change, wherever it is made, at its next call."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.promises.small import TABLE, few
from tests.scan.pairs import CELLS, module
from torch import nn

from memograd import Shared, memo


def step(m):
    for p in m.parameters():
        p.grad = torch.ones_like(p)
    torch.optim.SGD(m.parameters(), lr=0.5).step()


CHANGES = {
    "in place": lambda m: m.weight_hh_l0.detach().mul_(2),
    ".data in place": lambda m: m.weight_hh_l0.data.mul_(2),
    ".data replaced": lambda m: setattr(m.weight_hh_l0, "data", torch.ones(m.weight_hh_l0.shape)),
    "a new parameter": lambda m: setattr(m, "weight_hh_l0", nn.Parameter(torch.ones(m.weight_hh_l0.shape))),
    "one number of a bias": lambda m: m.bias_ih_l0.data[0].add_(1),
    "by an optimizer": step,
    "drawn anew": nn.LSTM.reset_parameters,
    "loaded": lambda m: m.load_state_dict({k: torch.ones_like(v) for k, v in m.state_dict().items()}),
    "assigned": lambda m: m.load_state_dict({k: torch.ones_like(v) for k, v in m.state_dict().items()}, assign=True),
}


@pytest.mark.parametrize("on", ["memoized", "plain"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("cell", CELLS)
def test_a_change_of_the_weights_is_seen(cell, change, on):
    plain = module(cell)
    mine = memo.scan(plain, engine="levels")
    before, _ = mine(few())
    CHANGES[change](mine if on == "memoized" else plain)
    expected = cell(3, 4, batch_first=True)
    expected.load_state_dict(plain.state_dict())
    torch.testing.assert_close(mine(few())[0], expected(few())[0])
    assert not torch.allclose(mine(few())[0], before)


def test_a_change_of_the_input_in_place_is_seen():
    mine = memo.scan(module(), engine="levels")
    x = few()
    mine(x)
    x[0, 0] += 1
    torch.testing.assert_close(mine(x)[0], module()(x)[0])


def test_a_change_of_the_first_states_in_place_is_seen():
    mine = memo.scan(module(nn.GRU), engine="levels")
    h = torch.zeros(1, 4, 4)
    mine(few(), h)
    h[:, 1] = 1
    torch.testing.assert_close(mine(few(), h)[0], module(nn.GRU)(few(), h)[0])


def test_train_and_eval_are_seen():
    mine, plain = (wrap(module(num_layers=2, dropout=0.5)) for wrap in (memo.scan, lambda m: m))
    for training in (True, False, True):
        mine.train(training), plain.train(training)
        torch.manual_seed(1)
        ours, _ = mine(few())
        torch.manual_seed(1)
        torch.testing.assert_close(ours, plain(few())[0])


def test_a_changed_dropout_is_seen():
    mine, plain = (wrap(module(num_layers=2)) for wrap in (memo.scan, lambda m: m))
    mine.dropout = plain.dropout = 0.5
    torch.manual_seed(1)
    ours, _ = mine(few())
    torch.manual_seed(1)
    torch.testing.assert_close(ours, plain(few())[0])


def test_grad_mode_and_autocast_are_seen():
    mine = memo.scan(module(), engine="levels")
    assert mine(few())[0].requires_grad
    with torch.no_grad():
        assert not mine(few())[0].requires_grad
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert mine(few())[0].dtype == torch.bfloat16
    assert mine(few())[0].dtype == torch.float32


def test_requires_grad_of_a_weight_is_seen():
    mine = memo.scan(module(), engine="levels")
    mine(few())
    mine.requires_grad_(requires_grad=False)
    assert not mine(few())[0].requires_grad
    mine.weight_hh_l0.requires_grad_()
    mine(few())[0].sum().backward()
    assert mine.weight_hh_l0.grad is not None
    assert mine.weight_ih_l0.grad is None


def test_memory_that_is_used_again_never_shows_in_a_result():
    """Scratch memory and the factors of a dropped graph are handed on; results are not."""
    mine = memo.scan(module(), engine="levels")
    y, _ = mine(few())
    kept = y.detach().clone()
    for _ in range(5):
        mine(few() * 3)[0].sum().backward()
    assert torch.equal(y, kept)
    s, (h, c) = mine(few(), shared=True)
    kept = [t.detach().clone() for t in (s.values, h, c)]
    for _ in range(5):
        mine(few() * 3)[0].sum().backward()
    assert all(torch.equal(t, k) for t, k in zip((s.values, h, c), kept, strict=True))


def test_graphs_that_are_alive_at_once_keep_apart():
    """Backward of the first call after the forward and backward of others."""
    mine, plain = memo.scan(copy.deepcopy(module()), engine="levels"), module()
    for each in (mine, plain):
        first = each(few())[0].square().sum()
        second = each(few() * 3)[0].square().sum()
        third = each(few() * 2)[0].square().sum()
        second.backward()
        each(few() * 5)[0].sum().backward()
        first.backward()
        third.backward()
    for ours, theirs in zip(mine.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_trie_is_of_the_ids_at_the_time_that_it_was_made():
    ids = TABLE.clone()
    s = Shared.prefixes(ids)
    expected = s.dense()
    ids.zero_()
    assert torch.equal(s.dense(), expected)
