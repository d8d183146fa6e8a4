"""Plain values and containers as rows: how each kind is written."""

from __future__ import annotations

import struct
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from operator import is_
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from memograd.codec._base import DIGITS, Refused
from memograd.codec._plain import FACTORIES, HASHED, PATHS, ZONE, a

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

    from memograd.codec._plain import Way
    from memograd.codec._write import Writer

LONG = 16  # from so many on, equal kinds of numbers are written as a tensor
_SORTED: tuple[set[Any], ...] = ({str}, {int}, {bytes})
_SEEDED: tuple[set[Any], ...] = ({str}, {bytes})  # in another order in each process


# Containers


def _list(writer: Writer, value: list[Any]) -> list[int]:
    return _packed(writer, "list", value) or writer.open("list", value.copy(), sealed=False)


def _tuple(writer: Writer, value: tuple[Any, ...]) -> list[int]:
    return _packed(writer, "tuple", value) or writer.open("tuple", value)


def _packed(writer: Writer, kind: str, value: list[Any] | tuple[Any, ...]) -> list[int] | None:
    if len(value) < LONG:
        return None
    kinds = set(map(type, value))
    if kinds == {float}:
        return _numbers(writer, kind, "F64", array("d", value))
    if kinds == {int}:
        try:
            return _numbers(writer, kind, "I64", array("q", value))
        except OverflowError:
            return None
    return None


def _numbers(writer: Writer, kind: str, dtype: str, numbers: array[Any]) -> list[int]:
    return writer.row(kind, [], {"items": writer.part(dtype, [len(numbers)], memoryview(numbers).cast("B"))})


def _dict(writer: Writer, value: dict[Any, Any], facts: dict[str, Any] | None = None) -> list[int]:
    keys = list(value)

    def name(at: int) -> str:
        return f"[{_short(keys[at - len(keys)])}]" if at >= len(keys) else f".<key {_short(keys[at])}>"

    _hashed(keys)
    keys_then_values: list[Any] = [*keys, *value.values()]
    kind = _MAPPINGS[type(value)]
    if kind in _ATTRIBUTED and value.__dict__:
        return _attributed(writer, value, keys_then_values, name)
    # As deques, default dictionaries are taken apart by recursion in C: their chains may not outgrow DEPTH.
    return writer.open(kind, keys_then_values, facts, name, sealed=kind == "defaultdict")


def _attributed(writer: Writer, value: Any, cells: list[Any], name: Callable[[int], str]) -> list[int]:
    """Write a dictionary that carries attributes, as the versions in `module.state_dict()._metadata`."""
    held: dict[Any, Any] = value.__dict__
    names, count = list(held), len(cells)
    if {*map(type, names)} != {str}:
        raise Refused(f"{a(cast('Any', type(value)))} with attributes by no names")

    def path(at: int) -> str:
        return f".{names[at - count]}" if at >= count else name(at)

    facts = {"attributes": names}
    return writer.open(_MAPPINGS[type(value)], [*cells, *held.values()], facts, path, sealed=False)


def _short(key: Any) -> str:
    if type(key) in {str, int, bool, float, bytes}:
        text = repr(key)
        return text if len(text) < 60 else text[:57] + "..."
    return f"<{type(key).__qualname__}>"


def _defaultdict(writer: Writer, value: defaultdict[Any, Any]) -> list[int]:
    factory = value.default_factory
    if factory is None:
        return _dict(writer, value)
    name = cast("Any", factory).__name__ if isinstance(factory, type) else ""
    if FACTORIES.get(name) is not factory:
        raise Refused("a defaultdict with a factory of its own")
    return _dict(writer, value, {"factory": name})


def _set(writer: Writer, value: set[Any] | frozenset[Any]) -> list[int]:
    items = list(value)
    _hashed(items)
    kinds = {*map(type, items)}
    if kinds in _SORTED:
        items.sort()  # equal values make equal files
    if kinds not in _SEEDED:
        items = _ordered(value, items)
    return writer.open(type(value).__name__, items, None, lambda at: f".<member {_short(items[at])}>")


def _ordered(value: set[Any] | frozenset[Any], items: list[Any]) -> list[Any]:
    """Give the members so that a set that is made of them has their order, where one of three ways leads there."""
    wanted = list(value)
    for way in (items, wanted, wanted[::-1]):
        if all(map(is_, type(value)(way), wanted)):
            return way
    return items


