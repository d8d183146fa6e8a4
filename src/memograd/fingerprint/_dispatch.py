"""Which writer takes values of a type apart: asked once a type, then remembered.

In this order: an adapter of a library that is already loaded (numpy, torch), a type known by name, an enum, a
dataclass or a subclass of a known type (its content, its exact type and its attributes), what changes unseen (refused),
a hashable value (it stands for itself), and all else (refused).
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import ValuesView
from typing import TYPE_CHECKING, Any

from memograd.fingerprint._form import Opaque, Unidentified
from memograd.fingerprint._values import BASES, BY_TYPE, known, of_dataclass, of_enum, of_subclass

if TYPE_CHECKING:
    from memograd.fingerprint._form import Writer

ADAPTERS = ("numpy", "torch")

# A class that is gone takes its entry along: functions make classes, too.
_writers: weakref.WeakKeyDictionary[type, Writer] = weakref.WeakKeyDictionary()


def writer_of(kind: type) -> Writer:
    """Find what takes values of exactly this type apart."""
    writer = _writers.get(kind)
    if writer is None:
        writer = _writers[kind] = _find(kind)
    return writer


def _find(kind: type) -> Writer:
    for rule in (_adapted, _named, _derived, _consumed):
        writer = rule(kind)
        if writer is not None:
            return writer
    return Opaque if kind.__hash__ is not None else _unknown  # pyright: ignore[reportUnnecessaryComparison]


def _adapted(kind: type) -> Writer | None:
    roots = {str(base.__module__).partition(".")[0] for base in kind.__mro__}
    for library in ADAPTERS:
        if library in roots and library in sys.modules:
            from importlib import import_module

            writer = import_module(f"memograd.fingerprint._{library}").writer(kind)
            if writer is not None:
                return writer
    return None


def _named(kind: type) -> Writer | None:
    if kind in BY_TYPE:
        return BY_TYPE[kind]
    return known(kind)


def _derived(kind: Any) -> Writer | None:
    from enum import Enum

    if issubclass(kind, Enum):
        return of_enum
    if hasattr(kind, "__dataclass_fields__"):
        return of_dataclass
    return of_subclass if any(base in BASES or known(base) for base in kind.__mro__[1:]) else None


def _consumed(kind: type) -> Writer | None:
    if hasattr(kind, "__next__") or hasattr(kind, "__await__"):
        return _refusing("which is used up by being read; pass a list or a tuple of its items")
    random = sys.modules.get("random")
    if random is not None and issubclass(kind, random.Random):
        return _refusing("whose state moves with every draw; pass a seed")
    # They have a hash, by identity, and show what others change.
    if issubclass(kind, ValuesView) or {base.__module__ for base in kind.__mro__} & {"mmap", "_ctypes"}:
        return _refusing("which shows what is changed elsewhere; pass a list, a tuple or bytes of what it holds")
    return None


def _refusing(why: str) -> Writer:
    def refuse(value: object) -> Opaque:
        raise Unidentified(f"of type {type(value).__qualname__}, {why}")

    return refuse


_unknown = _refusing(
    "which has no content identity that memograd knows and no hash; pass plain data (numbers, strings, lists, "
    "dictionaries, dataclasses, arrays, tensors) in its place"
)
