"""Plain values and containers, of the standard library: what writing them and reading them agree upon.

`_plain_write` says how each kind is written as a row, `_plain_read` how it is read back.
"""

from __future__ import annotations

import pathlib
import re
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from memograd.codec._read import Reader
    from memograd.codec._write import Writer

    Way: TypeAlias = Callable[[Writer, Any], list[int]]
    Build: TypeAlias = Callable[[Reader, list[Any], dict[str, Any]], Any]

ZONE = re.compile(r"[A-Za-z0-9_+\-]{1,32}(/[A-Za-z0-9_+\-]{1,32}){0,3}")
FACTORIES: dict[str, type] = {
    kind.__name__: kind for kind in (list, dict, set, tuple, int, float, str, bytes, bool, frozenset)
}
PATHS: tuple[type[pathlib.PurePath], ...] = (
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
    pathlib.PosixPath,
    pathlib.WindowsPath,
)
# What hashes without a user's code, whatever it holds.
HASHED = {
    str, int, float, bool, bytes, complex, type(None), range, Decimal, Fraction, UUID, date, time, datetime, timedelta,
    timezone, ZoneInfo, type(...), type(NotImplemented), *PATHS,
}  # fmt: skip


def a(kind: type[Any]) -> str:
    """Name a kind as a message does."""
    return f"a {kind.__module__}.{kind.__qualname__}".replace("builtins.", "")


def odd(text: str) -> bool:
    """Tell whether a text has surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def inside(at: int) -> str:
    """Name what stands for a value, in a path."""
    return f".<packed>[{at}]" if at else ".<packed>"


def plain_keys(items: list[Any]) -> Iterator[Any]:
    """Give the items whose hash may not be plain."""
    return (item for item in items if type(item) not in HASHED)
