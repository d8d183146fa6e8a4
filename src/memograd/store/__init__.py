"""Where entries are kept. `Store` is the seam: subclass it, and run `memograd.testing.StoreContract` over it.

A store maps the digest of a key to an `Entry`: encoded bytes, and facts about them. In front of it stand the results of
this process as objects (`_results`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memograd.store._array import Array
    from memograd.store._base import About, Entry, Info, Lease, Store
    from memograd.store._disk import Disk
    from memograd.store._memory import Memory
    from memograd.store._null import Null
    from memograd.store._redis import Redis
    from memograd.store._tiered import Tiered

__all__ = ["About", "Array", "Disk", "Entry", "Info", "Lease", "Memory", "Null", "Redis", "Store", "Tiered"]

# Each is imported when it is first asked for: whoever remembers calls in memory alone needs none of them.
_HOME = dict.fromkeys(["About", "Entry", "Info", "Lease", "Store"], "_base")


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME.get(name, f'_{name.lower()}')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
