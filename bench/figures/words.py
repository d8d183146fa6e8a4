"""A character language model on the word list: the whole training step, shared against the faster plain program."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

import torch
from harness.agreement import agree
from harness.figure import Figure, Line, Quantity, ms, noise
from harness.timing import Times, race

from memograd import Shared, memo
from memograd._demo._model import CharacterModel, packed_loss, padded_loss, shared_loss, unshared_loss
from memograd._demo._words import Batch, Corpus, Order, word_list

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.setting import Setting

ASKED: dict[Order, float] = {"sampled": 5.0, "sorted": 10.0}
_LOSSES = {"packed": packed_loss, "padded": padded_loss, "unshared": unshared_loss, "shared": shared_loss}


class Program:
    """The plain model and a memoized one of the same parameters, with their optimizer."""

    def __init__(self, symbols: int, hidden: int, device: torch.device) -> None:
        self.plain = CharacterModel(symbols, hidden).to(device)
        self.memoized = CharacterModel(symbols, hidden)
        self.memoized.embedding, self.memoized.head = self.plain.embedding, self.plain.head
        self.memoized.lstm = memo.scan(self.plain.lstm, engine="levels")
        self.optimizer = torch.optim.Adam(self.plain.parameters())

    def backward(self, name: str, batch: Batch) -> None:
        model = self.plain if name in ("packed", "padded") else self.memoized
        _LOSSES[name](model, batch).loss.backward()

    def step(self, name: str, batch: Batch) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.backward(name, batch)
        self.optimizer.step()


def program(setting: Setting) -> tuple[Program, Corpus]:
    """Give the model, H=256, and the whole list; quick: a tiny one, and some of the list."""
    corpus = Corpus.draw(600 if setting.quick else len(word_list()), seed=0)
    return Program(corpus.symbols, 16 if setting.quick else 256, setting.device), corpus


def batches(setting: Setting, corpus: Corpus, order: Order) -> list[Batch]:
    """Give some whole batches of the list: sampled ones are alike, sorted ones less so."""
    size, count = (256, 1) if setting.quick else (8192, 3 if order == "sampled" else 5)
    whole = (b for b in corpus.batches(size, order, (0, 0)) if len(b.ids) == size)
    return [b.to(setting.device) for b in itertools.islice(whole, count)]


def lines(setting: Setting) -> Iterator[Line]:
    """Race the four programs over the same batches."""
    model, corpus = program(setting)
    for order in ASKED:
        drawn = batches(setting, corpus, order)
        first = {name: partial(model.backward, name, drawn[0]) for name in _LOSSES}
        agree(first, model.plain.parameters())
        runs = {(name, k): partial(model.step, name, b) for k, b in enumerate(drawn) for name in _LOSSES}
        runs |= {("trie", k): partial(Shared.prefixes, b.ids, b.lengths) for k, b in enumerate(drawn)}
        yield _line(order, drawn, race(runs, setting.rounds(3), setting.device))


def _line(order: Order, drawn: list[Batch], times: Times) -> Line:
    keys = {name: [(name, k) for k in range(len(drawn))] for name in (*_LOSSES, "trie")}
    spent = {name: times.median(*of) / len(drawn) for name, of in keys.items()}
    plain = min("packed", "padded", key=spent.__getitem__)
    sharing = sum(b.steps for b in drawn) / sum(len(Shared.prefixes(b.ids, b.lengths)) for b in drawn)
    speed = times.ratio(keys[plain], keys["shared"])
    return {
        "batches": f"{len(drawn)} {order}",
        **{name: ms(spent[name]) for name in _LOSSES},
        "speed-up": Quantity(speed, "x", at_least=ASKED[order]),
        "ideal": Quantity(sharing, "x"),
        "= sharing": Quantity(times.ratio(keys["unshared"], keys["shared"]), "x"),
        "· engine": Quantity(times.ratio(keys[plain], keys["unshared"]), "x"),
        "÷ ideal": Quantity(speed / sharing),
        "trie": Quantity(100 * times.ratio(keys["trie"], keys["shared"]), "%", at_most=5),
        "±": noise(times.noise(keys[plain], keys["shared"])),
    }


WORDS = Figure(
    "words: a language model's training step on 8,192 words of the list",
    "embedding 64, LSTM 256, head, cross-entropy, Adam; speed-up against the faster of packed and padded, = sharing "
    "(unshared ÷ shared) · engine (plain ÷ unshared)",
    lines,
)
