"""A dense input that requires grad has a gradient of its own in every row: what that costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from figures.rl import INPUTS, hidden, shapes
from figures.words import batches, program
from harness.agreement import agree
from harness.figure import Figure, Line, Quantity, ms, noise
from harness.timing import Times, race
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from memograd import memo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.setting import Setting


def lines(setting: Setting) -> Iterator[Line]:
    """Race the plain module, and ours with and without a gradient for every row of the input."""
    for kind in (nn.LSTM, nn.GRU):
        plain = kind(INPUTS, hidden(setting), batch_first=True).to(setting.device)
        for name, (x, like) in _inputs(setting).items():
            leaf = x.clone().requires_grad_()
            runs = {
                "plain": _step(plain, leaf, like),
                "ours": _step(memo.scan(plain), leaf, like),
                "no gradient": _step(memo.scan(plain), x, like),
            }
            agree({who: runs[who] for who in ("plain", "ours")}, [leaf, *plain.parameters()])
            yield _line(kind.__name__, name, race(runs, setting.rounds(), setting.device))


def _inputs(setting: Setting) -> dict[str, tuple[Tensor, PackedSequence | None]]:
    """Give the vectors, and for packed ones how they are packed."""
    model, corpus = program(setting)
    batch = batches(setting, corpus, "sampled")[0]
    ids = pack_padded_sequence(batch.ids, batch.lengths, batch_first=True, enforce_sorted=False)
    dense = {str(shape): (shape.tensors(setting.device), None) for shape in shapes(setting)}
    return {"words sampled, packed": (model.plain.embedding(ids.data).detach(), ids), **dense}


def _step(rnn: nn.Module, x: Tensor, like: PackedSequence | None) -> Callable[[], None]:
    def call() -> Tensor:
        return rnn(x)[0] if like is None else rnn(PackedSequence(x, *like[1:]))[0].data

    with torch.no_grad():
        dy = torch.ones_like(call())

    def run() -> None:
        rnn.zero_grad(set_to_none=True)
        x.grad = None
        call().backward(dy)

    return run


def _line(cell: str, name: str, times: Times) -> Line:
    return {
        "cell": cell,
        "input": name,
        "plain": ms(times.median("plain")),
        "ours": ms(times.median("ours")),
        "speed-up": Quantity(times.ratio(["plain"], ["ours"]), "x"),
        "without its gradient": Quantity(times.ratio(["plain"], ["no gradient"]), "x"),
        "±": noise(times.noise(["plain"], ["ours"])),
    }


DENSE_GRAD = Figure(
    "dense grad: an input that requires grad, row by row",
    "forward and backward, E=64, H=256; beside it ours where the input requires no grad",
    lines,
)
