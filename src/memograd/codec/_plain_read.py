"""Rows as plain values and containers: how each kind is read back.

Reading calls constructors of the standard library only, on what has been looked at; what is out of order raises
something, of which `decode` makes an `Unreadable`.
"""

from __future__ import annotations

import struct
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from math import gcd
from typing import TYPE_CHECKING, Any, Literal, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from memograd.codec._base import BY_NAME, DIGITS, Unreadable
from memograd.codec._plain import FACTORIES, PATHS, ZONE

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

    from memograd.codec._plain import Build
    from memograd.codec._read import Reader

# What is made of the items of a row, that is of its cells with rows in place of references.


def of(kinds: type | tuple[type, ...], items: list[Any], count: int) -> list[Any]:
    """Check that there are so many items of these kinds."""
    if len(items) != count or not all(isinstance(item, kinds) and not isinstance(item, bool) for item in items):
        raise Unreadable("a row whose cells are not what its kind has")
    return items


def _unhex(text: str, count: int) -> bytes:
    raw = bytes.fromhex(text)
    if len(raw) != count:
        raise Unreadable("a number of another length")
    return raw


def _read_int(_: Reader, items: list[Any], __: dict[str, Any]) -> int:
    return int(of(str, items, 1)[0], 16)


def _read_float(_: Reader, items: list[Any], __: dict[str, Any]) -> float:
    return struct.unpack("<d", _unhex(of(str, items, 1)[0], 8))[0]


def _read_complex(_: Reader, items: list[Any], __: dict[str, Any]) -> complex:
    real, imaginary = struct.unpack("<dd", _unhex(of(str, items, 1)[0], 16))
    return complex(real, imaginary)


def _read_bytes(reader: Reader, items: list[Any], _: dict[str, Any]) -> bytes:
    return bytes(reader.bytes_of(items[0]))


def _read_bytearray(reader: Reader, items: list[Any], _: dict[str, Any]) -> bytearray:
    return bytearray(reader.bytes_of(items[0]))


def _read_str(reader: Reader, items: list[Any], _: dict[str, Any]) -> str:
    return str(reader.bytes_of(items[0]), "utf-8", "surrogatepass")


