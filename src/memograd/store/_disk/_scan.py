"""What is asked of all entries at once: their facts, in any order or the greatest first, and what they come to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from memograd.store._disk._rows import HITS, INFO, LAST, USED, info_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from memograd.store._base import Info

    # Gives the rows that answer a question, with its values; none if it cannot be asked.
    Ask: TypeAlias = Callable[[str, tuple[Any, ...]], list[Any]]

ORDERS = {
    "saved": f"{HITS} * seconds", "used": LAST, "nbytes": "nbytes", "hits": HITS, "seconds": "seconds",
    "created": "created",
}  # fmt: skip
ENDED = "SELECT count(*) FROM entries WHERE expires <= ?"
_LIVE = "(expires IS NULL OR expires > ?)"
PAGE = f"SELECT {INFO} FROM {USED} WHERE id > ? AND {_LIVE} ORDER BY id LIMIT ?"  # noqa: S608 - no input in it
_CHUNK = 500


def unsorted(ask: Ask, clock: Callable[[], float], limit: int | None) -> Iterator[Info]:
    """Go through entries as they lie there."""
    last = -(1 << 63)
    left = limit
    while left is None or left > 0:
        some = _CHUNK if left is None else min(left, _CHUNK)
        rows = ask(PAGE, (last, clock(), some))
        yield from (info for row in rows if (info := info_of(row)))
        if len(rows) < some:
            return
        last = rows[-1][0]
        left = None if left is None else left - len(rows)


def greatest(ask: Ask, now: float, sort: str, limit: int | None) -> Iterator[Info]:
    """Go through entries, the greatest in one of ORDERS first."""
    sql = f"SELECT id FROM {USED} WHERE {_LIVE} ORDER BY {ORDERS[sort]} DESC LIMIT ?"  # noqa: S608 - of ORDERS
    ids = [row[0] for row in ask(sql, (now, -1 if limit is None else limit))]
    for at in range(0, len(ids), _CHUNK):
        some = ids[at : at + _CHUNK]
        marks = ", ".join("?" * len(some))
        sql = f"SELECT {INFO} FROM {USED} WHERE id IN ({marks})"  # noqa: S608 - marks alone
        rows = {row[0]: row for row in ask(sql, tuple(some))}
        yield from (info for each in some if each in rows and (info := info_of(rows[each])))


def number(ask: Ask, sql: str, *values: Any) -> int:
    """Give the one number that answers a question, 0 if it cannot be asked."""
    found = ask(sql, values)
    return found[0][0] if found else 0
