"""Counters, as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from memograd.store._memory import Memory

if TYPE_CHECKING:
    from memograd._recall import Recall


class CacheInfo(NamedTuple):
    """What `functools.lru_cache` tells, by the same names in the same order."""

    hits: int
    misses: int
    maxsize: int | None
    currsize: int


class Stats(NamedTuple):
    """What is not in `cache_info()`. `nbytes` is that of the whole store, by estimate; None where it does not count."""

    bypasses: int
    puts: int
    evictions: int
    nbytes: int | None


def cache_info(recall: Recall) -> CacheInfo:
    """Count hits, misses and entries of one function."""
    with recall.lock:
        store, counts = recall.store, recall.counts
        size = store.count_of(recall.subject) if isinstance(store, Memory) else len(recall.keys())
        return CacheInfo(counts.hits, counts.misses, recall.max_entries, size)


def stats(recall: Recall) -> Stats:
    """Count what else happened to the calls of one function."""
    with recall.lock:
        nbytes = recall.store.nbytes if isinstance(recall.store, Memory) else None
        return Stats(recall.counts.bypasses, recall.counts.puts, recall.counts.evictions, nbytes)