def _hashed(items: list[Any]) -> None:
    """Refuse what finds its place by code of the user's: reading must not run that."""
    if not {*map(type, items)} <= HASHED:
        from memograd.codec._classes import hashed

        for item in items:
            hashed(item)


def _deque(writer: Writer, value: deque[Any]) -> list[int]:
    facts = None if value.maxlen is None else {"maxlen": value.maxlen}
    return writer.open("deque", list(value), facts)


def _slice(writer: Writer, value: slice) -> list[int]:
    parts = (value.start, value.stop, value.step)
    return writer.open("slice", parts, None, lambda at: (".start", ".stop", ".step")[at])


# Texts, bytes and numbers


def _str(writer: Writer, value: str) -> list[int]:
    raw = value.encode("utf-8", "surrogatepass")
    return writer.row("str", [writer.part("U8", [len(raw)], raw)])


def _bytes(writer: Writer, value: bytes) -> list[int]:
    return writer.row("bytes", [writer.part("U8", [len(value)], value)])


def _bytearray(writer: Writer, value: bytearray) -> list[int]:
    # Copied: a view would keep its owner from growing it.
    return writer.row("bytearray", [writer.part("U8", [len(value)], bytes(value))])


def _int(writer: Writer, value: int) -> list[int]:
    return writer.row("int", [f"{value:x}"])


def _float(writer: Writer, value: float) -> list[int]:
    return writer.row("float", [struct.pack("<d", value).hex()])


def _complex(writer: Writer, value: complex) -> list[int]:
    return writer.row("complex", [struct.pack("<dd", value.real, value.imag).hex()])


def _range(writer: Writer, value: range) -> list[int]:
    return writer.open("range", (value.start, value.stop, value.step))


def _decimal(writer: Writer, value: Decimal) -> list[int]:
    return writer.row("decimal", [str(value)])


def _fraction(writer: Writer, value: Fraction) -> list[int]:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > DIGITS:
        raise Refused(f"a fraction of more than {DIGITS} bits")
    return writer.open("fraction", (value.numerator, value.denominator))


def _uuid(writer: Writer, value: UUID) -> list[int]:
    return writer.row("uuid", [value.hex])


def _path(writer: Writer, value: pathlib.PurePath) -> list[int]:
    return writer.open(type(value).__name__, (str(value),))


def _singleton(writer: Writer, value: object) -> list[int]:
    return writer.row("singleton", ["..." if value is ... else "NotImplemented"])


# Dates


def _datetime(writer: Writer, value: datetime) -> list[int]:
    day = (value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond)
    return writer.open("datetime", (*day, value.fold, value.tzinfo), None, lambda _: ".tzinfo")


def _date(writer: Writer, value: date) -> list[int]:
    return writer.row("date", [value.year, value.month, value.day])


def _time(writer: Writer, value: time) -> list[int]:
    clock = (value.hour, value.minute, value.second, value.microsecond)
    return writer.open("time", (*clock, value.fold, value.tzinfo), None, lambda _: ".tzinfo")


def _timedelta(writer: Writer, value: timedelta) -> list[int]:
    return writer.row("timedelta", [value.days, value.seconds, value.microseconds])


def _timezone(writer: Writer, value: timezone) -> list[int]:
    return writer.open("timezone", cast("Any", value).__getinitargs__())


def _zoneinfo(writer: Writer, value: ZoneInfo) -> list[int]:
    if not value.key or not ZONE.fullmatch(value.key):
        raise Refused("a ZoneInfo without a key")
    return writer.row("zoneinfo", [value.key])


_MAPPINGS: dict[type, str] = {dict: "dict", OrderedDict: "OrderedDict", defaultdict: "defaultdict", Counter: "Counter"}
_ATTRIBUTED = frozenset({"OrderedDict", "Counter"})
WRITE: dict[type, Way] = {
    list: _list,
    tuple: _tuple,
    dict: _dict,
    OrderedDict: _dict,
    defaultdict: _defaultdict,
    Counter: _dict,
    set: _set,
    frozenset: _set,
    deque: _deque,
    slice: _slice,
    str: _str,
    bytes: _bytes,
    bytearray: _bytearray,
    int: _int,
    float: _float,
    complex: _complex,
    range: _range,
    Decimal: _decimal,
    Fraction: _fraction,
    UUID: _uuid,
    datetime: _datetime,
    date: _date,
    time: _time,
    timedelta: _timedelta,
    timezone: _timezone,
    ZoneInfo: _zoneinfo,
    type(...): _singleton,
    type(NotImplemented): _singleton,
    **dict.fromkeys(PATHS, _path),
}
