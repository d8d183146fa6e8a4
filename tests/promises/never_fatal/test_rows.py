"""Never fatal: what has no identity, or cannot be taken apart, copied or tried, is computed plainly, and said once."""

from __future__ import annotations

import threading
import warnings

import pytest
import torch
from tests.rows.models import frozen, mlp, vectors
from torch import nn

from memograd import Memo, MemogradWarning, NoIdentityError


class Locked(nn.Module):
    """Has a lock, which has no content and cannot be copied."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()
        self.inner = nn.Linear(16, 4)

    def forward(self, x):
        with self.lock:
            return self.inner(x)


class Opaque:
    """Iterates as a batch does, and is none."""

    def __init__(self, x):
        self.x = x


SOMETHING = object()
CALLS = {
    "a lock in the module": (Locked(), (vectors(4).repeat(3, 1),)),
    "a lock in a frozen module": (frozen(Locked()), (vectors(4),)),
    "no tensors": (lambda a, b: a + b, (1, 2)),
    "what is not looked into": (lambda batch: batch.x * 2, (Opaque(vectors(4)),)),
    "a sparse batch": (lambda x: x.to_dense() * 2, (torch.eye(4).to_sparse(),)),
    "rows of different number": (lambda a, b: (a.sum(), b.sum()), (vectors(4), vectors(3))),
    "a result of texts": (lambda x: [str(row) for row in x], (vectors(4),)),
    "a result of nothing": (lambda _: None, (vectors(4),)),
    "a result of an object": (lambda x: {"x": x * 2, "by": SOMETHING}, (vectors(4),)),
    "a number": (lambda x: x * 2, (torch.tensor(1.0),)),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_cannot_be_taken_by_rows_is_computed_plainly_and_said_at_most_once(name):
    f, args = CALLS[name]
    mine = Memo().rows(f, always=True)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        results = [mine(*args) for _ in range(3)]
    assert len([one for one in said if one.category is MemogradWarning]) <= 1
    for result in results:
        assert str(result) == str(f(*args)) or torch.equal(torch.as_tensor(result), torch.as_tensor(f(*args)))
    assert mine.receipt.engine == "plain"
    assert mine.receipt.reason


def test_strict_raises():
    with pytest.raises(NoIdentityError, match=r"lock"):
        Memo(strict=True).rows(frozen(Locked()), always=True)(vectors(4))


def test_a_module_that_cannot_be_copied_is_called_plainly():
    class Alone(nn.Module):
        def __deepcopy__(self, memo):
            raise RuntimeError("there is one of me")

        def forward(self, x):
            return 2 * x

    mine = Memo().rows(Alone(), always=True)
    with pytest.warns(MemogradWarning, match="there is one of me"):
        y = mine(vectors(4))
    assert torch.equal(y, 2 * vectors(4))


def test_what_raises_for_made_up_rows_is_tried_on_others():
    model = frozen(mlp())

    def picky(x):
        if (x[:, 0] < 0).any():
            raise ValueError("the first number of a row is not below 0")
        return model(x)

    x = vectors(20)
    x[:, 0] = x[:, 0].abs()
    mine = Memo().rows(picky, always=True)
    torch.testing.assert_close(mine(x), picky(x))
    mine(x)
    assert mine.receipt.hits == 20
    with pytest.raises(ValueError, match="not below 0"):
        mine(-x)
