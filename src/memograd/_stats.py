"""Counters, as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from memograd.store._results import Results

if TYPE_CHECKING:
    from memograd._pays import Level
    from memograd._recall import Recall


class CacheInfo(NamedTuple):
    """What `functools.lru_cache` tells, by the same names in the same order."""

    hits: int
    misses: int
    maxsize: int | None
    currsize: int


class Seconds(NamedTuple):
    """The account of a function, in seconds: what remembering costs, what was computed, and what hits have saved.

    Of calls whose keys are not of a few plain values; what was not timed is taken for like what was.
    """

    key: float
    lookup: float
    put: float
    compute: float
    saved: float


class Stats(NamedTuple):
    """What is not in `cache_info()`.

    Attributes:
        found: how many results were not in memory and found behind it.
        nbytes: of all that is in memory, by estimate; None where it does not count.
        level: "on"; "door" where only what is computed again is stored, since remembering does not pay; "off" where
            calls are plain.
    """

    bypasses: int
    found: int
    puts: int
    evictions: int
    nbytes: int | None
    level: Level
    seconds: Seconds


def cache_info(recall: Recall) -> CacheInfo:
    """Count hits, misses and entries of one function."""
    shelf = recall.shelf
    with shelf.lock:
        return CacheInfo(shelf.counts.hits, shelf.counts.misses, shelf.max_entries, len(shelf))


def stats(recall: Recall) -> Stats:
    """Count what else happened to the calls of one function."""
    shelf, pays = recall.shelf, recall.pays
    with shelf.lock:
        counts = shelf.counts
        nbytes = shelf.store.nbytes if isinstance(shelf.store, Results) else None
        seconds = Seconds(pays.key, pays.lookup, pays.put, pays.compute, pays.saved)
        return Stats(counts.bypasses, counts.found, counts.puts, counts.evictions, nbytes, pays.level, seconds)
