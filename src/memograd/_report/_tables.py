"""Tables for a terminal. What a store says of its entries may be anyone's: it is shown as text, never as commands."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from memograd.store._units import show_bytes, show_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from memograd._report._body import Body
    from memograd._report._select import Total
    from memograd.store import Info

# Digits of a key that are shown; enough to name one of a million.
SHORT = 12


def plain(text: str, longest: int = 2000) -> Text:
    """Give text that a terminal shows and does not obey."""
    kept = "".join(each if each.isprintable() else repr(each)[1:-1] for each in text[:longest])
    return Text(kept + ("…" if len(text) > longest else ""))


def grid(*columns: str, numbers: Sequence[str] = ()) -> Table:
    """Make a table without lines, numbers to the right."""
    table = Table(*(), box=None, pad_edge=False)
    for name in columns:
        right = name in numbers
        table.add_column(name, justify="right" if right else "left", no_wrap=True, overflow="ellipsis")
    return table


def entries(infos: Iterable[Info]) -> Table:
    """List entries."""
    numbers = ("size", "seconds", "hits", "saved", "used")
    table = grid("key", *numbers, "text", numbers=numbers)
    now = time.time()
    for info in infos:
        call = plain(info.about.text or info.about.function or "—", 200)
        table.add_row(
            info.key.hex()[:SHORT], show_bytes(info.nbytes), show_seconds(info.about.seconds), f"{info.hits:,}",
            show_seconds(info.saved), f"{show_seconds(max(now - info.used, 0.0))} ago",
            Text("pinned ", "bold") + call if info.about.pinned else call,
        )  # fmt: skip
    return table


def functions(totals: dict[str, Total], most: int = 20) -> Table:
    """List functions with what their entries take and save."""
    numbers = ("entries", "size", "hits", "seconds", "saved")
    table = grid("function", *numbers, numbers=numbers)
    for name, total in list(totals.items())[:most]:
        table.add_row(plain(name or "—", 80), *counted(total))
    if len(totals) > most:
        table.add_row(f"and {len(totals) - most:,} more")
    return table


def counted(total: Total) -> list[str]:
    """Give a line's numbers."""
    return [
        f"{total.entries:,}", show_bytes(total.size), f"{total.hits:,}", show_seconds(total.seconds),
        show_seconds(total.saved),
    ]  # fmt: skip


def facts(info: Info) -> Table:
    """Show all that is known of an entry."""
    about, now = info.about, time.time()
    table = grid("", "")
    table.show_header = False
    lines = {
        "key": info.key.hex(), "function": about.function, "text": about.text, "size": show_bytes(info.nbytes),
        "seconds": show_seconds(about.seconds), "hits": f"{info.hits:,}", "saved": show_seconds(info.saved),
        "created": since(about.created, now), "used": since(info.used, now),
        "expires": "never" if about.expires is None else f"in {show_seconds(about.expires - now)}",
        "parent": about.parent.hex() if about.parent else "", "tags": ", ".join(about.tags),
        "pinned": "yes" if about.pinned else "",
    }  # fmt: skip
    for name, value in lines.items():
        if value:
            table.add_row(Text(name, "dim"), plain(value))
    for name, value in about.parts.items():
        table.add_row(Text("key part", "dim"), plain(f"{name} = {value}"))
    return table


def since(when: float, now: float) -> str:
    """Tell a time as how long ago it was."""
    return f"{show_seconds(max(now - when, 0.0))} ago" if when else ""


def holds(body: Body) -> Table:
    """Show what a body holds."""
    if body.format == "bytes":
        table = grid("first bytes")
        table.add_row(body.begin.hex(" "))
        return table
    table = grid("", "")
    table.show_header = False
    for part in body.parts:
        table.add_row(plain(part.path, 80), plain(part.kind, 200))
    return table


def compared(differs: dict[str, tuple[str, str]]) -> Table:
    """Show the parts of two keys that differ."""
    table = grid("part", "here", "there")
    for name, (here, there) in differs.items():
        table.add_row(plain(name, 40), plain(here, 200), plain(there, 200))
    return table