def _read_tuple(reader: Reader, items: list[Any], facts: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(_unpacked(reader, facts) if facts else items)


_INTEGERS: dict[str, Literal["q"]] = {"I64": "q"}


def _unpacked(reader: Reader, facts: dict[str, Any]) -> list[Any]:
    span = reader.span(facts["items"])
    data = reader.data[span.begin : span.end]
    return data.cast("d").tolist() if span.dtype == "F64" else data.cast(_INTEGERS[span.dtype]).tolist()


def _read_set(reader: Reader, items: list[Any], _: dict[str, Any]) -> set[Any]:
    reader.hashed(items)
    return set(items)


def _read_frozenset(reader: Reader, items: list[Any], _: dict[str, Any]) -> frozenset[Any]:
    reader.hashed(items)
    return frozenset(items)


def _read_defaultdict(reader: Reader, items: list[Any], facts: dict[str, Any]) -> defaultdict[Any, Any]:
    made: defaultdict[Any, Any] = defaultdict(FACTORIES[facts["factory"]] if facts else None)
    _fill_dict(reader, made, items, facts)
    return made


def _read_deque(_: Reader, items: list[Any], facts: dict[str, Any]) -> deque[Any]:
    return deque(items, facts["maxlen"] if facts else None)


def _read_slice(_: Reader, items: list[Any], __: dict[str, Any]) -> slice:
    start, stop, step = items
    return slice(start, stop, step)


def _read_range(_: Reader, items: list[Any], __: dict[str, Any]) -> range:
    return range(*of(int, items, 3))


def _read_decimal(_: Reader, items: list[Any], __: dict[str, Any]) -> Decimal:
    return Decimal(of(str, items, 1)[0])


def _read_fraction(_: Reader, items: list[Any], __: dict[str, Any]) -> Fraction:
    over, under = of(int, items, 2)
    if max(over.bit_length(), under.bit_length()) > DIGITS or under <= 0 or gcd(over, under) != 1:
        raise Unreadable("a fraction that is none")
    return Fraction(over, under)


def _read_uuid(_: Reader, items: list[Any], __: dict[str, Any]) -> UUID:
    return UUID(bytes=_unhex(of(str, items, 1)[0], 16))


def _read_path(kind: type[pathlib.PurePath]) -> Build:
    return lambda _, items, __: kind(of(str, items, 1)[0])


def _read_singleton(_: Reader, items: list[Any], __: dict[str, Any]) -> object:
    return {"...": ..., "NotImplemented": NotImplemented}[of(str, items, 1)[0]]


def _zone(value: Any) -> Any:
    if type(value) not in {timezone, ZoneInfo, type(None)}:
        raise Unreadable("a time zone that is none")
    return value


def _read_datetime(_: Reader, items: list[Any], __: dict[str, Any]) -> datetime:
    *day, fold = of(int, items[:-1], 8)
    return datetime(*day, fold=fold, tzinfo=_zone(items[-1]))


def _read_date(_: Reader, items: list[Any], __: dict[str, Any]) -> date:
    return date(*of(int, items, 3))


def _read_time(_: Reader, items: list[Any], __: dict[str, Any]) -> time:
    *clock, fold = of(int, items[:-1], 5)
    return time(*clock, fold=fold, tzinfo=_zone(items[-1]))


def _read_timedelta(_: Reader, items: list[Any], __: dict[str, Any]) -> timedelta:
    return timedelta(*of(int, items, 3))


def _read_timezone(_: Reader, items: list[Any], __: dict[str, Any]) -> timezone:
    offset, *name = items
    of(timedelta, [offset], 1)
    zone = timezone(offset, *of(str, name, min(len(name), 1)))
    return timezone.utc if not name and not offset else zone


def _read_zoneinfo(_: Reader, items: list[Any], __: dict[str, Any]) -> ZoneInfo:
    key = of(str, items, 1)[0]
    if not ZONE.fullmatch(key):
        raise Unreadable("a time zone of an odd name")
    return ZoneInfo(key)


def _read_custom(_: Reader, items: list[Any], facts: dict[str, Any]) -> Any:
    custom = BY_NAME.get(facts["name"])
    if custom is None:
        raise Unreadable(f"a value of the kind {facts['name'][:50]!r}, which nobody has registered here")
    (packed,) = items
    return custom.unpack(packed)


BUILD: dict[str, Build] = {
    "tuple": _read_tuple,
    "set": _read_set,
    "frozenset": _read_frozenset,
    "defaultdict": _read_defaultdict,
    "deque": _read_deque,
    "slice": _read_slice,
    "str": _read_str,
    "bytes": _read_bytes,
    "bytearray": _read_bytearray,
    "int": _read_int,
    "float": _read_float,
    "complex": _read_complex,
    "range": _read_range,
    "decimal": _read_decimal,
    "fraction": _read_fraction,
    "uuid": _read_uuid,
    "datetime": _read_datetime,
    "date": _read_date,
    "time": _read_time,
    "timedelta": _read_timedelta,
    "timezone": _read_timezone,
    "zoneinfo": _read_zoneinfo,
    "singleton": _read_singleton,
    "custom": _read_custom,
    **{kind.__name__: _read_path(kind) for kind in PATHS},
}


# What may hold itself is made first, and filled when its row is reached.


def _make_ordered(_: dict[str, Any]) -> OrderedDict[Any, Any]:
    return OrderedDict()


def _make_counter(_: dict[str, Any]) -> Counter[Any]:
    return Counter()


def _fill_list(reader: Reader, made: list[Any], items: list[Any], facts: dict[str, Any]) -> None:
    made.extend(_unpacked(reader, facts) if facts else items)


def _fill_dict(reader: Reader, made: dict[Any, Any], items: list[Any], facts: dict[str, Any]) -> None:
    items = _without(made, items, facts)
    keys, values = _halves(items)
    reader.hashed(keys)
    dict.update(made, zip(keys, values, strict=True))


def _fill_ordered(reader: Reader, made: OrderedDict[Any, Any], items: list[Any], facts: dict[str, Any]) -> None:
    items = _without(made, items, facts)
    keys, values = _halves(items)
    reader.hashed(keys)
    for key, value in zip(keys, values, strict=True):
        made[key] = value


def _without(made: Any, items: list[Any], facts: dict[str, Any]) -> list[Any]:
    """Give attributes to a dictionary; give back the cells before theirs."""
    if "attributes" not in facts:
        return items
    names = facts["attributes"]
    if type(names) is not list or not all(type(name) is str for name in cast("Any", names)):
        raise Unreadable("a dictionary with attributes by no names")
    count = len(items) - len(cast("Any", names))
    if count < 0:
        raise Unreadable("a dictionary that lacks attributes")
    made.__dict__.update(zip(cast("Any", names), items[count:], strict=True))
    return items[:count]


def _halves(items: list[Any]) -> tuple[list[Any], list[Any]]:
    half = len(items) // 2
    return items[:half], items[half:]


FILL: dict[str, tuple[Callable[[dict[str, Any]], Any], Callable[[Reader, Any, list[Any], dict[str, Any]], None]]] = {
    "list": (lambda _: [], _fill_list),
    "dict": (lambda _: {}, _fill_dict),
    "OrderedDict": (_make_ordered, _fill_ordered),
    "Counter": (_make_counter, _fill_dict),
}
