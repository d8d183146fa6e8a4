"""What is kept for backward: nothing without grad, and where and for as long as autograd keeps it."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from tests.scan.judge import named
from tests.scan.pairs import CELLS, assert_all_close, few, gradients, pair
from torch import nn
from torch.utils.checkpoint import checkpoint

from memograd import Shared, memo


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("cell", CELLS)
def test_without_grad_the_outputs_are_the_plain_ones_and_require_none(cell, mode):
    plain, mine = pair(cell)
    with mode():
        ours, theirs = named(mine(few())), named(plain(few()))
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name])
        assert not ours[name].requires_grad
        assert ours[name].is_inference() == theirs[name].is_inference()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("cell", CELLS)
def test_training_goes_on_after_a_call_without_grad(cell, mode):
    """Results that was lent in inference mode is not handed to a graph that cannot take it."""
    plain, mine = pair(cell)
    for module in (plain, mine):
        with mode():
            module(few(200, 20))
        module(few(200, 20))[0].square().mean().backward()
    assert_all_close(gradients(mine), gradients(plain))


@pytest.mark.parametrize("cell", CELLS)
def test_without_grad_nothing_is_kept_for_a_backward_pass(cell, monkeypatch):
    from memograd._scan import _layer

    kept = []
    whole = _layer.forward
    monkeypatch.setattr(_layer, "forward", lambda *args, keep: kept.append(keep) or whole(*args, keep=keep))
    _, mine = pair(cell)
    with torch.no_grad():
        mine(few())
    assert kept == [False]


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("steps", [6, 30])
@pytest.mark.parametrize("cell", CELLS)
def test_features_made_in_inference_mode_may_be_trained_on(cell, steps, batch_first):
    """A frozen backbone's features, say; the plain module takes them, batch first at least."""
    torch.manual_seed(0)
    plain = cell(3, 4, batch_first=batch_first)
    mine = memo.scan(copy.deepcopy(plain), engine="levels")
    with torch.inference_mode():
        x = few(steps=steps) if batch_first else few(steps=steps).transpose(0, 1).contiguous()
        ids = torch.zeros(3, 12, dtype=torch.long)
        s = Shared.prefixes(ids).map(lambda v: torch.ones(len(v), 3))
    mine(x)[0].sum().backward()
    plain(x.clone())[0].sum().backward()
    assert_all_close(gradients(mine), gradients(plain))
    mine(s)[0].values.sum().backward()


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_checkpointing_gives_the_same_gradients(cell, reentrant):
    plain, mine = pair(cell)
    found = []
    for module in (mine, plain):
        x = few().requires_grad_()
        y, _ = checkpoint(module, x, use_reentrant=reentrant)
        y.square().sum().backward()
        found.append([x.grad, *gradients(module)])
    assert_all_close(*found)


def test_saved_tensors_may_be_kept_elsewhere():
    plain, mine = pair(nn.LSTM)
    for module in (plain, mine):
        with torch.autograd.graph.save_on_cpu():
            y, _ = module(few())
        y.square().sum().backward()
    assert_all_close(gradients(mine), gradients(plain))


def test_anomaly_detection_finds_nothing_wrong():
    _, mine = pair(nn.LSTM)
    with pytest.warns(UserWarning, match="Anomaly Detection"), torch.autograd.detect_anomaly():
        mine(few().requires_grad_())[0].square().sum().backward()


@pytest.fixture
def loans(monkeypatch):
    """Give weak references to all blocks of memory that are lent; nothing is collected behind the test's back."""
    from memograd._scan import _buffers

    made = []
    whole = _buffers._Loan.__init__
    monkeypatch.setattr(
        _buffers._Loan, "__init__", lambda self, *args: made.append(weakref.ref(self)) or whole(self, *args)
    )
    gc.disable()
    yield made
    gc.enable()


def alive(loans):
    return sum(loan() is not None for loan in loans)


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_a_graph_that_is_dropped_gives_its_memory_back_at_once(cell, requires_grad, loans):
    """What is kept for backward goes with the graph, and nothing holds the graph in a circle."""
    _, mine = pair(cell)
    loss = mine(few().requires_grad_(requires_grad))[0].sum()
    assert alive(loans) == 1
    del loss
    assert alive(loans) == 0


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_backward_gives_the_memory_back_though_the_loss_is_kept(cell, requires_grad, loans):
    """As autograd does with what is saved: in a training loop the last step's loss lives through the next forward."""
    _, mine = pair(cell, num_layers=2)
    loss = mine(few().requires_grad_(requires_grad))[0].sum()
    loss.backward(retain_graph=True)
    assert alive(loans) == 2
    loss.backward()
    assert alive(loans) == 0
    del loss


def test_hooks_of_the_callers_own_may_keep_a_view_of_what_is_saved(loans):
    """What is lent is not lent again while anything refers to it, be it a tensor of another name."""
    plain, mine = pair(nn.LSTM)
    with torch.autograd.graph.saved_tensors_hooks(torch.Tensor.detach, lambda kept: kept):
        loss = mine(few())[0].sum()
    mine(few().flip(0))
    loss.backward()
    plain(few())[0].sum().backward()
    assert_all_close(gradients(mine), gradients(plain))
    assert alive(loans) == 0


def test_what_a_hook_takes_elsewhere_is_not_kept_here(loans):
    _, mine = pair(nn.LSTM)
    with torch.autograd.graph.saved_tensors_hooks(torch.clone, lambda kept: kept):
        loss = mine(few())[0].sum()
    assert alive(loans) == 0
    loss.backward()
