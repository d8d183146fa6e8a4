"""What is found out of a function by trying it: mixing that is seldom, closed for now, or seen by lengths alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from memograd import Memo

pytestmark = pytest.mark.filterwarnings("ignore::memograd.MemogradWarning")
COUNTED = 0
LOG: list[int] = []


def note(x):
    LOG.append(len(x))


class Gated(nn.Module):
    """Adds what the batch has in common, as far as a gate lets it through."""

    def __init__(self, gate: float, through) -> None:
        super().__init__()
        self.linear, self.gate, self.through = nn.Linear(8, 8), nn.Parameter(torch.tensor(gate)), through

    def forward(self, x):
        y = self.linear(x)
        return y + self.through(self.gate) * y.mean(0)


def above_a_half(p):
    return (p > 0.5).float()


class Flagged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.register_buffer("together", torch.zeros(()))

    def forward(self, x):
        y = self.linear(x)
        return y - self.together * y.mean(0)


class Limited(nn.Module):
    """Scales a batch by its greatest number, if that is great."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.linear, self.limit = nn.Linear(8, 8), limit

    def forward(self, x):
        greatest = x.abs().max()
        return self.linear(x / greatest if greatest > self.limit else x)


class Trimmed(nn.Module):
    """Averages over a batch's longest row, and divides by that."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 8)

    def forward(self, ids, mask):
        longest = int(mask.sum(1).max())
        return self.embedding(ids[:, :longest]).mean(1)


class CountsOnItsClass(nn.Linear):
    calls = 0

    def forward(self, x):
        CountsOnItsClass.calls += 1
        return super().forward(x)


class NotesElsewhere(nn.Linear):
    def forward(self, x):
        note(x)
        return super().forward(x)


class KeepsALog(nn.Linear):
    def __init__(self) -> None:
        super().__init__(8, 8)
        self.log: list[int] = []

    def forward(self, x):
        self.log.append(len(x))
        return super().forward(x)


def batch(seed: int = 0) -> torch.Tensor:
    return torch.randn(8, 8, generator=torch.Generator().manual_seed(seed)).repeat(4, 1)


def rows(f):
    return Memo().rows(f, always=True)


@pytest.mark.parametrize("through", [torch.relu, torch.sigmoid, torch.tanh, above_a_half])
@pytest.mark.parametrize("gate", [-1.0, 0.0, 0.2, -20.0])
def test_a_gate_that_training_may_open_is_open_on_trial(gate, through):
    module = Gated(gate, through)
    mine = rows(module)
    assert torch.equal(mine(batch()), module(batch()))
    module.gate.detach().fill_(1.0)
    assert torch.equal(mine(batch(1)), module(batch(1)))
    assert "with other weights" in mine.receipt.reason or "depends on the other rows" in mine.receipt.reason


@pytest.mark.parametrize("trained", [True, False])
def test_a_flag_in_a_buffer_is_tried_as_it_is(trained):
    module = Flagged().requires_grad_(trained)
    mine = rows(module)
    torch.testing.assert_close(mine(batch()), module(batch()))
    assert mine.receipt.engine != "plain"
    module.together.fill_(1.0)
    assert torch.equal(mine(batch(1)), module(batch(1)))
    assert mine.receipt.engine == "plain"


@pytest.mark.parametrize("limit", [2.0, 100.0, 1000.0])
def test_what_a_great_number_brings_about_is_seen_in_a_batch_that_has_none(limit):
    module = Limited(limit)
    mine = rows(module)
    mine(batch())
    great = torch.cat([batch(), torch.full((4, 8), 5000.0)])
    assert torch.equal(mine(great), module(great))
    assert mine.receipt.engine == "plain"


@pytest.mark.parametrize("trained", [True, False])
def test_what_looks_at_the_longest_row_is_seen_in_a_batch_of_equal_lengths(trained):
    module = Trimmed().requires_grad_(trained)
    mine = rows(module)
    ids = torch.randint(0, 50, (8, 12), generator=torch.Generator().manual_seed(0)).repeat(4, 1)
    mine(ids, torch.ones_like(ids))
    mask = torch.ones_like(ids)
    mask[::2, 6:] = 0
    assert torch.equal(mine(ids[::2], mask[::2]), module(ids[::2], mask[::2]))
    assert mine.receipt.engine == "plain"


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("make", [lambda: CountsOnItsClass(8, 8), lambda: NotesElsewhere(8, 8), KeepsALog])
def test_what_counts_its_calls_counts_as_in_the_plain_program(make, trained):
    CountsOnItsClass.calls = 0
    LOG.clear()
    module = make().requires_grad_(trained)
    mine = rows(module)
    for seed in range(5):
        mine(batch(seed))
        assert mine.receipt.engine == "plain"
    assert max(CountsOnItsClass.calls, len(LOG), len(getattr(module, "log", ()))) == 5


def test_what_takes_batches_of_one_size_alone_is_called_plainly():
    def of_eight(x):
        if len(x) not in (1, 8):
            raise ValueError(f"got {len(x)} rows, expected 8")
        return 2 * x

    mine = rows(of_eight)
    x = torch.randn(8, 3)
    for _ in range(3):
        assert torch.equal(mine(x), 2 * x)


@pytest.mark.parametrize("seldom", [lambda x: (x == 0).any(), lambda x: x.isnan().any(), lambda x: (x < -1e3).any()])
def test_what_a_seldom_number_brings_about_is_seen_in_a_batch_that_has_none(seldom):
    class Rare(nn.Linear):
        def forward(self, x):
            return super().forward(x) * (2 if seldom(x) else 1)

    mine = rows(Rare(8, 8))
    mine(batch())
    assert mine.receipt.engine == "plain"


def test_results_that_are_not_numbers_where_rows_mix_are_seen():
    class Spread(nn.Linear):
        def forward(self, x):
            return super().forward(x) + (0.0 * x.max() if x.max() < 1e3 else float("nan"))

    module = Spread(8, 8)
    mine = rows(module)
    mine(batch())
    assert mine.receipt.engine == "plain"
