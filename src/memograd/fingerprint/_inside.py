"""What is inside of a value or class, and whether it can change."""

from __future__ import annotations

import abc
import sys
from functools import partial
from types import FunctionType, MemberDescriptorType, MethodType
from typing import TYPE_CHECKING, Any, cast

from memograd.fingerprint._form import PLAIN
from memograd.fingerprint._origin import library_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FIXED: frozenset[type] = PLAIN | {type(Ellipsis), type(NotImplemented), range}
_FIXED_CONTAINERS: frozenset[type] = frozenset({tuple, frozenset})
CONTAINERS: frozenset[type] = frozenset({list, tuple, dict, set, frozenset, bytearray})
FUNCTIONS: frozenset[type] = frozenset({FunctionType, MethodType, partial, type, staticmethod, classmethod})
# What a class statement leaves that no code reads, or that repeats what its functions and slots say.
UNREAD = frozenset(
    "__doc__ __module__ __qualname__ __dict__ __weakref__ __annotations__ __annotate__ __annotate_func__ "  # noqa: SIM905 - so it reads
    "__annotations_cache__ __dataclass_fields__ __dataclass_params__ __parameters__ __type_params__ "
    "__abstractmethods__ _abc_impl __static_attributes__ __firstlineno__ __signature__ __orig_bases__ __classcell__ "
    "__slotnames__ __slots__ _field_defaults __protocol_attrs__ __non_callable_proto_members__ "
    "__classdictcell__".split()
)


def home_of(f: FunctionType) -> str:
    """Name the module that a function's globals are those of: `__module__` may be that of what it wraps."""
    name = f.__globals__.get("__name__")
    # Where a program without a name is run, a dataclass puts its methods among the builtins.
    return name if isinstance(name, str) and name != "builtins" else ""


def members_of(cls: type) -> dict[str, Any]:
    """Collect what a class holds and code can read, but for what its functions say already."""
    own = dict(cls.__dict__)
    members = {name: item for name, item in own.items() if name not in UNREAD}
    if "_member_map_" in own:
        values = {name: member._value_ for name, member in own["_member_map_"].items()}
        kinds = (FunctionType, staticmethod, classmethod, property)
        code: dict[str, Any] = {name: item for name, item in members.items() if issubclass(type(item), kinds)}
        given = {name: item for name, item in members.items() if name not in values and not name.startswith("_")}
        return {**given, **code, **values, "": tuple(values)}
    if isinstance(own.get("__dataclass_fields__"), dict):
        members["__dataclass_fields__"] = tuple(_fields(own["__dataclass_fields__"]))
    return members


def _fields(fields: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    # What generated methods do not say already: `dataclasses.fields` shows it.
    for name, field in fields.items():
        kind = field.type if isinstance(field.type, str) else getattr(field.type, "__qualname__", "")
        flags = field.init, field.repr, field.hash, field.compare, getattr(field, "kw_only", None)
        defaults = [
            (each, value)
            for each, value in (("default", field.default), ("default_factory", field.default_factory))
            if type(value).__name__ != "_MISSING_TYPE"
        ]
        yield name, kind, flags, tuple(field.metadata.items()), *defaults


def state_of(fields: Mapping[str, Any]) -> list[object]:
    """List what the fields of a dataclass hold, each of which can be bound anew."""
    return [getattr(field, name, None) for field in fields.values() for name in field.__slots__ if name[0] != "_"]


def order_of(cls: type, members: Mapping[str, Any]) -> tuple[str, ...]:
    """List the names of the data of a class in its order, which code can see; that of methods says nothing."""
    data = [name for name, item in members.items() if not (name.startswith("__") or _is_code(item))]
    slots = cls.__dict__.get("__slots__", ())
    named = slots if type(slots) in {tuple, list, dict} else [slots]
    return (*data, "__slots__", *(name for name in named if type(name) is str))


def _is_code(item: object) -> bool:
    kind = type(item)
    return issubclass(kind, _CODE) or kind.__module__ == "functools"


_CODE = (FunctionType, MethodType, staticmethod, classmethod, property, MemberDescriptorType)


def registered_in(cls: type) -> list[str]:
    """Name the classes that an abstract class was told to take for its own; the user's, where it is a library's."""
    dump: Any = getattr(abc, "_get_dump", None)
    found = [reference() for reference in dump(cls)[0]] if dump is not None and "_abc_impl" in cls.__dict__ else []
    classes = [one for one in found if one is not None]
    if library_of(cls.__module__) is not None:
        classes = [one for one in classes if library_of(one.__module__) is None]
    return sorted(f"{library_of(one.__module__)} {one.__qualname__} {is_found(one)}" for one in classes)


def functions_in(value: Any) -> list[Any]:
    """Find functions in what a closure holds: one of them, or a list or dictionary of some."""
    if type(value) in {list, tuple}:
        return [item for item in cast("list[Any]", value) if type(item) in FUNCTIONS]
    if type(value) is dict:
        return functions_in(list(cast("dict[Any, Any]", value).values()))
    return [value] if type(value) in FUNCTIONS else []


def is_found(cls: type) -> bool:
    """Tell whether a class is what its module knows by its name; a class made at run time may borrow another's."""
    if not cls.__flags__ & 1 << 9:
        return True  # it is built in
    found: Any = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        found = getattr(found, "__dict__", {}).get(name)
    return found is cls


def is_fixed(value: Any) -> bool:
    """Tell whether a value can never change: a constant, or a tuple of such, not too deep."""
    level: list[Any] = [value]
    for _ in range(20):
        kinds: set[type] = set(map(type, level))
        if not kinds - _FIXED_CONTAINERS <= _FIXED:
            return False
        if kinds.isdisjoint(_FIXED_CONTAINERS):
            return True
        if len(level) > 10_000:
            return False
        level = [part for one in level if type(one) in _FIXED_CONTAINERS for part in one]
    return False
