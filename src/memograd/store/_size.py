"""How many bytes a result keeps alive: exact for plain values, tensors and arrays, sampled for long containers."""

from __future__ import annotations

import sys
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

_LEAVES: frozenset[type] = frozenset({int, float, complex, bool, type(None), str, bytes, bytearray})
_SAMPLE = 1000
_LOOKS = 20_000


def size_of(value: object) -> int:
    """Estimate the bytes that `value` keeps alive."""
    return sys.getsizeof(value) if type(value) in _LEAVES else _walked(value)


def _walked(root: object) -> int:
    total = 0.0
    seen: set[object] = set()
    # Each with how many of its kind it stands for, and how many looks may be spent on it and what it holds: of a long
    # container a sample is looked at, and each of the sample has its share of the looks.
    waiting: list[tuple[object, float, int]] = [(root, 1.0, _LOOKS)]
    while waiting:
        value, stands_for, looks = waiting.pop()
        if id(value) in seen or issubclass(type(value), type):
            continue
        seen.add(id(value))
        total += stands_for * (_shallow(value) + _buffer(value, seen))
        children, count = _children(value)
        sample = _spread(children, min(_SAMPLE, looks - 1))
        if sample:
            each, share = stands_for * count / len(sample), (looks - 1) // len(sample)
            waiting.extend((child, each, share) for child in sample)
    return int(total)


def _shallow(value: object) -> int:
    try:
        return sys.getsizeof(value)
    except Exception:  # noqa: BLE001 - a foreign __sizeof__ may raise anything, and an estimate is no reason to fail
        return 64


def _buffer(value: Any, seen: set[object]) -> int:
    """Count the memory that a tensor's storage or a viewed array's base holds, once."""
    kind = cast("type[Any]", type(value))
    if hasattr(kind, "untyped_storage"):
        try:
            storage = value.untyped_storage()
            name, nbytes = ("storage", storage.data_ptr()), storage.nbytes()
        except Exception:  # noqa: BLE001 - sparse, meta and fake tensors have no storage, each says so in its own way
            return int(value.numel() * value.element_size())
        if name in seen:
            return 0
        seen.add(name)
        return int(nbytes)
    base = getattr(value, "base", None) if hasattr(kind, "__array_interface__") else None
    return 0 if base is None else _walked(base)


def _children(value: object) -> tuple[Sequence[object], int]:
    """List what a value holds, of a long mapping or set the first of it; and count all of it."""
    try:
        return _held_by(value)
    except Exception:  # noqa: BLE001 - as above
        return (), 0


def _held_by(value: Any) -> tuple[Sequence[object], int]:
    kind = cast("type[Any]", type(value))
    if issubclass(kind, dict):
        return [*islice(value, _SAMPLE), *islice(value.values(), _SAMPLE)], 2 * len(value)
    if issubclass(kind, (list, tuple)):
        return value, len(value)
    if issubclass(kind, (set, frozenset)):
        return list(islice(value, _SAMPLE)), len(value)
    attributes = list(getattr(value, "__dict__", {}).values())
    return attributes, len(attributes)


def _spread(children: Sequence[object], most: int) -> Sequence[object]:
    """Take at most so many, evenly spread."""
    return children[:: -(-len(children) // most)] if children and most > 0 else ()
