"""Whether rows pay: what costs more than it saves is left alone, sharing and recalling apart from each other."""

from __future__ import annotations

import pytest
import torch
from tests.rows.models import frozen, vectors
from torch import nn

from memograd import Memo
from memograd._rows._account import GRACE, LOOKS, WAITS, Account

pytestmark = pytest.mark.account


def told(account, calls, spent, computed=0.0, spared=0):
    """Tell of calls, and count those that were left alone."""
    skipped = 0
    for _ in range(calls):
        if account.skips():
            skipped += 1
            continue
        account.computed(computed, 10)
        account.tell(spent, computed, spared)
    return skipped


def test_what_costs_a_part_of_what_is_computed_goes_on():
    account = Account()
    assert told(account, 1000, spent=0.00001, computed=0.01) == 0


def test_what_saves_nothing_and_costs_is_left_alone_but_for_a_look():
    account = Account()
    calls = 20_000
    skipped = told(account, calls, spent=0.01, computed=0.01)
    assert skipped > 0.98 * calls
    assert not account.on or account.spent < calls * 0.01 * 0.02


def test_what_saves_more_than_it_costs_goes_on_whatever_it_costs():
    account = Account()
    assert told(account, 1000, spent=0.01, computed=0.02, spared=10) == 0


def test_what_begins_to_save_is_taken_up_again():
    account = Account()
    told(account, 200, spent=0.02, computed=0.01)
    assert not account.on
    skipped = told(account, 3 * WAITS[1], spent=0.001, computed=0.02, spared=10)
    assert account.on
    assert skipped <= WAITS[1]


def test_looks_that_find_nothing_grow_rare():
    account = Account()
    told(account, 50, spent=1.0, computed=0.01)
    waits = []
    for _ in range(6):
        waits.append(0)
        while account.skips():
            waits[-1] += 1
        told(account, LOOKS, spent=1.0, computed=0.01)
    assert waits == sorted(waits)
    assert waits[-1] > 4 * waits[0] > 0


def test_where_rows_will_come_again_an_epoch_without_a_hit_is_no_evidence():
    account = Account(patient=True)
    assert told(account, 1000, spent=0.01, computed=0.02) == 0


def test_what_takes_longer_to_find_than_to_compute_is_left_alone_wherever_rows_come_again():
    account = Account(patient=True)
    assert told(account, 1000, spent=0.02, computed=0.01) > 900


def test_patience_ends():
    account = Account(patient=True)
    told(account, 100, spent=1.0, computed=2.0)
    assert not account.on


def test_the_first_call_is_on_no_account():
    account = Account()
    account.tell(100 * GRACE, 0.0, 0)
    assert account.on
    assert account.spent == 0


def test_always_goes_on():
    account = Account(always=True)
    assert told(account, 100, spent=1.0) == 0


def test_hits_of_rows_that_nobody_computed_here_are_no_loss():
    account = Account()
    for _ in range(100):
        account.tell(1.0, 0.0, 5)
    assert account.on


def test_a_function_cheaper_than_its_rows_digests_is_called_plainly():
    mine = Memo().rows(nn.Embedding(100, 2).requires_grad_(False))
    ids = torch.arange(100)
    for k in range(2000):
        mine(ids + 0 * k)
        if not mine.stats().recalling:
            break
    assert not mine.stats().recalling
    assert torch.equal(mine(ids), mine.__wrapped__(ids))
    assert mine.receipt.engine == "plain"
    assert "does not pay" in mine.receipt.reason
    mine.cache_clear()
    assert mine.stats().recalling


def test_a_frozen_part_that_is_cheaper_than_its_rows_digests_is_run_as_it_is():
    model = nn.Sequential(nn.Embedding(100, 2).requires_grad_(False), nn.Flatten(), nn.Linear(2, 3))
    mine = Memo().rows(model, frozen=True)
    for k in range(2000):
        mine(torch.arange(100) + 0 * k)
        if not mine.stats().recalling:
            break
    assert torch.equal(mine(torch.arange(100)), model(torch.arange(100)))
    assert "does not pay" in mine.receipt.reason


def test_sharing_and_recalling_are_judged_apart():
    model = nn.Linear(16, 4)
    mine = Memo().rows(model)
    rows = mine.__rows__.rows
    rows.sharing.tell(0.0, 0.0, 0)
    rows.sharing.tell(100.0, 0.0, 0)
    assert (mine.stats().sharing, mine.stats().recalling) == (False, True)
    mine(vectors(4).repeat(2, 1))
    assert mine.receipt.engine == "plain"
    frozen(model)
    mine(vectors(4))
    assert mine.receipt.engine == "recall"


def test_what_has_stepped_aside_is_filled_where_that_is_asked_for():
    mine = Memo().rows(frozen(nn.Linear(16, 4)))
    account = mine.__rows__.rows.recalling
    account.tell(0.0, 0.0, 0)
    account.tell(100.0, 0.0, 0)
    assert not account.on
    assert mine.fill(vectors(20)).computed == 20
    assert not account.on
