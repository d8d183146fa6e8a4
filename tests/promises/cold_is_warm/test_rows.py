"""Cold = warm: a row has the same bits whatever batch it is in, and whatever was computed before."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rows.models import CASES, frozen
from torch import nn

from memograd import Memo


def odd():
    """A width of which a row is no multiple of 16 bytes: its bits depend on where it stands."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(31, 33), nn.Tanh(), nn.Linear(33, 7))


MODELS = {**CASES, "odd widths": (odd, lambda n: torch.randn(n, 31, generator=torch.Generator().manual_seed(0)))}


@pytest.mark.parametrize("case", MODELS)
def test_whole_batches_and_parts_of_them_give_the_same_bits(case):
    make, batch = MODELS[case]
    x = batch(150)
    mine = Memo().rows(frozen(make()), always=True)
    whole = mine(x)
    for size in (1, 2, 3, 7, 16, 31, 100):
        mine.__rows__.rows.contexts.clear()
        assert torch.equal(mine(x[150 - size :]), whole[150 - size :])
        assert torch.equal(mine(x)[: 150 - size], whole[: 150 - size])


@given(st.lists(st.lists(st.integers(0, 29), min_size=1, max_size=12), max_size=4), st.data())
@settings(deadline=None, max_examples=30)
def test_what_was_asked_for_before_leaves_no_trace(before, data):
    x = torch.randn(30, 31, generator=torch.Generator().manual_seed(0))
    model = frozen(odd())
    cold, warm = (Memo().rows(model, always=True) for _ in range(2))
    for rows in before:
        warm(x[rows])
    asked = data.draw(st.lists(st.integers(0, 29), min_size=1, max_size=20))
    assert torch.equal(cold(x[asked]), warm(x[asked]))
