"""How long it takes to plan a million steps, and what the plan comes to."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from harness.figure import Figure, Line, Quantity, ms

from memograd._replay._plan import Costs, plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.setting import Setting

COSTS = Costs(carry=2, step=35)  # an LSTM's, in half hidden states


def lines(setting: Setting) -> Iterator[Line]:
    """Plan with 1, 0.1 and 0.01 % of what all records take."""
    steps = 100_000 if setting.quick else 1_000_000
    for part in (0.01, 0.001, 0.0001):
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            schedule = plan(steps, int(part * steps * COSTS.step), COSTS)
            times.append(time.perf_counter() - begin)
        yield {
            "steps": f"{steps:,}",
            "of all records": Quantity(100 * part, "%"),
            "planning": Quantity(ms(sorted(times)[2]).value, "ms", at_most=10.0),
            "run ahead, for each step": Quantity(schedule.ahead / steps),
            "pieces": Quantity(sum(1 for _ in schedule.pieces()), "n"),
        }


PLAN = Figure("plan: a million steps", "pure Python and numpy; sizes of an LSTM", lines)
