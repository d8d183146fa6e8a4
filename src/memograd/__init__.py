"""memograd: nothing is computed twice.

Remembers what a PyTorch program has already computed and gives back what the plain program would have given.
`memo` is the default `Memo`: in memory, a bounded share of it, nothing on disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from memograd._errors import MemogradError, MemogradWarning, NoIdentityError
from memograd._events import subscribe
from memograd._memo import Memo, memo
from memograd.fingerprint import Digest, File, fingerprint

if TYPE_CHECKING:
    from memograd._share._shared import Shared

__version__ = "0.1.0"

__all__ = [
    "Digest",
    "File",
    "Memo",
    "MemogradError",
    "MemogradWarning",
    "NoIdentityError",
    "Shared",
    "fingerprint",
    "memo",
    "subscribe",
]


def __getattr__(name: str) -> object:
    # Shared needs torch, which `import memograd` must not load.
    if name == "Shared":
        from memograd._share._shared import Shared

        return Shared
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
