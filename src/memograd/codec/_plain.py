"""Plain values and containers as rows: how each kind is written, and how it is read back.

Reading calls constructors of the standard library only, on what has been looked at; what is out of order raises
something, of which `decode` makes an `Unreadable`.
"""

from __future__ import annotations

import pathlib
import re
import struct
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from math import gcd
from operator import is_
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from memograd.codec._base import BY_NAME, DIGITS, Refused, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from memograd.codec._read import Reader
    from memograd.codec._write import Writer

    Way: TypeAlias = Callable[[Writer, Any], list[int]]
    Build: TypeAlias = Callable[[Reader, list[Any], dict[str, Any]], Any]
    Make: TypeAlias = Callable[[dict[str, Any]], Any]
    Fill: TypeAlias = Callable[[Any, list[Any], dict[str, Any]], None]

LONG = 16  # from so many on, equal kinds of numbers are written as a tensor
_SORTED: tuple[set[Any], ...] = ({str}, {int}, {bytes})
_SEEDED: tuple[set[Any], ...] = ({str}, {bytes})  # in another order in each process
_ZONE = re.compile(r"[A-Za-z0-9_+\-]{1,32}(/[A-Za-z0-9_+\-]{1,32}){0,3}")
FACTORIES: dict[str, type] = {
    kind.__name__: kind for kind in (list, dict, set, tuple, int, float, str, bytes, bool, frozenset)
}


def a(kind: type[Any]) -> str:
    """Name a kind as a message does."""
    return f"a {kind.__module__}.{kind.__qualname__}".replace("builtins.", "")


def odd(text: str) -> bool:
    """Tell whether a text has surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def inside(at: int) -> str:
    """Name what stands for a value, in a path."""
    return f".<packed>[{at}]" if at else ".<packed>"


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
    if not {*map(type, items)} <= _HASHED:
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
    if not value.key or not _ZONE.fullmatch(value.key):
        raise Refused("a ZoneInfo without a key")
    return writer.row("zoneinfo", [value.key])


_MAPPINGS: dict[type, str] = {dict: "dict", OrderedDict: "OrderedDict", defaultdict: "defaultdict", Counter: "Counter"}
_ATTRIBUTED = frozenset({"OrderedDict", "Counter"})
_PATHS: tuple[type[pathlib.PurePath], ...] = (
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
    pathlib.PosixPath,
    pathlib.WindowsPath,
)
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
    **dict.fromkeys(_PATHS, _path),
}
# What hashes without a user's code, whatever it holds.
_HASHED = {
    str, int, float, bool, bytes, complex, type(None), range, Decimal, Fraction, UUID, date, time, datetime, timedelta,
    timezone, ZoneInfo, type(...), type(NotImplemented), *_PATHS,
}  # fmt: skip


# Reading: what is made of the items of a row, that is of its cells with rows in place of references.


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
    if not _ZONE.fullmatch(key):
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
    **{kind.__name__: _read_path(kind) for kind in _PATHS},
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


def plain_keys(items: list[Any]) -> Iterator[Any]:
    """Give the items whose hash may not be plain."""
    return (item for item in items if type(item) not in _HASHED)


FILL: dict[str, tuple[Callable[[dict[str, Any]], Any], Callable[[Reader, Any, list[Any], dict[str, Any]], None]]] = {
    "list": (lambda _: [], _fill_list),
    "dict": (lambda _: {}, _fill_dict),
    "OrderedDict": (_make_ordered, _fill_ordered),
    "Counter": (_make_counter, _fill_dict),
}
