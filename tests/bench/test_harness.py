"""The harness of the benchmarks: what it times, what it counts, what it refuses to compare."""

from __future__ import annotations

import numpy as np
import pytest
import torch

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("bench_importable")


def test_every_round_runs_everything_once_in_an_order_that_moves():
    from harness.timing import Rounds, race

    ran = []
    times = race({name: lambda n=name: ran.append(n) for name in "abc"}, Rounds(2, 2, 0.0), CPU)
    assert "".join(ran) == "abcabcbca"
    assert {name: len(seconds) for name, seconds in times.seconds.items()} == {"a": 2, "b": 2, "c": 2}


def test_a_median_of_several_runs_is_the_sum_of_theirs():
    from harness.timing import Times

    times = Times({"a": [1.0, 2.0, 9.0], "b": [4.0, 3.0, 5.0]})
    assert times.median("a") == 2
    assert times.median("a", "b") == 6
    assert times.faster("a", "b") == "a"


def test_a_ratio_is_that_of_the_median_round_and_not_that_of_the_medians():
    """Rounds in a busy spell count by their own ratio, which the spell leaves alone."""
    from harness.timing import Times

    times = Times({"a": [2.0, 20.0, 2.0], "b": [1.0, 10.0, 10.0]})
    assert times.ratio(["a"], ["b"]) == 2
    assert times.ratio(["a", "b"], ["b"]) == 3


def test_noise_is_zero_where_every_round_says_the_same():
    from harness.timing import Times

    times = Times({"a": [2.0, 4.0, 8.0], "b": [1.0, 2.0, 4.0]})
    assert times.noise(["a"], ["b"]) == 0
    assert times.noise(["a"], ["a", "b"]) == 0


def test_the_peak_is_what_was_held_at_once_and_not_what_was_allocated_in_all():
    from harness.memory import peak

    def step():
        first = torch.empty(1_000_000, dtype=torch.uint8)
        del first
        second = torch.empty(3_000_000, dtype=torch.uint8)
        third = torch.empty(2_000_000, dtype=torch.uint8)
        return second, third

    assert peak(step, CPU) == 5_000_000


def test_programs_whose_gradients_differ_are_not_compared():
    from harness.agreement import agree

    leaf = torch.ones(3, requires_grad=True)
    same = {"plain": lambda: leaf.sum().backward(), "ours": lambda: leaf.sum().backward()}
    agree(same, [leaf])
    with pytest.raises(AssertionError, match=r"wrong and plain: gradients differ by 1\.0e\+00"):
        agree({**same, "wrong": lambda: (2 * leaf).sum().backward()}, [leaf])


@pytest.mark.parametrize("ratio", [1.5, 2, 4, 8])
def test_a_synthetic_trie_has_the_ratio_and_the_widths_that_it_should(ratio):
    from figures.tries import synthetic

    trie = synthetic(4096, 16, ratio)
    widths = np.diff(trie.starts)
    assert trie.ratio == pytest.approx(ratio, rel=0.01)
    assert len(trie.rows) == 4096
    assert (widths[2:] >= 256).all()


def test_the_bare_products_of_rows_that_share_nothing_are_those_of_every_step():
    from figures.products import Products
    from figures.tries import synthetic

    from memograd._share._trie import chains

    trie = synthetic(256, 8, 2.0)
    every, shared = (Products(t, 4, 16, 8, CPU) for t in (chains(trie.rows), trie))
    assert every.nodes == 256 * 8
    assert every.parents == [1, *[256] * 7]
    assert shared.nodes == len(trie)
    assert sum(shared.parents) < len(trie)


@pytest.mark.parametrize(
    ("bound", "value", "met"), [("at_least", 4.9, False), ("at_least", 5, True), ("at_most", 5.1, False)]
)
def test_a_quantity_knows_whether_it_is_what_was_asked_for(bound, value, met):
    from harness.figure import Quantity

    quantity = Quantity(value, "x", **{bound: 5})
    assert quantity.met is met
    assert ("✓" if met else "✗") in str(quantity)
    assert Quantity(value, "x").met is None
