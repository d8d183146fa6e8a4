"""Instances of classes, by the class's name and its fields. Reading runs no code of theirs, and imports nothing.

A class is looked up among the modules that are loaded, in their dictionaries, and has to be what it was: of the same
kind, with the same fields and the same code. An instance is made bare, and its fields are laid into its dictionary or
its slots.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from types import FunctionType, MemberDescriptorType
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from weakref import WeakKeyDictionary

from memograd.codec._base import Refused, Unreadable
from memograd.codec._identity import check, digest_of, inherited, loaded, name_of
from memograd.codec._plain import a, plain_keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from memograd.codec._plain import Build, Way
    from memograd.codec._read import Reader
    from memograd.codec._write import Writer

_HEAP = 1 << 9  # a class made by a class statement
_WEIGHT = 10_000  # what a key may hold: hashing goes through all of it, as often as it is referred to


class Layout(NamedTuple):
    """A class of records.

    Attributes:
        name: module and qualified name.
        fields: the names of its fields.
        slots: those of them that are slots.
        others: slots of its bases that are no fields.
        ordered: it is an OrderedDict besides, as the outputs of transformers are.
    """

    name: str
    fields: tuple[str, ...]
    slots: dict[str, MemberDescriptorType]
    others: tuple[MemberDescriptorType, ...]
    ordered: bool


_layouts: WeakKeyDictionary[type[Any], Layout] = WeakKeyDictionary()


# Finding


def find(kind: Any) -> Way:
    """Give the way in which instances of a class are written."""
    if issubclass(kind, Enum):
        return _enum
    if issubclass(kind, tuple):
        return _named(kind)
    if inherited(kind, "__dataclass_fields__") is not None:
        return _record if _layout(kind).ordered else _dataclass
    raise Refused(a(kind))


def _kind(value: Any) -> str:
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return a(kind)


# Data classes, and the outputs of transformers


def _layout(kind: Any) -> Layout:
    known = _layouts.get(kind)
    if known is not None:
        return known
    fields = _fields(kind)
    ordered = issubclass(kind, OrderedDict)
    for base in kind.__mro__:
        if not base.__flags__ & _HEAP and base not in {object, dict, OrderedDict}:
            raise Refused(f"{a(kind)}, a data class that is {a(base)} as well")
    if issubclass(kind, dict) and not ordered:
        raise Refused(f"{a(kind)}, a data class that is a dict as well")  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    slots: dict[str, MemberDescriptorType] = {}
    for name in fields:
        slot = inherited(kind, name)
        if type(slot) is MemberDescriptorType:
            slots[name] = slot
    if len(slots) < len(fields) and inherited(kind, "__dict__") is None:
        raise Refused(f"{a(kind)}, a data class that keeps its fields elsewhere")  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    _layouts[kind] = layout = Layout(name_of(kind), fields, slots, _others(kind, slots), ordered)
    return layout


def _others(kind: Any, slots: dict[str, MemberDescriptorType]) -> tuple[MemberDescriptorType, ...]:
    held = [each for base in kind.__mro__ for each in type.__getattribute__(base, "__dict__").values()]
    members = [each for each in held if type(each) is MemberDescriptorType]
    return tuple(each for each in members if all(each is not slot for slot in slots.values()))


def _fields(kind: Any) -> tuple[str, ...]:
    fields: dict[str, Any] = inherited(kind, "__dataclass_fields__")
    # As `dataclasses.fields`, which does not look where the attribute is.
    return tuple(name for name, field in fields.items() if field._field_type.name == "_FIELD")  # noqa: SLF001


def _state(layout: Layout, value: Any) -> list[Any]:
    slots = layout.slots
    if any(_is_set(slot, value) for slot in layout.others):
        raise Refused(f"{_kind(value)} with other attributes than its fields")
    if not slots and layout.fields:
        state = object.__getattribute__(value, "__dict__")
        if len(state) == len(layout.fields):
            try:
                return [state[name] for name in layout.fields]
            except KeyError:
                pass
        raise Refused(f"{_kind(value)} with other attributes than its fields")
    bare = inherited(cast("Any", type(value)), "__dict__") is None
    state: dict[str, Any] = {} if bare else object.__getattribute__(value, "__dict__")
    if len(state) + len(slots) != len(layout.fields):
        raise Refused(f"{_kind(value)} with other attributes than its fields")
    try:
        return [slots[n].__get__(value) if n in slots else state[n] for n in layout.fields]
    except (KeyError, AttributeError):
        raise Refused(f"{_kind(value)} of which a field is not set") from None


def _is_set(slot: MemberDescriptorType, value: Any) -> bool:
    try:
        slot.__get__(value)
    except AttributeError:
        return False
    return True


def _dataclass(writer: Writer, value: Any) -> list[int]:
    layout = _layout(cast("Any", type(value)))
    facts = {"class": layout.name, "fields": layout.fields, "digest": digest_of(type(value))}
    return writer.open("dataclass", _state(layout, value), facts, _dotted(layout.fields), sealed=False)


def _record(writer: Writer, value: Any) -> list[int]:
    layout = _layout(cast("Any", type(value)))
    keys: list[Any] = list(OrderedDict.keys(value))  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if not {*map(type, keys)} <= {str}:
        raise Refused(f"{_kind(value)} with keys that are no names")
    facts: dict[str, Any] = {"class": layout.name, "fields": layout.fields, "digest": digest_of(type(value))}
    facts["keys"] = keys
    cells: list[Any] = [*_state(layout, value), *(OrderedDict.__getitem__(value, key) for key in keys)]
    return writer.open("record", cells, facts, _dotted([*layout.fields, *keys]), sealed=False)


def _dotted(names: tuple[str, ...] | list[str]) -> Callable[[int], str]:
    return lambda at: f".{names[at]}"


def _made(facts: dict[str, Any], *, ordered: bool) -> Any:
    kind = loaded(facts["class"])
    try:
        layout = _layout(kind)
    except Refused as refused:
        raise Unreadable(f"an instance of {facts['class'][:100]!r}, now {refused}") from None
    if list(layout.fields) != facts["fields"] or layout.ordered != ordered:
        raise Unreadable(f"an instance of {facts['class'][:100]!r}, which has other fields now")
    check(kind, facts)
    return OrderedDict.__new__(kind) if ordered else object.__new__(kind)


def _make_dataclass(facts: dict[str, Any]) -> Any:
    return _made(facts, ordered=False)


def _make_record(facts: dict[str, Any]) -> Any:
    return _made(facts, ordered=True)


def _fill(made: Any, items: list[Any]) -> None:
    layout = _layout(cast("Any", type(made)))
    state: dict[str, Any] = object.__getattribute__(made, "__dict__") if len(layout.slots) < len(layout.fields) else {}
    for name, item in zip(layout.fields, items, strict=True):
        slot = layout.slots.get(name)
        if slot is None:
            state[name] = item
        else:
            slot.__set__(made, item)


def _fill_dataclass(_: Reader, made: Any, items: list[Any], __: dict[str, Any]) -> None:
    _fill(made, items)


def _fill_record(_: Reader, made: Any, items: list[Any], facts: dict[str, Any]) -> None:
    fields, keys = facts["fields"], facts["keys"]
    _fill(made, items[: len(fields)])
    for key, item in zip(keys, items[len(fields) :], strict=True):
        if type(key) is not str:
            raise Unreadable("a record by no name")
        OrderedDict.__setitem__(made, key, item)


# Named tuples


def _named(kind: Any) -> Way:
    if kind.__module__ == "torch.return_types":
        from memograd.codec._torch import returned

        return returned
    names = _names(kind)
    if names is None:
        raise Refused(a(kind))

    def way(writer: Writer, value: tuple[Any, ...]) -> list[int]:
        if len(value) != len(names) or getattr(value, "__dict__", None):
            raise Refused(f"{a(kind)} with other attributes than its fields")
        facts = {"class": name_of(kind), "fields": names, "digest": digest_of(kind)}
        return writer.open("namedtuple", tuple(value), facts, _dotted(names))

    return way


def _names(kind: Any) -> tuple[str, ...] | None:
    names: Any = inherited(kind, "_fields")
    apt = type(names) is tuple and all(type(name) is str for name in cast("Any", names))
    return cast("Any", names) if apt and kind.__flags__ & _HEAP else None


def _read_named(_: Reader, items: list[Any], facts: dict[str, Any]) -> tuple[Any, ...]:
    kind = loaded(facts["class"])
    names = _names(kind) if issubclass(kind, tuple) else None
    if names is None or list(names) != facts["fields"] or len(items) != len(names):
        raise Unreadable(f"an instance of {facts['class'][:100]!r}, which has other fields now")
    check(kind, facts)
    return tuple.__new__(kind, items)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


# Enumerations


def _enum(writer: Writer, value: Enum) -> list[int]:
    kind, name = type(value), value._name_
    if type(name) is not str or kind._member_map_.get(name) is not value:
        raise Refused(f"{a(kind)} that is none of its members")
    return writer.row("enum", [name], {"class": name_of(kind), "digest": digest_of(kind)})


def _read_enum(_: Reader, items: list[Any], facts: dict[str, Any]) -> Any:
    kind = loaded(facts["class"])
    members = inherited(kind, "_member_map_") if issubclass(kind, Enum) else None
    (name,) = items
    if type(members) is not dict or type(name) is not str or name not in members:
        raise Unreadable(f"a member of {facts['class'][:100]!r}, which has it no more")
    check(kind, facts)
    return members[name]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


BUILD: dict[str, Build] = {"namedtuple": _read_named, "enum": _read_enum}
FILL: dict[str, Any] = {
    "dataclass": (_make_dataclass, _fill_dataclass),
    "record": (_make_record, _fill_record),
}


# Keys


def hashed(key: Any) -> None:
    """Refuse a key whose hash would run a user's code, or would never end.

    What is shared within a key is hashed as often as it is referred to, so that a small entry could ask for years.
    """
    rest, weight = [key], 0
    while rest:
        item = rest.pop()
        weight += 1
        if weight > _WEIGHT:
            raise _Unfit(f"a key that holds more than {_WEIGHT} values")
        rest.extend(plain_keys(_inner(item)))


class _Unfit(Refused, Unreadable):
    """A key that is neither written nor read."""


def _inner(item: Any) -> list[Any]:
    kind: Any = type(item)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if not (_builtin(inherited(kind, "__hash__")) and _builtin(inherited(kind, "__eq__"))):
        raise _Unfit(f"{a(kind)}, which finds its place in a set or dict by code of its own")
    if isinstance(item, (tuple, frozenset)):
        return list(item)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(item, slice):
        return [item.start, item.stop, item.step]
    if issubclass(kind, Enum) or inherited(kind, "__hash__") is object.__hash__:
        return []
    if inherited(kind, "__dataclass_fields__") is not None:
        return _state(_layout(kind), item)
    return []


def _builtin(method: Any) -> bool:
    """Tell whether a method is written in C, is the standard library's, or was made by `dataclass`."""
    if type(method) is not FunctionType:
        return method is None or type(method).__module__ == "builtins"
    return method.__code__.co_filename == "<string>" or method.__module__ in {"enum", "reprlib"}
