"""States in a file: those that were kept, in whatever order they are asked for, and no litter."""

from __future__ import annotations

import copy
import gc
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from memograd import memo
from memograd._replay._spill import Spill


@settings(deadline=None, max_examples=50)
@given(plan=st.lists(st.tuples(st.sampled_from(["put", "get", "drop"]), st.integers(1, 9)), max_size=30))
def test_a_state_is_what_was_kept(plan):
    spill, kept, at = Spill(""), {}, 0
    for act, size in plan:
        if act == "put":
            at += size
            kept[at] = [torch.randn(size, 3), torch.arange(size), torch.zeros(()).bfloat16()]
            spill.put(at, kept[at])
        elif kept and act == "get":
            asked = sorted(kept)[-size % len(kept)]
            assert all(map(torch.equal, spill.get(asked), kept[asked]))
        elif kept:
            last = max(kept)
            spill.drop(last)
            del kept[last]
            at = last - 1
    spill.clear()


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_gradients_are_the_plain_ones_and_states_take_no_memory(kind):
    torch.manual_seed(0)
    module, x = kind(5, 8, num_layers=2), torch.randn(300, 3, 5)
    with pytest.raises(ValueError, match="expected at least") as raised:
        memo.scan(module, budget=1, spill=True)(x)
    least = int(str(raised.value).partition("Write budget=")[2].split(" ")[0])
    scan = memo.scan(copy.deepcopy(module), budget=least + 1_000, spill=True)
    for one in (module, scan):
        one(x)[0].square().sum().backward()
    for a, b in zip(scan.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4 * float(b.grad.abs().max()))
    assert scan.receipt.within.kept > 2
    assert scan.receipt.within.ahead <= 1


def test_cells_and_streamed_losses_spill_and_leave_no_litter(tmp_path):
    linear, x = nn.Linear(13, 8), torch.randn(200, 3, 5)

    def cell(x, h):
        h = torch.tanh(linear(torch.cat((x, h), 1)))
        return h, h

    h, found = torch.zeros(3, 8), []
    before = threading.active_count()
    for how in ({}, {"budget": 20_000, "spill": str(tmp_path)}):
        scan = memo.scan(cell, **how)
        found.append(torch.autograd.grad(scan(x, h)[0].square().mean(), [*linear.parameters()]))
        loss = scan.loss(x, None, lambda y: y.square().mean(), carry=h)
        found.append(torch.autograd.grad(loss, [*linear.parameters()]))
    assert scan.receipt.within.kept > 2
    for other in found[1:]:
        for a, b in zip(other, found[0], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    gc.collect()
    assert [*tmp_path.iterdir()] == []
    assert threading.active_count() == before


def test_spill_without_a_budget_is_refused():
    with pytest.raises(ValueError, match="got spill and no budget"):
        memo.scan(nn.LSTM(5, 8), spill=True)
