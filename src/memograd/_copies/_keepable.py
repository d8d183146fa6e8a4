"""Whether a result can be given back a second time: an iterator is used up, and a graph serves one backward pass.

What a result holds is walked level by level: the garbage collector lists what a level holds, in C, and of plain values
only the types are looked at.
"""

from __future__ import annotations

import gc
import sys
from collections import deque
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 1_000_000
_LEAVES: frozenset[type] = frozenset({int, float, complex, bool, type(None), str, bytes, bytearray, range})
_CONTAINERS = (list, tuple, dict, set, frozenset, deque)
# What leads to the program, and not to what the call has made.
_ELSEWHERE = (type, FunctionType, BuiltinFunctionType, MethodType, ModuleType, CodeType, FrameType, ref)
_ONCE = ("__next__", "__await__")


def unkeepable(value: object) -> str:
    """Say why a result cannot be given back a second time, or nothing."""
    if type(value) in _LEAVES:
        return ""
    try:
        # An iterator among the attributes of an object is the object's own matter; a graph is not.
        objects = _reached([value], _is_container)
        if objects and "torch" in sys.modules:
            _reached(objects, _is_object)
    except _Found as found:
        return str(found)
    return ""


class _Found(Exception):  # noqa: N818 - control flow
    pass


def _reached(level: list[object], inside: Callable[[type], bool]) -> list[object]:
    """Walk through the types that are `inside`, and list the values where the walk ended. Raises `_Found`."""
    ends: list[object] = []
    seen: set[int] = set()
    while level:
        kinds = set(map(type, level)) - _LEAVES
        within = {kind for kind in kinds if inside(kind)}
        if kinds - within:
            outside = [value for value in level if type(value) in kinds - within]
            _check(outside, once=inside is _is_container)
            ends += outside
        level = _next(level, within, seen)
    return ends


def _next(level: list[object], within: set[type], seen: set[int]) -> list[object]:
    """List what the values of a level hold, those that were met before aside."""
    entered = {id(value): value for value in level if type(value) in within and id(value) not in seen}
    seen.update(entered)
    if len(seen) > MOST:
        raise _Found(f"more than {MOST:,} objects, too many to look for iterators and graphs; return arrays or tensors")
    return gc.get_referents(*entered.values())


def _check(values: list[object], *, once: bool) -> None:
    for kind in set(map(type, values)):
        if once and any(_has(kind, name) for name in _ONCE):
            raise _Found(f"a {kind.__name__}, which is used up by being read; return a list or a tuple of its items")
        if _has(kind, "requires_grad") and any(_requires_grad(value) for value in values if type(value) is kind):
            raise _Found("a tensor that requires grad, whose graph serves one backward; call under torch.no_grad()")


def _requires_grad(value: object) -> bool:
    try:
        return getattr(value, "requires_grad", None) is True
    except Exception:  # noqa: BLE001 - a property of the user's may raise anything
        return False


def _is_container(kind: type) -> bool:
    return _has(kind, "__dataclass_fields__") or issubclass(kind, _CONTAINERS)


def _is_object(kind: type) -> bool:
    # A module's weights require grad and belong to no graph.
    return not any(_has(kind, name) for name in ("requires_grad", "state_dict")) and not issubclass(kind, _ELSEWHERE)


def _has(kind: type, name: str) -> bool:
    return any(name in base.__dict__ for base in kind.__mro__)
