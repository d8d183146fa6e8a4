"""Which way the values of each type are copied: asked once a type, then remembered.

In this order: what cannot be changed, the containers of the language, machines (what does things and is no data), what
knows itself how it is copied, and instances of classes written in Python, by all that their attributes show.
"""

from __future__ import annotations

import weakref
from types import FunctionType
from typing import TYPE_CHECKING, Any

from memograd._copies._containers import BY_TYPE, FILL, struct_maker, tuple_maker, whole
from memograd._copies._ways import (
    ATOMS,
    Built,
    ByValue,
    Fixed,
    Shallow,
    attributes_of,
    has,
    members,
    own,
    same,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memograd._copies._ways import Part, Way

# A class that is gone takes its entry along.
_ways: weakref.WeakKeyDictionary[type, Way | ByValue] = weakref.WeakKeyDictionary()


def way_of(value: object) -> Way:
    """Find how a value is copied."""
    way = _way_of_type(type(value))
    return way.decide(value) if isinstance(way, ByValue) else way


def _way_of_type(kind: type) -> Way | ByValue:
    way = _ways.get(kind)
    if way is None:
        way = _ways[kind] = _find(kind)
    return way


def _find(kind: type) -> Way | ByValue:
    return unchanging(kind) or BY_TYPE.get(kind) or _machine(kind) or _copies_itself(kind) or _instance(kind)


_UNCHANGING = {
    *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
    *("decimal.Decimal", "fractions.Fraction", "uuid.UUID", "re.Pattern", "zoneinfo.ZoneInfo"),
    *("types.GenericAlias", "types.UnionType"),
    *(f"torch.{name}" for name in ("dtype", "device", "layout", "memory_format", "Size", "finfo", "iinfo")),
}
_UNCHANGING_FAMILIES = {"enum.Enum", "numpy.generic", "numpy.dtype", "pathlib.PurePath", "pathlib._local.PurePath"}


def unchanging(kind: type) -> Fixed | None:
    """Recognize what cannot be changed, by its type."""
    names = [f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__]
    if kind in ATOMS or issubclass(kind, type) or names[0] in _UNCHANGING:
        return Fixed()
    # A structured scalar of numpy is a view into memory.
    return Fixed() if _UNCHANGING_FAMILIES.intersection(names) and "numpy.void" not in names else None


_NAMED: tuple[Any, ...] = (BaseException, weakref.ref)
_MACHINE = ("__call__", "__enter__", "__aenter__", "__next__", "__await__", "__del__", "state_dict")


def _machine(kind: Any) -> Fixed | None:
    """Recognize what does things and is no data: modules, tokenizers, optimizers, handles, locks, errors."""
    machine = any(has(kind, name) for name in _MACHINE) or issubclass(kind, _NAMED)
    return same(kind) if machine else None


def _copies_itself(kind: type) -> Way | None:
    if not has(kind, "__deepcopy__"):
        return None
    from copy import deepcopy

    return Shallow(deepcopy)


_TUPLES: Any = tuple
_NEVER: tuple[Any, ...] = (int, float, complex, str, bytes, tuple, frozenset)


def _instance(kind: Any) -> Way | ByValue:
    if issubclass(kind, _NEVER):
        return _of_unchanging(kind)
    base = next(base for base in kind.__mro__ if base in FILL)
    # Values with an identity of their own (a logger) say how they are found again.
    named = not _is_data(kind, base) and (has(kind, "__reduce__") or has(kind, "__reduce_ex__"))
    return same(kind) if named or _hides(kind, base) else _Instances(kind, base).way()


def _is_data(kind: type, base: type) -> bool:
    return base is not object or has(kind, "__dataclass_fields__")


def _of_unchanging(kind: Any) -> ByValue:
    """Copy a named tuple like a tuple, as long as it has no attributes beside its fields."""
    maker = struct_maker if hasattr(kind, "n_sequence_fields") else tuple_maker
    plain = Built(maker, whole) if issubclass(kind, _TUPLES) else Fixed()
    return ByValue(lambda value: same(kind) if own(value) or members(kind) else plain)


def _hides(kind: Any, base: Any) -> bool:
    """Tell whether instances have memory that no attribute shows, as those of types written in C have."""
    shown = len(members(kind))
    shown += sum(getattr(kind, at) > 0 >= getattr(base, at) for at in ("__dictoffset__", "__weakrefoffset__"))
    return kind.__basicsize__ > base.__basicsize__ + _POINTER * shown


_POINTER = tuple.__itemsize__


class _Instances:
    """How the instances of one class are copied: what they hold as a builtin, in slots and in their dictionary."""

    def __init__(self, kind: Any, base: Any) -> None:
        self.kind = kind
        self.base = base
        self.is_data = _is_data(kind, base)
        inside = BY_TYPE.get(base)
        self.inside = inside if isinstance(inside, Shallow) else Shallow(self.copy)
        self.shallow = Shallow(self.copy, self.parts, self.inside.hashed)

    def way(self) -> ByValue:
        return ByValue(self.decide)

    def decide(self, value: Any) -> Way:
        """Leave alone what has nothing that could change, and what holds a machine, and so is a part of one."""
        held = [part for _, _, part in attributes_of(value)]
        if self.base is object and not held:
            return Fixed()
        machine = not self.is_data and any(_is_machine(type(part)) for part in held)
        return same(self.kind) if machine else self.shallow

    def copy(self, value: Any) -> Any:
        new = self.base.__new__(self.kind)
        FILL[self.base](new, value)
        for put, name, part in attributes_of(value):
            put(new, name, part)
        return new

    def parts(self, value: Any) -> Sequence[Part]:
        attributes = [part for part in attributes_of(value) if type(part[2]) not in ATOMS]
        return [*self.inside.parts(value), *attributes]


def _is_machine(kind: type) -> bool:
    way = _way_of_type(kind)
    return kind is FunctionType or (isinstance(way, Fixed) and way.why != "")
