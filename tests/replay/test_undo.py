"""What a call was given is put back before it is run a second time."""

from __future__ import annotations

from collections import defaultdict, deque

import numpy as np
import pytest
import torch
from torch import nn

from memograd._replay import Seen
from memograd._replay._undo import Undo


class Config:
    def __init__(self):
        self.count, self.log = 0, [1]


@pytest.mark.parametrize("log", [[1, 2], deque([1], maxlen=3), {"a": 1, "b": 2}, defaultdict(list, a=1)])
def test_containers_are_put_back_in_their_order(log):
    before, undo = list(log.items() if isinstance(log, dict) else log), Undo(Seen([log]))
    if isinstance(log, dict):
        log["b"], log["a"], log["c"] = 5, 6, 7
    else:
        log.extend([5, 6])
    undo.put_back()
    assert list(log.items() if isinstance(log, dict) else log) == before


@pytest.mark.parametrize("owner", [Config(), nn.Linear(2, 2)])
def test_attributes_are_put_back(owner):
    owner.count, owner.log = 0, [1]
    undo, log = Undo(Seen([owner])), owner.log
    owner.count += 1
    owner.log.append(2)
    owner.more, owner.log = 1, []
    undo.put_back()
    assert (owner.count, owner.log, hasattr(owner, "more")) == (0, [1], False)
    assert owner.log is log


def test_generators_are_put_back():
    own, other = torch.Generator().manual_seed(1), np.random.default_rng(1)
    undo, drawn = Undo(Seen([[own], other])), (torch.rand(2, generator=own), other.random(2))
    undo.put_back()
    assert torch.equal(torch.rand(2, generator=own), drawn[0])
    assert np.array_equal(other.random(2), drawn[1])
