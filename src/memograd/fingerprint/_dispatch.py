"""Which writer takes values of a type apart: asked once a type, then remembered.

In this order: what a user has registered, an adapter of a library that is already loaded (numpy, torch), a type known
by name, a class, an enum, a dataclass, what is used up by being read (refused), and an object: its class, what it holds
as the nearest known type, and its attributes. What C code keeps out of sight is refused.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import ItemsView, KeysView, ValuesView
from typing import TYPE_CHECKING, Any

from memograd.fingerprint._callables import of_class
from memograd.fingerprint._form import PLAIN, Form, Unidentified, Writing
from memograd.fingerprint._values import BASES, BY_TYPE, hides, known, of_dataclass, of_enum, of_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from memograd.fingerprint._form import Opaque, Writer

# A library, and the adapter that knows its types.
ADAPTERS = {
    "numpy": "_numpy",
    "torch": "_torch",
    "pandas": "_pandas",
    "transformers": "_transformers",
    "tokenizers": "_transformers",
}

# A class that is gone takes its entry along: functions make classes, too.
_writers: weakref.WeakKeyDictionary[type, Writer] = weakref.WeakKeyDictionary()
_registered: weakref.WeakKeyDictionary[type, Writer] = weakref.WeakKeyDictionary()


def writer_of(kind: type) -> Writer:
    """Find what takes values of exactly this type apart."""
    writer = _writers.get(kind)
    if writer is None:
        writer = _writers[kind] = _find(kind)
    return writer


def enroll(kind: type, parts: Callable[[Any], object]) -> None:
    """Have values of exactly this type taken apart by a function of the user's."""
    if kind in PLAIN or kind in BY_TYPE:
        raise TypeError(f"register() got {kind.__qualname__}, whose content Python itself shows; subclass it")
    _registered[kind] = lambda value: Form(
        b"registered", parts=(kind, parts(value)), label=lambda index: f".{kind.__name__}" if index else ""
    )
    _writers.clear()
    Writing.slow(kind)


def _find(kind: type) -> Writer:
    for rule in (_registered.get, _adapted, _named, _derived, _moving):
        writer = rule(kind)
        if writer is not None:
            return writer
    return of_object if not hides(kind) else _unseen


def _adapted(kind: type) -> Writer | None:
    roots = {str(base.__module__).partition(".")[0] for base in kind.__mro__}
    for library, adapter in ADAPTERS.items():
        if library in roots and library in sys.modules:
            from importlib import import_module

            writer = import_module(f"memograd.fingerprint.{adapter}").writer(kind)
            if writer is not None:
                return writer
    return None


def _named(kind: type) -> Writer | None:
    return BY_TYPE[kind] if kind in BY_TYPE else known(kind)


def _derived(kind: Any) -> Writer | None:
    from enum import Enum

    if issubclass(kind, type):
        return of_class
    if issubclass(kind, Enum):
        return of_enum
    if any(base in BASES or known(base) for base in kind.__mro__[1:]):
        return of_object if not hides(kind) else _unseen
    return of_dataclass if hasattr(kind, "__dataclass_fields__") and not hides(kind) else None


def _moving(kind: type) -> Writer | None:
    if any(base.__name__ == "_IOBase" for base in kind.__mro__):
        return _unseen
    if hasattr(kind, "__next__") or hasattr(kind, "__await__"):
        return _refusing("which is used up by being read; pass a list or a tuple of its items")
    if {base.__module__ for base in kind.__mro__} & {"mmap", "_ctypes"} or issubclass(
        kind, (KeysView, ValuesView, ItemsView)
    ):
        return _refusing("which shows what is changed elsewhere; pass a list, a tuple or bytes of what it holds")
    return None


def _refusing(why: str, *, stands: bool = False) -> Writer:
    def refuse(value: object) -> Opaque:
        raise Unidentified(f"of type {type(value).__qualname__}, {why}", stands=stands)

    return refuse


# What code reads of these is no content: locks, sockets and files that are open.
_TOOLS = {"_thread", "_io", "_socket", "_ssl", "select", "_contextvars"}
_IN_MEMORY = {"StringIO", "BytesIO"}


def _unseen(value: object) -> Opaque:
    kind = type(value)
    names = {base.__name__ for base in kind.__mro__}
    tool = bool({base.__module__ for base in kind.__mro__} & _TOOLS) and not names & _IN_MEMORY
    raise Unidentified(f"of type {kind.__qualname__}, {_advice(names)}", stands=tool)


def _advice(names: set[str]) -> str:
    if "_IOBase" in names:
        return "an open file; pass memograd.File(its path), or what is read from it"
    if names & {"lock", "RLock", "socket", "SSLContext", "ContextVar"}:
        return "which is a tool and no value; make it inside the function, or reach it as a global"
    return (
        "whose state C code keeps out of sight; pass plain data (numbers, strings, lists, dictionaries, dataclasses, "
        "arrays, tensors) in its place, or say what it is made of: fingerprint.register(its type, a function)"
    )
