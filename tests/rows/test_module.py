"""What `memo.rows(module)` gives is a module over the same state."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from tests.rows.models import frozen, mlp, vectors
from torch import nn

from memograd import Memo, memo


@pytest.fixture
def model():
    return frozen(mlp())


@pytest.fixture
def mine(model):
    return Memo().rows(model, always=True)


def test_state_is_the_modules(mine, model):
    assert isinstance(mine, nn.Sequential)
    assert [*mine.state_dict()] == [*model.state_dict()]
    assert mine[0] is model[0]
    assert mine.train().training
    assert model.training
    mine.note = 3
    assert model.note == 3


def test_within_another_model_it_trains_and_is_saved(model):
    head = nn.Linear(8, 2)
    whole = nn.Sequential(Memo().rows(model, always=True), head)
    plain = nn.Sequential(model, head)
    assert [*whole.state_dict()] == [*plain.state_dict()]
    for _ in range(2):
        torch.testing.assert_close(whole(vectors(6)), plain(vectors(6)))
    whole(vectors(6)).sum().backward()
    assert head.weight.grad is not None
    assert whole[0].receipt.hits == 6
    whole.load_state_dict({name: value + 1 for name, value in whole.state_dict().items()})
    torch.testing.assert_close(whole(vectors(6)), plain(vectors(6)))
    assert whole[0].receipt.hits == 0


def test_copies_are_of_copies_of_the_module(mine):
    mine(vectors(4))
    other = copy.deepcopy(mine)
    other[0].weight.data.add_(1)
    assert not torch.equal(other(vectors(4)), mine(vectors(4)))
    assert mine.receipt.hits == 4


def test_it_is_pickled_without_its_rows(mine):
    expected = mine(vectors(4))
    other = pickle.loads(pickle.dumps(mine))  # noqa: S301 - ours
    assert torch.equal(other(vectors(4)), expected)
    assert other.receipt.hits == 0
    buffer = io.BytesIO()
    torch.save(mine, buffer)
    buffer.seek(0)
    assert torch.equal(torch.load(buffer, weights_only=False)(vectors(4)), expected)


def test_a_function_is_pickled_by_its_name():
    mine = Memo().rows(vectors, static="seed")
    assert pickle.loads(pickle.dumps(mine)).__wrapped__ is vectors  # noqa: S301 - ours
    assert copy.deepcopy(mine) is mine


def test_rows_of_rows_are_rows(mine, model):
    assert Memo().rows(mine).__wrapped__ is model


def test_names_of_the_modules_own_are_the_modules():
    class Own(nn.Module):
        def stats(self):
            return "own"

        def forward(self, x):
            return 2 * x

    mine = Memo().rows(Own(), always=True)
    mine(vectors(2))
    assert mine.stats() == "own"
    assert mine.receipt.rows == 2
    assert "receipt" in dir(mine)
    with pytest.raises(AttributeError):
        _ = mine.nothing


def test_a_decorator_takes_options():
    @Memo().rows(static="by", always=True)
    def scaled(x, by):
        return x * by

    assert torch.equal(scaled(vectors(3), 2.0), vectors(3) * 2)
    assert scaled.__name__ == "scaled"
    assert scaled.stats().rows == 3


WRONG = {
    "dim": ({"dim": "x"}, ValueError, "dim=1"),
    "exact": ({"exact": "maybe"}, ValueError, "'bits' or 'rounding'"),
    "static": ({"static": 3.0}, TypeError, "static="),
    "version": ({"version": 3}, TypeError, "version='3'"),
    "max_bytes": ({"max_bytes": "x"}, ValueError, "max_bytes"),
    "unknown": ({"nothing": 1}, TypeError, "one of the options"),
}


@pytest.mark.parametrize("case", WRONG)
def test_options_are_checked(case):
    how, kind, words = WRONG[case]
    with pytest.raises(kind, match=words):
        memo.rows(mlp(), **how)


@pytest.mark.parametrize("f", [3, nn.Linear])
def test_what_is_no_function_is_refused(f):
    with pytest.raises(TypeError, match=r"memo\.rows"):
        memo.rows(f)


def test_a_compiled_caller_leaves_the_call_to_rows(mine, model):
    mine(vectors(4))
    compiled = torch.compile(lambda x: mine(x) + 1, backend="eager")
    torch.testing.assert_close(compiled(vectors(4)), model(vectors(4)) + 1)
    assert mine.receipt.hits == 4
