"""Stores by what people call them: a directory, or the address of a server."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memograd.store._base import Store

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.IGNORECASE | re.DOTALL)
_EXPECTED = 'expected a directory, "redis://host:6379/0", "rediss://…" or "memory://2GiB"; write "~/.cache/lab"'


def open_store(
    spec: str | os.PathLike[str] | None = None, *, max_bytes: int | str | None = None, readonly: bool = False
) -> Store:
    """Open a store.

    Args:
        spec: a directory; "redis://host:6379/0" or "rediss://…"; "memory://", or "memory://2GiB"; None for the user's
            cache directory.
        max_bytes: the most bytes to hold; None for what the store takes by itself.
        readonly: it takes nothing.

    Raises:
        TypeError, ValueError: it is the name of no store.
        ImportError: what the store needs is not installed.
    """
    text = os.fspath(spec) if spec is not None else None
    if text is not None and not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"a store's name got {spec!r}, {_EXPECTED}")
    if text is not None and not text.strip():
        raise ValueError(f"a store's name got {spec!r}, {_EXPECTED}")
    address = _ADDRESS.fullmatch(text) if text is not None else None
    if address is None:
        return _directory(text, max_bytes, readonly=readonly)
    return _addressed(address[1].lower(), address[2], text or "", max_bytes, readonly=readonly)


def hidden(spec: str) -> str:
    """Give a store's name as it may be shown: without its password."""
    return re.sub(r"(://[^:@/]*):[^@/]*@", r"\1:…@", spec)


def _directory(path: str | None, max_bytes: int | str | None, *, readonly: bool) -> Store:
    from memograd.store._disk import Disk

    return Disk(path, readonly=readonly) if max_bytes is None else Disk(path, max_bytes=max_bytes, readonly=readonly)


def _addressed(scheme: str, rest: str, spec: str, max_bytes: int | str | None, *, readonly: bool) -> Store:
    if scheme in {"redis", "rediss", "unix"}:
        try:
            from memograd.store._redis import Redis
        except ModuleNotFoundError as error:
            said = f"{hidden(spec)} needs {error.name}, missing here; write: pip install 'memograd[redis]'"
            raise ModuleNotFoundError(said, name=error.name) from None
        return Redis(spec, max_bytes=max_bytes, readonly=readonly)
    if scheme == "memory":
        from memograd.store._memory import Memory

        return Memory(rest.strip("/") or max_bytes)
    raise ValueError(f"a store's name got {hidden(spec)!r}, {_EXPECTED}")
