"""What came out of a race: from single training steps to the figures of the table. Plain data, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memograd._demo._race import Tick, Who

    Ticks = dict[tuple[int, int], Tick]

WHO: tuple[Who, Who, Who] = ("plain", "memoized", "unshared")


@dataclass(frozen=True, slots=True)
class Epoch:
    """One line of the table of losses; an interrupted epoch has fewer batches than the others."""

    epoch: int
    batches: int
    plain_loss: float
    memoized_loss: float
    largest_difference: float


@dataclass(frozen=True, slots=True)
class Side:
    """What one contestant did: seconds are of training steps alone, the last two are medians."""

    steps: int
    computed: int
    seconds: float
    step_seconds: float
    words_per_second: float


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a race.

    Attributes:
        ideal: steps in the data to distinct prefixes, the most that sharing can save.
        speed_up: plain seconds to memoized seconds, the median over batches.
        sharing: seconds of the memoized one's engine with nothing shared to memoized seconds, the median over batches;
            None where it never ran so.
    """

    epochs: list[Epoch]
    largest_difference: float
    steps: int
    plain: Side
    memoized: Side
    unshared: Side | None
    ideal: float
    speed_up: float
    sharing: float | None

    @property
    def engine(self) -> float | None:
        """What the speed-up has beside the sharing."""
        return self.speed_up / self.sharing if self.sharing else None


def summarize(ticks: Sequence[Tick]) -> Summary | None:
    """Summarize the batches that both have trained on; None when there is no such batch."""
    by_who = {who: {(tick.epoch, tick.batch): tick for tick in ticks if tick.who == who} for who in WHO}
    plain, memoized, unshared = (by_who[who] for who in WHO)
    both = [at for at in plain if at in memoized]
    if not both:
        return None
    alone = [at for at in unshared if at in memoized]
    pairs = [(plain[at], memoized[at]) for at in both]
    sides = [_side(ticks) for ticks in zip(*pairs, strict=True)]
    return Summary(
        epochs=[_epoch(n, list(of_n)) for n, of_n in groupby(pairs, lambda pair: pair[0].epoch)],
        largest_difference=_largest_difference(pairs),
        steps=sum(tick.steps for tick, _ in pairs),
        plain=sides[0],
        memoized=sides[1],
        unshared=_side([unshared[at] for at in alone]) if alone else None,
        ideal=sum(tick.steps for tick, _ in pairs) / sides[1].computed,
        speed_up=_speed_up(plain, memoized, both),
        sharing=_speed_up(unshared, memoized, alone) if alone else None,
    )


def _side(ticks: Sequence[Tick]) -> Side:
    return Side(
        steps=sum(tick.steps for tick in ticks),
        computed=sum(tick.computed for tick in ticks),
        seconds=sum(tick.seconds for tick in ticks),
        step_seconds=median(tick.seconds for tick in ticks),
        words_per_second=median(tick.words / tick.seconds for tick in ticks),
    )


def _speed_up(slow: Ticks, fast: Ticks, at: Sequence[tuple[int, int]]) -> float:
    return median(slow[one].seconds / fast[one].seconds for one in at)


def _epoch(epoch: int, pairs: list[tuple[Tick, Tick]]) -> Epoch:
    plain, memoized = zip(*pairs, strict=True)
    return Epoch(epoch, len(pairs), _mean_loss(plain), _mean_loss(memoized), _largest_difference(pairs))


def _mean_loss(ticks: Sequence[Tick]) -> float:
    return sum(tick.loss * tick.steps for tick in ticks) / sum(tick.steps for tick in ticks)


def _largest_difference(pairs: Sequence[tuple[Tick, Tick]]) -> float:
    return max(abs(one.loss - other.loss) for one, other in pairs)
