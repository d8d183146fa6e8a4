"""Building the trie, as a part of the step that it serves."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from figures.rl import INPUTS, hidden, shapes
from figures.words import ASKED, batches, program
from harness.figure import Figure, Line, Quantity, ms, noise
from harness.timing import race
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from memograd import Shared, memo
from memograd._scan._batch import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from harness.setting import Setting


def lines(setting: Setting) -> Iterator[Line]:
    """Race building the trie alone against the whole step, from ids and from vectors."""
    model, corpus = program(setting)
    for order in ASKED:
        batch = batches(setting, corpus, order)[0]
        runs = {
            "trie": partial(Shared.prefixes, batch.ids, batch.lengths),
            "step": partial(model.step, "shared", batch),
        }
        yield _line(setting, f"ids, words {order}", "embedding to Adam", runs)
        ids = pack_padded_sequence(batch.ids, batch.lengths, batch_first=True, enforce_sorted=False)
        x = PackedSequence(model.plain.embedding(ids.data).detach(), *ids[1:])
        yield _line(setting, f"vectors, words {order}", "LSTM", _of_vectors(nn.LSTM, x, setting))
    for shape in shapes(setting):
        runs = _of_vectors(nn.LSTM, shape.tensors(setting.device), setting)
        yield _line(setting, f"vectors, {shape}", "LSTM", runs)


def _of_vectors(
    kind: type[nn.RNNBase], x: Tensor | PackedSequence, setting: Setting
) -> dict[str, Callable[[], object]]:
    rnn = memo.scan(kind(INPUTS, hidden(setting), batch_first=True).to(setting.device))

    def trie() -> object:
        batch = Batch.of(rnn, x)
        assert batch is not None
        return batch.trie(None, None)

    def step() -> None:
        rnn.zero_grad(set_to_none=True)
        y = rnn(x)[0]
        y = y.data if isinstance(y, PackedSequence) else y
        y.backward(torch.ones_like(y))

    return {"trie": trie, "step": step}


def _line(setting: Setting, name: str, what: str, runs: Mapping[str, Callable[[], object]]) -> Line:
    times = race(runs, setting.rounds(), setting.device)
    return {
        "from": name,
        "step of": what,
        "trie": ms(times.median("trie")),
        "step": ms(times.median("step")),
        "trie ÷ step": Quantity(100 * times.ratio(["trie"], ["step"]), "%", at_most=5),
        "±": noise(times.noise(["trie"], ["step"])),
    }


TRIE = Figure(
    "trie: building it, as a part of the step",
    "forward and backward, E=64, H=256; the trie is built anew in each",
    lines,
)
