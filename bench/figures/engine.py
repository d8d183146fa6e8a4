"""The engine alone: how much of the ideal of sharing becomes time, and how much of its time is matrix products."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from figures.products import Products
from figures.tries import synthetic
from harness.agreement import agree
from harness.figure import Figure, Line, Quantity, ms, noise
from harness.timing import race
from torch import nn

from memograd import Shared, memo
from memograd._share._trie import Trie, chains

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.setting import Setting

INPUTS, RATIOS = 64, (1.5, 2.0, 4.0, 8.0)


def lines(setting: Setting) -> Iterator[Line]:
    """Race every cell and size: unshared, shared at each ratio, and the bare products of each."""
    rows, horizon, sizes = (128, 8, (16,)) if setting.quick else (4096, 16, (128, 256, 512))
    tries = {ratio: synthetic(rows, horizon, ratio) for ratio in RATIOS}
    for kind in (nn.LSTM, nn.GRU):
        for size in sizes:
            with level_by_level():
                yield from _of_size(setting, kind, size, tries)


@contextmanager
def level_by_level() -> Iterator[None]:
    """Keep both sides to the one engine: rows of one length would otherwise be left to a fused kernel."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="TF32 acceleration")  # said whenever oneDNN's switches are touched
        with torch.backends.mkldnn.flags(enabled=False), torch.backends.cudnn.flags(enabled=False):
            yield


def _of_size(setting: Setting, kind: type[nn.RNNBase], size: int, tries: dict[float, Trie]) -> Iterator[Line]:
    rnn = memo.scan(kind(INPUTS, size).to(setting.device), engine="levels")
    every = chains(tries[RATIOS[0]].rows)
    values = {ratio: torch.randn(len(trie), INPUTS, device=setting.device) for ratio, trie in tries.items()}
    _check(rnn, tries[RATIOS[0]], values[RATIOS[0]])
    gates = rnn.weight_hh_l0.shape[0] // size
    bare = {name: Products(trie, gates, size, INPUTS, setting.device) for name, trie in {**tries, "all": every}.items()}
    unshared = torch.randn(len(every), INPUTS, device=setting.device)
    runs = {("engine", ratio): step(rnn, trie, values[ratio]) for ratio, trie in tries.items()}
    runs |= {("products", name): run for name, run in bare.items()}
    times = race({**runs, ("engine", "all"): step(rnn, every, unshared)}, setting.rounds(), setting.device)
    whole, products = [("engine", "all")], [("products", "all")]
    for ratio, trie in tries.items():
        shared = [("engine", ratio)]
        speed = times.ratio(whole, shared)
        yield {
            "cell": kind.__name__,
            "H": str(size),
            "ideal": Quantity(trie.ratio, "x"),
            "unshared": ms(times.median(*whole)),
            "shared": ms(times.median(*shared)),
            "speed-up": Quantity(speed, "x"),
            "÷ ideal": Quantity(speed / trie.ratio, at_least=0.9),
            "products ÷ shared": Quantity(times.ratio([("products", ratio)], shared), at_least=0.6),
            "products ÷ unshared": Quantity(times.ratio(products, whole), at_least=0.6),
            "±": noise(times.noise(whole, shared)),
        }


def step(rnn: nn.Module, trie: Trie, values: torch.Tensor, weight: torch.Tensor | None = None) -> Callable[[], None]:
    """Give a forward and backward pass over a trie, down to the inputs of its nodes."""
    leaf = values.clone().requires_grad_()
    weight = torch.randn(len(trie), rnn.hidden_size, device=values.device) if weight is None else weight

    def run() -> None:
        rnn.zero_grad(set_to_none=True)
        leaf.grad = None
        y, _ = rnn(Shared(leaf, trie))
        y.values.backward(weight)

    return run


def _check(rnn: nn.Module, trie: Trie, values: torch.Tensor) -> None:
    """Hold the shared run's gradients against those of the unshared run and of the plain module."""
    node = torch.from_numpy(trie.node).to(values.device)
    every = values[node]
    given = torch.randn(len(node), rnn.hidden_size, device=values.device)
    summed = given.new_zeros(len(trie), rnn.hidden_size).index_add_(0, node, given)
    dense = every.view(trie.rows.horizon, len(trie.rows), -1)

    def plain() -> None:
        rnn.__wrapped__(dense)[0].flatten(0, 1).backward(given)

    runs: dict[str, Callable[[], None]] = {
        "plain": plain,
        "shared": step(rnn, trie, values, summed),
        "unshared": step(rnn, chains(trie.rows), every, given),
    }
    agree(runs, rnn.parameters())


ENGINE = Figure(
    "engine: shared against the same engine unshared, both level by level",
    f"forward and backward of one layer over synthetic tries of 4,096 rows x 16 steps, E={INPUTS}, input with gradient "
    "too; products: the bare matrix products of these shapes",
    lines,
)
