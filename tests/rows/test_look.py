"""Equal looks have equal keys: whatever is edited, a look is another, or is none at all."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.promises.never_stale.test_edits_of_modules import REST, WEIGHTS, Net
from torch import nn

from memograd import Memo, memo
from memograd._rows._look import look_at
from memograd._rows._subject import Wrapped
from memograd.fingerprint._content import identify


class Quiet(Net):
    """The same without a state of its own, which no look sees."""

    get_extra_state = nn.Module.get_extra_state


@pytest.fixture(autouse=True)
def _tensors_have_been_written():
    """Until one has been, nothing is looked at."""
    writing = Wrapped(nn.Linear(1, 1), "net", None, "xxh3").subject.writings[0]
    identify([nn.Parameter(torch.zeros(1)), torch.zeros(1)], writing)


def look(module):
    return look_at(module, Wrapped(module, "net", None, "xxh3").subject.writings[0])


EDITS = {name: edit for name, edit in {**WEIGHTS, **REST}.items() if name != "extra state"}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_of_a_module_is_another_look(name):
    module = Quiet()
    before = look(module)
    assert before is not None
    assert look(module) == before
    assert look(copy.deepcopy(module)) == before
    EDITS[name](module)
    assert look(module) in (None, look(module))
    assert look(module) != before


def test_what_has_a_state_of_its_own_is_not_looked_at():
    assert look(Net()) is None


def test_code_is_looked_at(monkeypatch):
    module = Quiet()
    before = look(module)
    monkeypatch.setattr(Net, "forward", lambda self, x: x)
    assert look(module) != before


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (1, True), (0.0, -0.0), ((1,), (True,)), ([1], [True]), ("1", 1)])
def test_equal_numbers_of_two_kinds_are_two(one, other):
    module = nn.Linear(2, 2)
    module.number = one
    before = look(module)
    module.number = other
    assert look(module) != before


def test_keys_of_equal_looks_are_those_that_are_made_anew(monkeypatch):
    module = Quiet().eval().requires_grad_(False)
    wrapped = Wrapped(module, "net", None, "xxh3")
    batch = wrapped.called_with((torch.zeros(3, 4),), {}, 0, ())
    first = wrapped.key(batch, "bits")
    assert wrapped.key(batch, "bits") is first
    with memo.frozen(module):
        assert wrapped.key(batch, "bits") == first
    module.rate = 2.0
    other = wrapped.key(batch, "bits")
    assert other != first
    monkeypatch.setattr("memograd._rows._subject.look_at", lambda *_: None)
    assert wrapped.key(batch, "bits") == other
    module.rate = 1.0
    assert wrapped.key(batch, "bits") == first


def test_constants_of_two_kinds_are_two():
    features = Memo().rows(lambda x, by: x * by, always=True)
    module = nn.Linear(4, 4).requires_grad_(False)
    by_rows = Memo().rows(module, always=True)
    wrapped = by_rows.__rows__.rows.wrapped
    x = torch.zeros(3, 4)
    keys = {wrapped.key(wrapped.called_with((x,), {"by": by}, 0, ()), "bits") for by in (1, 1.0, True, 0.0, -0.0)}
    assert len(keys) == 5
    assert features(x, 1).dtype == torch.float32
