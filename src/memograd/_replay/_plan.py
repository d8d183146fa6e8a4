"""Which states of a sequence to keep, and which steps to run again, so that going backward stays within a budget.

One idea under four names: *checkpointing* (Griewank & Walther 2000, "Algorithm 799: revolve"), *rematerialization*
(compilers; Jain et al. 2020, "Checkmate"), *sublinear memory* (Chen et al. 2016) and *memory-efficient backpropagation
through time* (Gruslys et al. 2016, whose mixed strategy this is). Pure: numbers in, actions out.

A *piece* is a range of steps that is recorded, with all that its way back needs, and taken back at once. Every step is
in one piece, whatever the plan; what plans differ in is how often steps are run *ahead*, without a record, to reach a
piece from a state that was kept.

NOTE [plan] A range of t steps, whose first state is there, with m bytes to spare: if its record fits, it is one piece.
Else run ahead y steps, keep the state there (c bytes), do the right part with m - c bytes, drop the state, and do the
left part with m. The least number of steps run ahead obeys

    A(t, m) = 0 where t steps are recorded in m bytes, else min over y of  y + A(t - y, m - c) + A(y, m)

(Gruslys' recurrence. Also to keep the record of a part while another is done gains nothing: a test compares.) With
G_r(m) the most steps that can be done if none is run ahead more than r times, G_r(m) = G_r(m - c) + G_{r-1}(m), and
G_0(m) the steps that m bytes record, y should make the right part as long as G_{r-1}(m - c) and the left at most
G_{r-1}(m): for r = 1 this is the optimum, the *triangular* plan, whose pieces grow to the left as room is freed, and
needs about sqrt(2 a c t) bytes at a bytes a recorded step. Short problems, where rounding counts, are solved exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from memograd.store._units import show_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

# A step is run ahead so many times at most: a budget that asks for more is called too small.
MOST_AHEAD = 8
_EXACT = 20_000_000  # additions up to which a plan is solved exactly: some 30 ms
_NEVER = 1 << 40
_UNITS = 2, 4, 8, 16, 32


@dataclass(frozen=True)
class Costs:
    """What a sequence costs, in bytes. Times do not count: each step is recorded and taken back once in any plan.

    Attributes:
        carry: of a state that is kept.
        step: of a step's record, with what its way back needs for the moment.
        fixed: of what a piece needs whatever its length.
    """

    carry: int
    step: int
    fixed: int = 0


@dataclass(frozen=True)
class Ahead:
    """Run steps from the state at hand, without a record; the state behind them is then at hand."""

    begin: int
    end: int


@dataclass(frozen=True)
class Keep:
    """Keep the state at hand, which is that before step `at`."""

    at: int


@dataclass(frozen=True)
class Restore:
    """Have the state before step `at` at hand: one that was kept, or the first."""

    at: int


@dataclass(frozen=True)
class Drop:
    """Let go of the state kept before step `at`."""

    at: int


@dataclass(frozen=True)
class Record:
    """Run steps from the state at hand, and record them."""

    begin: int
    end: int


@dataclass(frozen=True)
class Turn:
    """The last step is done: what follows is the way back."""


@dataclass(frozen=True)
class Back:
    """Take the piece that was recorded back."""

    begin: int
    end: int


Action: TypeAlias = "Ahead | Keep | Restore | Drop | Record | Turn | Back"


def plan(steps: int, budget: int, costs: Costs, unit: int = 1) -> Schedule:
    """Plan how to go forward and back over a sequence within a budget, running as few steps ahead as can be.

    Args:
        steps: T.
        budget: bytes for the states that are kept and for the piece at work.
        costs: what states and steps take.
        unit: pieces are of so many steps or a multiple: where a call costs as much as some steps, short ones do not
            pay.

    Returns:
        What to do, one action after the other.

    Raises:
        ValueError: the budget is too small; the message says what the smallest is.

    Example:
        >>> schedule = plan(1_000, 437, Costs(carry=2, step=17))
        >>> schedule.ahead, schedule.peak, len(list(schedule.pieces()))
        (980, 437, 45)
    """
    rooms = _rooms(-(-steps // unit), budget, Costs(costs.carry, costs.step * unit, costs.fixed))
    if rooms is None:
        least = smallest(steps, costs)
        raise ValueError(
            f"got a budget of {show_bytes(budget)} ({budget:,} bytes), in which {steps:,} steps cannot go back; "
            f"expected at least {least:,} bytes, with which no step is run ahead more than {MOST_AHEAD} times. "
            f"Write budget={least}"
        )
    return Schedule(steps, costs, rooms, unit)


def quickest(steps: int, budget: int, costs: Costs, call: float) -> Schedule:
    """Plan with the unit that takes the least time, where to run a piece costs as much as `call` steps besides."""
    best = plan(steps, budget, costs)
    for unit in _UNITS:
        if best.rooms[0][0] * best.unit > _UNITS[-1]:
            break
        try:
            other = plan(steps, budget, costs, unit)
        except ValueError:
            break
        if other.ahead + call * other.calls < best.ahead + call * best.calls:
            best = other
    return best


def smallest(steps: int, costs: Costs) -> int:
    """Give the least budget in which no step is run ahead more than MOST_AHEAD times."""
    low, high = costs.fixed, costs.fixed + costs.step
    while _rooms(steps, high, costs) is None:
        low, high = high, costs.fixed + 2 * (high - costs.fixed)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _rooms(steps, middle, costs) is None else (low, middle)
    return high


@dataclass(frozen=True, eq=False)
class Schedule:
    """What to do for a sequence. See NOTE [plan].

    Attributes:
        steps: T.
        costs: of its steps and states.
        rooms: rooms[r][j] is G_r where j states are kept: the most steps of which none is run ahead more than r times;
            in units.
        unit: steps that are planned as one.
    """

    steps: int
    costs: Costs
    rooms: list[list[int]]
    unit: int = 1

    def actions(self) -> Iterator[Action]:
        """Go through all that is to be done, in order."""
        waiting, first = [(0, self._units, 0)], True
        while waiting:
            begin, t, kept = waiting.pop()
            if not first:
                yield Restore(self._step(begin))
            while t > self.rooms[0][kept]:
                y = self.split(t, kept)
                yield from self._ahead(begin, y, kept)
                yield Keep(self._step(begin + y))
                waiting.append((begin, y, kept))
                begin, t, kept = begin + y, t - y, kept + 1
            piece = self._step(begin), self._step(begin + t)
            yield Record(*piece)
            if first:
                yield Turn()
                first = False
            if begin:
                yield Drop(piece[0])
            yield Back(*piece)

    def pieces(self) -> Iterator[tuple[int, int]]:
        """Go through the pieces from the first step to the last. Steps are only ever run piece by piece."""
        return ((begin, end) for begin, end, _ in self._pieces(0, self._units, 0))

    @cached_property
    def ahead(self) -> int:
        """Steps that are run ahead; T more are recorded."""
        return sum(action.end - action.begin for action in self.actions() if isinstance(action, Ahead))

    @cached_property
    def calls(self) -> int:
        """How often a piece is run ahead, recorded, or taken back."""
        return sum(isinstance(action, (Ahead, Record, Back)) for action in self.actions())

    @cached_property
    def peak(self) -> int:
        """The most bytes that states kept and the piece at work take."""
        costs = self.costs
        sizes = (
            kept * costs.carry + (end - begin) * costs.step for begin, end, kept in self._pieces(0, self._units, 0)
        )
        return costs.fixed + max(sizes, default=0)

    @cached_property
    def kept(self) -> int:
        """The most states that are kept at once."""
        return max((kept for _, _, kept in self._pieces(0, self._units, 0)), default=0)

    @property
    def _units(self) -> int:
        return -(-self.steps // self.unit)

    def _step(self, unit: int) -> int:
        return min(unit * self.unit, self.steps)

    def _ahead(self, begin: int, steps: int, kept: int) -> Iterator[Ahead]:
        return (Ahead(a, b) for a, b, _ in self._pieces(begin, steps, kept))

    def _pieces(self, begin: int, steps: int, kept: int) -> Iterator[tuple[int, int, int]]:
        """Go through the pieces of a range, each with the number of states kept when it is recorded."""
        waiting = [(steps, kept)]
        while waiting:
            t, j = waiting.pop()
            if t > self.rooms[0][j]:
                y = self.split(t, j)
                waiting += [(t - y, j + 1), (y, j)]
            else:
                yield self._step(begin), self._step(begin + t), j
                begin += t

    def split(self, t: int, kept: int) -> int:
        """Say how many of `t` steps that do not fit are done last, `kept` states being kept."""
        if self._exact is not None:
            return int(self._exact[kept, t])
        r = next(r for r, room in enumerate(self.rooms) if room[kept] >= t)
        most = min(self.rooms[r - 1][kept], t - 1)
        least = max(t - self.rooms[r][kept + 1], self.rooms[r - 2][kept] if r > 1 else 1)
        return max(1, min(most, max(least, t - self.rooms[r - 1][kept + 1])))

    @cached_property
    def _exact(self) -> Ints | None:
        """The best splits, [kept, t], where they are worth solving for: beyond the triangular plan, and few."""
        if len(self.rooms) <= 2 or self._units * self._units * len(self.rooms[0]) > 2 * _EXACT:
            return None
        return _best_splits(self._units, tuple(self.rooms[0]))


def _rooms(steps: int, budget: int, costs: Costs) -> list[list[int]] | None:
    """Give G_0, G_1, … until one of them holds the steps; None where none does. See NOTE [plan]."""
    spare = budget - costs.fixed
    if steps <= 0:
        return [[0, 0]]
    if spare < costs.step:
        return None
    states = min((spare - costs.step) // max(costs.carry, 1), steps) + 1
    room = (spare - costs.carry * np.arange(states, dtype=np.int64)) // max(costs.step, 1)
    # Where that many pieces hold all steps, more states than pieces are never kept.
    room = room[: int(np.searchsorted(np.cumsum(room), steps)) + 1]
    rooms = [[*room.tolist(), 0]]
    while rooms[-1][0] < steps:
        if len(rooms) > MOST_AHEAD:
            return None
        room = np.minimum(np.cumsum(room[::-1])[::-1], steps)
        rooms.append([*room.tolist(), 0])
    return rooms


@lru_cache(maxsize=8)
def _best_splits(steps: int, room: tuple[int, ...]) -> Ints:
    """Solve NOTE [plan]'s recurrence for all t up to `steps`, from `room` steps recorded by the states kept."""
    states = len(room) - 1
    cost = np.full((states + 1, steps + 1), _NEVER, np.int64)
    cost[:, 0] = 0
    split = np.zeros((states, steps + 1), np.int64)
    for t in range(1, steps + 1):
        fits = sum(r >= t for r in room[:states])
        cost[:fits, t] = 0
        if fits < states and t > 1:
            right, left = cost[fits + 1 :, t - 1 : 0 : -1], cost[fits:states, 1:t]
            total = right + left + np.arange(1, t)
            best = total.argmin(1)
            split[fits:, t] = best + 1
            cost[fits:states, t] = np.minimum(total[np.arange(states - fits), best], _NEVER)
    return split
