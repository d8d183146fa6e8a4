"""Where results are kept: what the user has named (a mapping, a store, a directory, an address), opened."""

from __future__ import annotations

from collections.abc import MutableMapping
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeGuard, cast

from memograd._options import bytes_of
from memograd.store._results import Results

if TYPE_CHECKING:
    from threading import RLock

    from memograd._options import Named
    from memograd.store import Store


def place(who: str, named: Named | None, memory: int | str | None, lock: RLock) -> MutableMapping[Any, Any]:
    """Give where results are kept: the user's own mapping, else memory, in front of a store if one is named.

    Args:
        who: is asked, for messages.
        named: what the user named; None for memory alone.
        memory: the most bytes to hold in memory, or text such as "64MiB".
        lock: guards what is in memory.

    Raises:
        TypeError, ValueError: neither can be opened; the message says what to write.
    """
    if is_own(named):
        if memory is not None:
            raise TypeError(f"{who}() got both a store and max_bytes; a store of your own bounds itself, leave one out")
        return named
    limit = None if memory is None else bytes_of(who, "max_bytes", memory)
    return Results(limit, lock, None if named is None else opened(who, named))


def is_own(named: Any) -> TypeGuard[MutableMapping[Any, Any]]:
    """Tell whether a mapping of the user's own was named: it holds results as they are."""
    return isinstance(named, MutableMapping) and not _is_store(named)


def opened(who: str, named: Any) -> Store:
    """Open a store by what the user calls it."""
    if _is_store(named):
        return named
    if isinstance(named, (str, PathLike)):
        from memograd.store._open import open_store

        return open_store(cast("str | PathLike[str]", named))
    raise TypeError(
        f"{who}() got {named!r} for a store, expected a MutableMapping, a Store, a directory or an address; write "
        f"{who}(store={{}}), or {who}(store='~/.cache/lab')"
    )


def tiers(who: str, disk: Any, shared: Any) -> Store | None:
    """Open a disk, a store that is shared with others, or one in front of the other."""
    named = [opened(who, each) for each in (disk, shared) if each is not None]
    if len(named) < 2:
        return named[0] if named else None
    from memograd.store import Tiered

    return Tiered(*named)


def _is_store(named: Any) -> bool:
    # A store that nobody has imported is none.
    import sys

    base: Any = sys.modules.get("memograd.store._base")
    return base is not None and isinstance(named, base.Store)
