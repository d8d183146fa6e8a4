"""What to keep: policies, each as short as it can be said, and what one that sees the future would save."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, OrderedDict
from heapq import heappop, heappush
from itertools import chain
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from memograd.store._evict import priority

if TYPE_CHECKING:
    from harness.traces import Trace


class Policy(ABC):
    """A store of so many bytes that decides what to keep."""

    def __init__(self, room: int, seconds: list[float], nbytes: list[int]) -> None:
        self.room, self.held = room, 0
        self.seconds, self.nbytes = seconds, nbytes

    @abstractmethod
    def use(self, thing: int) -> bool:
        """Look a thing up; tell whether it is there, and note its use."""

    @abstractmethod
    def add(self, thing: int) -> None:
        """Put a thing that is not there, and make room; or leave it out."""


class Lru(Policy):
    """What was used least recently goes."""

    def __init__(self, room: int, seconds: list[float], nbytes: list[int]) -> None:
        super().__init__(room, seconds, nbytes)
        self.there: OrderedDict[int, None] = OrderedDict()

    def use(self, thing: int) -> bool:
        if thing in self.there:
            self.there.move_to_end(thing)
            return True
        return False

    def add(self, thing: int) -> None:
        if self.nbytes[thing] > self.room:
            return
        self.there[thing] = None
        self.held += self.nbytes[thing]
        while self.held > self.room:
            self.held -= self.nbytes[self.there.popitem(last=False)[0]]


class TinyLfu(Policy):
    """W-TinyLFU: a small window by recency, and a large part that takes what is asked for more often than its last.

    Einziger, Friedman, Manes, "TinyLFU: A highly efficient cache admission policy" (ACM ToS, 2017). Counts are exact
    here, and halved from time to time; the large part is a segmented LRU.
    """

    def __init__(self, room: int, seconds: list[float], nbytes: list[int]) -> None:
        super().__init__(room, seconds, nbytes)
        self.window = Lru(max(room // 100, 1), seconds, nbytes)
        self.trial: OrderedDict[int, None] = OrderedDict()
        self.proven: OrderedDict[int, None] = OrderedDict()
        self.proven_bytes = 0
        self.counts: Counter[int] = Counter()
        self.seen = 0

    def use(self, thing: int) -> bool:
        self._count(thing)
        if thing in self.proven:
            self.proven.move_to_end(thing)
        elif thing in self.trial:
            del self.trial[thing]
            self.proven[thing] = None
            self.proven_bytes += self.nbytes[thing]
            while self.proven_bytes > 0.8 * (self.room - self.window.room):
                back = self.proven.popitem(last=False)[0]
                self.proven_bytes -= self.nbytes[back]
                self.trial[back] = None
        else:
            return self.window.use(thing)
        return True

    def add(self, thing: int) -> None:
        window = self.window
        window.there[thing] = None
        window.held += self.nbytes[thing]
        while window.held > window.room:
            candidate = window.there.popitem(last=False)[0]
            window.held -= self.nbytes[candidate]
            self._admit(candidate)

    def _admit(self, candidate: int) -> None:
        room = self.room - self.window.room
        lack, victims = self.held + self.nbytes[candidate] - room, []
        for victim in chain(self.trial, self.proven) if lack > 0 else ():
            if lack <= 0 or self.counts[victim] >= self.counts[candidate]:
                break
            victims.append(victim)
            lack -= self.nbytes[victim]
        if lack > 0:
            return
        for victim in victims:
            self.held -= self.nbytes[victim]
            if victim in self.proven:
                self.proven_bytes -= self.nbytes[victim]
                del self.proven[victim]
            else:
                del self.trial[victim]
        self.trial[candidate] = None
        self.held += self.nbytes[candidate]

    def _count(self, thing: int) -> None:
        self.counts[thing] += 1
        self.seen += 1
        if self.seen > 10 * (len(self.trial) + len(self.proven) + 100):
            self.seen //= 2
            self.counts = Counter({thing: count // 2 for thing, count in self.counts.items() if count > 1})


class Gdsf(Policy):
    """GreedyDual-Size-Frequency, as the memory tier does it."""

    refuses = True
    remembers = False

    def __init__(self, room: int, seconds: list[float], nbytes: list[int]) -> None:
        super().__init__(room, seconds, nbytes)
        self.clock = 0.0
        self.uses: Counter[int] = Counter()
        self.there: dict[int, float] = {}
        self.least: list[tuple[float, int]] = []

    def use(self, thing: int) -> bool:
        if thing in self.there or self.remembers:
            self.uses[thing] += 1
        if thing in self.there:
            self.there[thing] = self.rank(thing)
            return True
        return False

    def rank(self, thing: int) -> float:
        return priority(self.clock, self.uses[thing] + (not self.remembers), self.seconds[thing], self.nbytes[thing])

    def add(self, thing: int) -> None:
        rank, lack, victims = self.rank(thing), self.held + self.nbytes[thing] - self.room, []
        while lack > 0 and self.least:
            old, victim = heappop(self.least)
            if self.there.get(victim, old) != old:
                heappush(self.least, (self.there[victim], victim))
                continue
            if self.refuses and old > rank:
                heappush(self.least, (old, victim))
                break
            victims.append((old, victim))
            lack -= self.nbytes[victim]
        if lack > 0:
            self.clock = max(self.clock, rank)
            for pair in victims:
                heappush(self.least, pair)
            return
        for old, victim in victims:
            self.clock = max(self.clock, old)
            self.remove(victim)
        self.held += self.nbytes[thing]
        self.there[thing] = self.rank(thing)
        heappush(self.least, (self.there[thing], thing))

    def remove(self, thing: int) -> None:
        del self.there[thing]
        self.held -= self.nbytes[thing]
        if not self.remembers:
            self.uses.pop(thing, None)


class GdsfEager(Gdsf):
    """The same, as published: what comes is always taken."""

    refuses = False


class GdsfRemembering(Gdsf):
    """The same, with the uses of what has gone or was never taken: how often a thing is asked for is not forgotten."""

    remembers = True


class Hyperbolic(Policy):
    """Of a sample, the one that saved the least seconds per byte and time goes.

    Blankstein, Sen, Freedman, "Hyperbolic caching" (USENIX ATC, 2017).
    """

    def __init__(self, room: int, seconds: list[float], nbytes: list[int]) -> None:
        super().__init__(room, seconds, nbytes)
        self.random, self.now = Random(0), 0  # noqa: S311 - no secret
        self.there: dict[int, int] = {}
        self.since: dict[int, int] = {}
        self.order: list[int] = []
        self.place: dict[int, int] = {}

    def use(self, thing: int) -> bool:
        self.now += 1
        if thing in self.there:
            self.there[thing] += 1
            return True
        return False

    def rank(self, thing: int) -> float:
        return self.there[thing] * self.seconds[thing] / self.nbytes[thing] / (self.now - self.since[thing] + 1)

    def add(self, thing: int) -> None:
        if self.nbytes[thing] > self.room:
            return
        self.there[thing], self.since[thing], self.place[thing] = 1, self.now, len(self.order)
        self.order.append(thing)
        self.held += self.nbytes[thing]
        while self.held > self.room:
            sample = [self.order[self.random.randrange(len(self.order))] for _ in range(64)]
            self._remove(min(sample, key=self.rank))

    def _remove(self, thing: int) -> None:
        last = self.order.pop()
        at = self.place.pop(thing)
        if last != thing:
            self.order[at], self.place[last] = last, at
        self.held -= self.nbytes[thing]
        del self.there[thing], self.since[thing]


class GdsfChained(Gdsf):
    """The same, for things that continue one another: what has lost its parent costs what the parent did, too."""

    def __init__(self, room: int, seconds: list[float], nbytes: list[int], parent: list[int]) -> None:
        super().__init__(room, list(seconds), nbytes)
        self.alone, self.parent = seconds, parent
        self.children: dict[int, list[int]] = {}
        for thing, before in enumerate(parent):
            self.children.setdefault(before, []).append(thing)

    def add(self, thing: int) -> None:
        self.seconds[thing], before = self.alone[thing], self.parent[thing]
        while before >= 0 and before not in self.there:
            self.seconds[thing] += self.alone[before]
            before = self.parent[before]
        super().add(thing)
        if thing in self.there:
            self._pass_on(thing, -self.seconds[thing])

    def remove(self, thing: int) -> None:
        super().remove(thing)
        self._pass_on(thing, self.seconds[thing])

    def _pass_on(self, thing: int, seconds: float) -> None:
        """Let the nearest that continue a thing cost more, now that it went, or less, now that it came."""
        waiting = list(self.children.get(thing, ()))
        while waiting:
            after = waiting.pop()
            if after not in self.there:
                waiting.extend(self.children.get(after, ()))
                continue
            self.seconds[after] += seconds
            if seconds > 0:
                self.there[after] = self.rank(after)


def saved(policy: type[Policy], trace: Trace, room: int) -> float:
    """Give the seconds that a policy saves, as a part of all."""
    seconds = trace.seconds.tolist()
    run, sum_, total = policy(room, seconds, trace.nbytes.tolist()), 0.0, 0.0
    for thing in trace.asked.tolist():
        total += seconds[thing]
        if run.use(thing):
            sum_ += seconds[thing]
        else:
            run.add(thing)
    return sum_ / total


def saved_along_chains(policy: type[Policy], trace: Trace, room: int) -> float:
    """The same, where a request is served from the nearest prefix that is there, and puts all states after it."""
    assert trace.parent is not None
    seconds, parent = trace.seconds.tolist(), trace.parent.tolist()
    more = (parent,) if policy is GdsfChained else ()
    run, sum_, total = policy(room, seconds, trace.nbytes.tolist(), *more), 0.0, 0.0
    for asked in trace.asked.tolist():
        node, missing = asked, []
        while node >= 0 and not run.use(node):
            missing.append(node)
            node = parent[node]
        for thing in reversed(missing):
            total += seconds[thing]
            run.add(thing)
        while node >= 0:
            total += seconds[node]
            sum_ += seconds[node]
            node = parent[node]
    return sum_ / total


def saved_with_foresight(trace: Trace, room: int, buckets: int = 2000) -> tuple[float, float]:
    """Bound what a store that knows the future saves, from below and above, as parts of all.

    Each stretch between two requests for one thing is worth its seconds and takes its bytes for so long; those of the
    greatest worth per byte and time are chosen: as long as there is room all along (a schedule that can be, so from
    below), or as long as there is room on the average (from above). Berger, Beckmann, Harchol-Balter, "Practical
    bounds on optimal caching with variable object sizes" (SIGMETRICS, 2018): PFOO-L and PFOO-U.
    """
    order = np.argsort(trace.asked, kind="stable")
    again = trace.asked[order][1:] == trace.asked[order][:-1]
    start, end = order[:-1][again], order[1:][again]
    thing = trace.asked[start]
    worth, area = trace.seconds[thing], trace.nbytes[thing].astype(float) * (end - start)
    best = np.argsort(-worth / area, kind="stable")
    total = trace.seconds[trace.asked].sum()
    filled = np.cumsum(area[best])
    above = worth[best][filled <= float(room) * len(trace.asked)].sum()
    used, below, width = np.zeros(buckets), 0.0, -(-len(trace.asked) // buckets)
    for one in best.tolist():
        taken = used[start[one] // width : end[one] // width + 1]
        if taken.max() + trace.nbytes[thing[one]] <= room:
            taken += trace.nbytes[thing[one]]
            below += worth[one]
    return float(below / total), float(above / total)
