"""The words for what is known of an entry: one each, for whoever sorts, filters and reads entries, and where it is."""

from __future__ import annotations

from heapq import nlargest
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from memograd.store._base import Info

# What entries are sorted by, and where an `Info` has it. `Store.scan` takes the attribute's own name.
SORTS: Mapping[str, str] = {
    "saved": "saved", "used": "used", "size": "nbytes", "hits": "hits", "seconds": "about.seconds",
    "created": "about.created",
}  # fmt: skip
# What else is understood.
ALIASES: Mapping[str, str] = {"seconds_saved": "saved", "tag": "tags"}
ATTRIBUTES: Mapping[str, str] = {path.rpartition(".")[2]: path for path in SORTS.values()}


def attribute(word: str) -> str:
    """Give the name of the attribute that a word sorts by."""
    return SORTS[ALIASES.get(word, word)].rpartition(".")[2]


def greatest(infos: Iterable[Info], sort: str, limit: int | None = None) -> Iterator[Info]:
    """Sort entries by an attribute, the greatest first.

    Args:
        infos: the entries.
        sort: the attribute's name, one of `ATTRIBUTES`.
        limit: at most so many.
    """
    if sort not in ATTRIBUTES:
        raise ValueError(f"scan() got sort={sort!r}, expected one of {', '.join(map(repr, ATTRIBUTES))}")
    key: Callable[[Info], float] = attrgetter(ATTRIBUTES[sort])
    return iter(sorted(infos, key=key, reverse=True) if limit is None else nlargest(limit, infos, key))
