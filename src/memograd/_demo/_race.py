"""Train two copies of one model on the same batches, plain and memoized, taking turns so that noise hits both."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from memograd import memo
from memograd._demo._model import PLAIN, CharacterModel, shared_loss, unshared_loss
from memograd._demo._words import Corpus, Order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from memograd._demo._model import Computed
    from memograd._demo._words import Batch

    Program = Callable[[CharacterModel, Batch], Computed]

Who = Literal["plain", "memoized", "unshared"]
LEARNING_RATE = 0.01
TRIALS, TRIAL_SECONDS = 3, 8.0


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is made of; two runs with the same options see the same batches and start from the same weights."""

    words: int
    hidden: int
    batch: int
    epochs: int
    seed: int
    order: Order = "sampled"


@dataclass(frozen=True, slots=True)
class Tick:
    """One training step of one contestant; "unshared" is the memoized one's engine with nothing shared."""

    who: Who
    epoch: int
    batch: int
    loss: float
    seconds: float
    words: int
    steps: int
    computed: int


class Race:
    """Hold the corpus and the two contestants; `run` yields what happens, step by step."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.corpus = Corpus.draw(options.words, options.seed)
        torch.manual_seed(options.seed)
        self.model = CharacterModel(self.corpus.symbols, options.hidden).to(self.device)

    @property
    def steps(self) -> int:
        """Training steps of each contestant."""
        return self.options.epochs * math.ceil(len(self.corpus) / self.options.batch)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch; they lie on the device before any clock runs."""
        for batch in self.corpus.batches(self.options.batch, self.options.order, (self.options.seed, epoch)):
            yield batch.to(self.device)

    def layouts(self) -> dict[str, float]:
        """Time a training step of plain PyTorch in each layout, in turn; keep the fastest of each."""
        runners = {name: Runner("plain", copy.deepcopy(self.model), PLAIN[name]) for name in PLAIN}
        times: dict[str, list[float]] = {name: [] for name in PLAIN}
        began = time.perf_counter()
        for _ in range(TRIALS):
            for name, runner in runners.items():
                times[name].append(self._trial(runner))
            if time.perf_counter() - began > TRIAL_SECONDS:
                break
        return {name: min(seconds) for name, seconds in times.items()}

    def _trial(self, runner: Runner) -> float:
        """Give the seconds of a step that follows a small one, for which kernels are loaded."""
        small = self.corpus.batch(np.arange(min(256, len(self.corpus)))).to(self.device)
        runner.step(small, epoch=0, n=0)
        return runner.step(next(self.batches(epoch=1)), epoch=0, n=0).seconds

    def run(self, layout: str) -> Iterator[Tick]:
        """Train both, the plain one in this layout; yield a tick after every step.

        Every other batch is also taken by the memoized one's engine with nothing shared: its seconds tell apart what
        sharing saves and what the engine does.
        """
        plain, memoized, unshared = self._contestants(layout)
        for epoch in range(1, self.options.epochs + 1):
            for n, batch in enumerate(self.batches(epoch)):
                for runner in (plain, memoized) if n % 2 == 0 else (memoized, plain):
                    yield runner.step(batch, epoch, n)
                if n % 2 == 0:
                    yield unshared.step(batch, epoch, n)

    def _contestants(self, layout: str) -> tuple[Runner, Runner, Runner]:
        memoizable = copy.deepcopy(self.model)
        memoizable.lstm = memo.scan(memoizable.lstm)
        self._trial(Runner("memoized", copy.deepcopy(memoizable), shared_loss))
        return (
            Runner("plain", copy.deepcopy(self.model), PLAIN[layout]),
            Runner("memoized", memoizable, shared_loss),
            Runner("unshared", copy.deepcopy(memoizable), unshared_loss),
        )


class Runner:
    """Train one model with one program for its loss."""

    def __init__(self, who: Who, model: CharacterModel, program: Program) -> None:
        self.who: Who = who
        self.model = model
        self.program = program
        self.optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)

    def step(self, batch: Batch, epoch: int, n: int) -> Tick:
        """Take one training step, all of it under the clock: layout or trie, forward, backward, optimizer."""
        synchronize(batch.ids.device)
        began = time.perf_counter()
        self.optimizer.zero_grad()
        loss, computed = self.program(self.model, batch)
        loss.backward()
        self.optimizer.step()
        value = loss.item()
        synchronize(batch.ids.device)
        seconds = time.perf_counter() - began
        return Tick(self.who, epoch, n, value, seconds, len(batch.ids), batch.steps, computed)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what was asked of it, so that a clock tells the truth."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
