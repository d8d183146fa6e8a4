"""What a store saves within so many bytes, by what it keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from harness.figure import Figure, Line, Quantity
from harness.policies import (
    Gdsf,
    GdsfChained,
    GdsfEager,
    Hyperbolic,
    Lru,
    TinyLfu,
    saved,
    saved_along_chains,
    saved_with_foresight,
)
from harness.traces import calls, chains

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.policies import Policy
    from harness.setting import Setting
    from harness.traces import Trace

PARTS = (0.005, 0.01, 0.02, 0.05)
POLICIES: tuple[type[Policy], ...] = (Lru, TinyLfu, Hyperbolic, GdsfEager, Gdsf)


def percent(part: float) -> Quantity:
    return Quantity(100 * part, "%")


def parts(setting: Setting) -> tuple[float, ...]:
    return PARTS[1:2] if setting.quick else PARTS


def room_of(trace: Trace, part: float) -> int:
    return int(part * trace.nbytes[np.unique(trace.asked)].sum())


def of_calls(setting: Setting) -> Iterator[Line]:
    """Replay requests for independent results under each policy."""
    requests, things = (2_000, 500) if setting.quick else (100_000, 20_000)
    for drift, exponent in ((0.02, 0.7), (0.02, 0.9), (0.1, 0.9)):
        trace = calls(requests, things, seed=0, drift=drift, exponent=exponent)
        for part in parts(setting):
            yield _line(trace, part, f"Zipf {exponent}, {trace.name.partition(', ')[2]}")


def _line(trace: Trace, part: float, name: str) -> Line:
    room = room_of(trace, part)
    lru, tiny, hyperbolic, eager, ours = (saved(policy, trace, room) for policy in POLICIES)
    below, above = saved_with_foresight(trace, room)
    # Where even a store that knows the future does not save twice what LRU saves, twice cannot be asked for.
    asked = 2.0 if above >= 2 * lru else None
    return {
        "trace": name, "room": percent(part), "LRU": percent(lru), "TinyLFU": percent(tiny),
        "hyperbolic": percent(hyperbolic), "GDSF": percent(eager), "ours": percent(ours),
        "best": percent(below), "at most": percent(above),
        "÷ LRU": Quantity(ours / lru, "x", at_least=asked), "÷ TinyLFU": Quantity(ours / tiny, "x"),
        "÷ best": Quantity(ours / below),
    }  # fmt: skip


def of_chains(setting: Setting) -> Iterator[Line]:
    """Replay requests for states along sequences under each policy."""
    trace = chains(500 if setting.quick else 20_000, 20 if setting.quick else 300, seed=0)
    for part in parts(setting):
        room = room_of(trace, part)
        found = {policy: saved_along_chains(policy, trace, room) for policy in (Lru, TinyLfu, Gdsf, GdsfChained)}
        ours = found[GdsfChained]
        yield {
            "trace": trace.name, "room": percent(part), "LRU": percent(found[Lru]),
            "TinyLFU": percent(found[TinyLfu]), "each alone": percent(found[Gdsf]), "ours": percent(ours),
            "÷ LRU": Quantity(ours / found[Lru], "x", at_least=2.0 if found[Lru] < 0.5 else None),
            "÷ TinyLFU": Quantity(ours / found[TinyLfu], "x"),
        }  # fmt: skip


CALLS = Figure(
    "seconds saved within the same bytes: independent results",
    "parts of all seconds; room: part of the bytes of all that is asked for; TinyLFU: W-TinyLFU; GDSF: as published;\n"
    "best: with foresight, by greedy knapsack (PFOO-L); at most: no schedule saves more (PFOO-U); ÷ LRU is asked for\n"
    "where a store that knows the future reaches it",
    of_calls,
)
CHAINS = Figure(
    "seconds saved within the same bytes: states along sequences",
    "each alone: every state is counted by its own seconds; ours: by those from the nearest prefix that remains",
    of_chains,
)
