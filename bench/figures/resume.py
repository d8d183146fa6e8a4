"""A remembered history and what is new: against the new alone, a copy of the outputs, and a hash of the inputs."""

from __future__ import annotations

import itertools
import tempfile
from typing import TYPE_CHECKING, Any

import torch
from harness.figure import Figure, Line, Quantity, ms, noise
from harness.timing import race
from torch import Tensor, nn
from xxhash import xxh3_128_digest

from memograd import Memo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.setting import Setting

INPUTS = 64
ASKED = {"from memory": 1.15, "from disk": 1.5, "from memory, new_only": 1.15}


def lines(setting: Setting) -> Iterator[Line]:
    """Race a resumed call against its parts, for two cells; and calls that repeat nothing against plain."""
    history, new, hidden = (300, 20, 8) if setting.quick else (10_000, 100, 256)
    for kind in (nn.LSTM, nn.GRU):
        module = kind(INPUTS, hidden)
        with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
            for name, asked in ASKED.items():
                yield _resumed(module, Memo(folder) if "disk" in name else Memo(), name, asked, (history, new), setting)
            yield _never(module, history // 4, setting)


def _resumed(module: nn.RNNBase, memo: Memo, name: str, asked: float, sizes: tuple[int, int], setting: Setting) -> Line:
    history, new = sizes
    scan: Any = memo.scan(module, remember=True)
    past = torch.randn(history, 1, INPUTS)
    _, state = scan(past)
    inputs = (torch.cat((past, torch.randn(new, 1, INPUTS))) for _ in itertools.count())
    only = "new_only" in name
    x, old = next(inputs), torch.randn(history + new, 1, module.hidden_size)
    scan(x)

    def resume() -> None:
        if "disk" in name:
            scan.prefixes.book.near.clear()
        scan(next(inputs), new_only=only)
        assert scan.receipt.resumed.lengths == (history,)

    parts: dict[str, Callable[[], object]] = {
        "resumed": resume,
        "inputs": lambda: next(inputs),
        "new": lambda: module(x[history:], state),
        "copy": (lambda: None) if only else old.clone,
        "hash": lambda: xxh3_128_digest(memoryview(next(inputs).numpy()).cast("B")),
        "whole": lambda: module(x),
    }
    times = race(parts, setting.rounds(9, 25), torch.device("cpu"))
    # Inputs are made anew in each round; that is no part of either.
    made = times.median("inputs")
    ours, ideal = times.median("resumed") - made, times.median("new", "copy", "hash") - made
    return {
        "cell": type(module).__name__,
        "call": f"{name}: {history:,} + {new}",
        "resumed": ms(ours),
        "÷ (new + copy + hash)": Quantity(ours / ideal, "x", at_most=asked),
        "new alone": ms(times.median("new")),
        "whole": ms(times.median("whole")),
        "speed-up": Quantity(times.median("whole") / ours, "x"),
        "±": noise(times.noise(["resumed"], ["new"])),
    }


def _never(module: nn.RNNBase, steps: int, setting: Setting) -> Line:
    """Ask for what was never seen."""
    scan: Any = Memo().scan(module, remember=True)
    for _ in range(12):
        scan(torch.randn(steps, 1, INPUTS))  # the account needs some calls to tell
    fresh: Callable[[], Tensor] = lambda: torch.randn(steps, 1, INPUTS)  # noqa: E731 - short
    times = race(
        {"ours": lambda: scan(fresh()), "plain": lambda: module(fresh())}, setting.rounds(5, 15), torch.device("cpu")
    )
    return {
        "cell": type(module).__name__,
        "call": f"nothing repeats: {steps:,}",
        "resumed": ms(times.median("ours")),
        "÷ (new + copy + hash)": Quantity(float("nan"), "x"),
        "new alone": ms(times.median("plain")),
        "whole": ms(times.median("plain")),
        "speed-up": Quantity(1 / times.ratio(["ours"], ["plain"]), "x", at_least=0.97),
        "±": noise(times.noise(["ours"], ["plain"])),
    }


RESUME = Figure(
    "resume: a remembered history and new steps, B=1, H=256",
    f"E={INPUTS}; from disk: the memory in front of it is emptied before each call",
    lines,
)
