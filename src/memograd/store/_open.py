"""Stores by what people call them: a directory, or the address of a server."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from memograd.store._units import SIZES, read

if TYPE_CHECKING:
    from memograd.store._base import Store

_SCHEME = r"[a-z][a-z0-9+.-]+:"  # of two letters or more: one is a drive
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://(.*)", re.IGNORECASE | re.DOTALL)
_SECRET = re.compile(r"(?![a-z]:[\\/])([a-z][a-z0-9+.-]*:/*)(.*)", re.IGNORECASE | re.DOTALL)
_SCHEMES = {"redis", "rediss", "unix", "memory"}
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
    if spec is None:
        return _directory(None, max_bytes, readonly=readonly)
    text = named(spec)
    address = _ADDRESS.fullmatch(text)
    if address is None:
        return _directory(text, max_bytes, readonly=readonly)
    return _addressed(address[1].lower(), address[2], text, max_bytes, readonly=readonly)


def named(spec: str | os.PathLike[str]) -> str:
    """Check what may name a store, before anything is made: a slip would make a directory of that name.

    Raises:
        TypeError, ValueError: it names none; the message says what to write.
    """
    text = os.fspath(spec) if isinstance(spec, (str, os.PathLike)) else None  # pyright: ignore[reportUnnecessaryIsInstance]
    if not isinstance(text, str):
        raise TypeError(f"a store's name got {spec!r}, {_EXPECTED}")
    said = f"a store's name got {hidden(text)!r}"
    if not text.strip():
        raise ValueError(f"{said}, {_EXPECTED}")
    word, colon, rest = text.partition(":")
    address = _ADDRESS.fullmatch(text)
    if address and address[1].lower() not in _SCHEMES:
        raise ValueError(f"{said}, {_EXPECTED}")
    if address:
        return text
    if colon and word.lower() in _SCHEMES:
        meant = hidden(f"{word.lower()}://{rest.lstrip('/')}")
        raise ValueError(f"{said}, expected an address with two slashes, as text; write {meant!r}")
    if isinstance(spec, str) and re.match(_SCHEME, text, re.IGNORECASE):
        raise ValueError(f"{said}, {_EXPECTED}, and a directory with a colon as './…'")
    if isinstance(spec, str) and any(map(str.isalpha, text)) and read(text, SIZES) is not None:
        raise ValueError(f"{said}, a size, {_EXPECTED}, or max_bytes={text!r}; a directory of that name as './{text}'")
    return text


def hidden(spec: str) -> str:
    """Give a store's name as it may be shown: without its password, and without options, which may hold one."""
    found = _SECRET.fullmatch(spec)
    if found is None:
        return spec
    secret, at, host = found[2].rpartition("@")
    user, colon, _ = secret.partition(":")
    shown = f"{user}:…" if colon else user
    if not found[1].endswith("/") or {"?", "/"} & set(secret):
        shown = "…"  # no address, or a password that is not escaped: who knows where it begins
    return found[1] + (f"{shown}@" if at else "") + host.partition("?")[0]


def _directory(path: str | None, max_bytes: int | str | None, *, readonly: bool) -> Store:
    from memograd.store._disk import Disk

    return Disk(path, readonly=readonly) if max_bytes is None else Disk(path, max_bytes=max_bytes, readonly=readonly)


def _addressed(scheme: str, rest: str, spec: str, max_bytes: int | str | None, *, readonly: bool) -> Store:
    if scheme != "memory":
        try:
            from memograd.store._redis import Redis
        except ModuleNotFoundError as error:
            said = f"{hidden(spec)} needs {error.name}, missing here; write: pip install 'memograd[redis]'"
            raise ModuleNotFoundError(said, name=error.name) from None
        return Redis(spec, max_bytes=max_bytes, readonly=readonly)
    from memograd.store._memory import Memory

    return Memory(rest.strip("/") or max_bytes)
