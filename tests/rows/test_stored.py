"""Rows in a store: found by the next process, whatever batch it begins with; a store that fails costs a computation."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from tests.rows.models import CASES, frozen, mlp, vectors
from torch import nn

from memograd import Memo, MemogradWarning
from memograd.codec import encode
from memograd.store import Disk, Entry, Memory


def rows(f, store, **how):
    return Memo(store).rows(f, always=True, **how)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("first", [3, 40, 200])
def test_another_process_finds_rows_and_computes_others_in_their_class(case, first, tmp_path):
    make, batch = CASES[case]
    x = batch(200)
    rows(frozen(make()), tmp_path)(x[:first])
    mine = rows(frozen(make()), tmp_path)
    y = mine(x[:50])
    assert mine.receipt.hits == min(first, 50)
    assert torch.equal(Memo().rows(frozen(make()), always=True)(x[:50]), y)


@pytest.mark.parametrize("sizes", [[1, 7, 64, 30], [128, 64, 7], [5, 500, 20], [33, 64, 2]])
def test_bits_do_not_depend_on_what_the_store_held(sizes, tmp_path):
    cold = rows(frozen(mlp()), tmp_path / "cold")
    x = vectors(500)
    whole = cold(x[: sizes[0]])
    cold_bits = [cold(x[:size]).clone() for size in sizes]
    warm = rows(frozen(mlp()), tmp_path / "cold")
    for size, bits in zip(reversed(sizes), reversed(cold_bits), strict=True):
        assert torch.equal(warm(x[:size]), bits)
    assert torch.equal(warm(x[: sizes[0]]), whole)


def test_results_in_structures_come_back(tmp_path):
    linear = frozen(nn.Linear(16, 4))

    def f(x):
        y = linear(x)
        return {"y": y, "more": (y.sum(1), [y > 0])}

    expected = rows(f, tmp_path)(vectors(6))
    mine = rows(f, tmp_path)
    found = mine(vectors(6))
    assert mine.receipt.hits == 6
    assert torch.equal(found["y"], expected["y"])
    assert torch.equal(found["more"][1][0], expected["more"][1][0])


def test_a_real_process_finds_the_rows_of_another(tmp_path):
    program = (
        "import sys, torch\n"
        "from torch import nn\n"
        "from memograd import Memo\n"
        "torch.manual_seed(0)\n"
        "model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8)).eval().requires_grad_(False)\n"
        "mine = Memo(sys.argv[1]).rows(model, always=True)\n"
        "y = mine(torch.randn(10, 16))\n"
        "print(mine.receipt.hits, y.double().sum().item())\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    said = [subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ).stdout for _ in "12"]
    (hits, one), (again, other) = (text.split() for text in said)
    assert (hits, again) == ("0", "10")
    assert one == other


CHANGES = {
    "a weight": lambda m: m[0].weight.data.add_(1),
    "train mode": lambda m: m.train(),
    "dtype": lambda m: m.double(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_model_finds_none_of_the_rows(change, tmp_path):
    rows(frozen(mlp()), tmp_path)(vectors(5))
    model = frozen(mlp())
    CHANGES[change](model)
    mine = rows(model, tmp_path)
    mine(vectors(5).to(model[0].weight.dtype))
    assert mine.receipt.hits == 0


def test_salt_sets_rows_apart(tmp_path):
    rows(frozen(mlp()), tmp_path)(vectors(5))
    mine = Memo(tmp_path, salt="other").rows(frozen(mlp()), always=True)
    mine(vectors(5))
    assert mine.receipt.hits == 0


class Failing(Memory):
    """Raises whatever is asked of it."""

    def get(self, key):
        raise OSError(f"gone: {key}")

    def put(self, key, entry):
        raise OSError(f"full: {key} {entry}")

    def infos(self):
        raise OSError("gone")


def test_a_store_that_fails_costs_a_computation():
    mine = Memo().rows(frozen(mlp()), store=Failing(), always=True)
    with pytest.warns(MemogradWarning, match="could not"):
        y = mine(vectors(5))
    torch.testing.assert_close(y, mine.__wrapped__(vectors(5)))
    mine(vectors(5))
    assert mine.receipt.hits == 5
    with pytest.warns(MemogradWarning, match="could not clear"):
        mine.cache_clear()


@pytest.mark.parametrize("value", [3, "x", torch.zeros(8), torch.zeros(0, 8), {"a": torch.tensor(1.0)}], ids=repr)
def test_entries_that_are_none_of_these_rows_are_not_there(value, tmp_path):
    model = frozen(mlp())
    rows(model, tmp_path)(vectors(5))
    with Disk(tmp_path) as store:
        for info in list(store.infos()):
            if "class" not in info.about.text:
                store.put(info.key, Entry(info.about, encode(value)))
    mine = rows(model, tmp_path)
    torch.testing.assert_close(mine(vectors(4)), model(vectors(4)))


def test_rows_are_forgotten_and_cleared_in_the_store(tmp_path):
    mine = rows(frozen(mlp()), tmp_path)
    mine(vectors(5))
    assert mine.forget(vectors(2)) == 2
    again = rows(frozen(mlp()), tmp_path)
    again(vectors(5))
    assert again.receipt.hits == 3
    again.cache_clear()
    last = rows(frozen(mlp()), tmp_path)
    last(vectors(5))
    assert last.receipt.hits == 0
