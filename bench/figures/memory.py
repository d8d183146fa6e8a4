"""Peak memory of a training step, by torch's own account and by the kernel's."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from figures import resident
from figures.rl import INPUTS, hidden, shapes, step
from figures.words import ASKED, batches, program
from harness.figure import Figure, Line, Quantity, megabytes
from harness.memory import high_water_of, peak
from torch import nn

from memograd import Shared, memo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.setting import Setting

_PROCESS = ("process: plain", "process: ours", "process: ours ÷ plain · ratio")


def lines(setting: Setting) -> Iterator[Line]:
    """Measure the word list's step (Shared in and out) and the RL shapes (dense in and out)."""
    yield from _words(setting)
    for kind in (nn.LSTM, nn.GRU):
        for shape in shapes(setting):
            plain = kind(INPUTS, hidden(setting), batch_first=True).to(setting.device)
            x = shape.tensors(setting.device)
            dy = torch.randn(*x.shape[:2], plain.hidden_size, device=setting.device)
            given = dy.nbytes  # the output, which both hold; its gradient and the input stand before the step
            both = [peak(step(rnn, x, dy), setting.device) - given for rnn in (plain, memo.scan(plain))]
            yield _line(f"dense {kind.__name__}, {shape}", *both, shape.ideal)


def _words(setting: Setting) -> Iterator[Line]:
    model, corpus = program(setting)
    for order in ASKED:
        batch = batches(setting, corpus, order)[0]
        ratio = Shared.prefixes(batch.ids, batch.lengths).ratio
        plain, ours = (peak(partial(model.step, name, batch), setting.device) for name in ("packed", "shared"))
        apart = setting.device.type == "cpu" and not (setting.quick and order == "sorted")
        yield _line(f"Shared, words {order}", plain, ours, ratio) | (_process(order, setting, ratio) if apart else {})


def _line(name: str, plain: int, ours: int, ratio: float) -> Line:
    return {
        "step": name,
        "plain": megabytes(plain),
        "ours": megabytes(ours),
        "ratio": Quantity(ratio, "x"),
        "ours ÷ plain · ratio": Quantity(ours / plain * ratio, at_most=1.2),
        **dict.fromkeys(_PROCESS, ""),
    }


def _process(order: str, setting: Setting, ratio: float) -> Line:
    """Measure the same step in processes of their own, above one that takes a tiny step only."""
    size = ["quick"] if setting.quick else []
    marks = {who: high_water_of(Path(resident.__file__), [order, who, *size]) for who in ("floor", "packed", "shared")}
    plain, ours = (max(marks[who] - marks["floor"], 1) for who in ("packed", "shared"))
    return dict(zip(_PROCESS, (megabytes(plain), megabytes(ours), Quantity(ours / plain * ratio)), strict=True))


MEMORY = Figure(
    "memory: the peak of a training step above its start",
    "tensors by torch's account, dense ones beside the output; process: high-water mark of the resident set above that "
    "of a process without the step",
    lines,
)
