"""How the values of the language and its standard library are made of parts."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from memograd.fingerprint._callables import CALLABLES, of_partial
from memograd.fingerprint._file import File, of_file
from memograd.fingerprint._form import Form, Opaque, Unidentified, Unordered, kind_of, marshalled

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping

    from memograd.fingerprint._form import Writer


def _sequence(tag: bytes) -> Writer:
    return lambda value: Form(tag, parts=tuple(value))


def _mapping(tag: bytes, value: Mapping[Any, object], *extra: object) -> Form:
    """Write a mapping in its order, which a function can see."""
    items = tuple(value.items())
    flat = [*(cell for item in items for cell in item), *extra]

    def label(index: int) -> str:
        if index >= 2 * len(items):
            return ".default_factory"
        key = short(items[index // 2][0])
        return f"[{key}]" if index % 2 else f" key {key}"

    return Form(tag, parts=flat, label=label)


def short(value: object) -> str:
    """Show a key of a mapping in an error message, if it is short and plain."""
    text = repr(value) if type(value) in {int, str, bool, float, bytes} else type(value).__name__
    return text if len(text) <= 40 else f"{text[:37]}..."


def _set(tag: bytes) -> Writer:
    return lambda value: Unordered(tag, parts=tuple(value))


def _ordered(value: object) -> Mapping[Any, object]:
    # Whatever a subclass has overridden; and `dict.copy` would not know what was moved to an end.
    import collections

    base: Any = collections.OrderedDict
    return dict(base.items(value))


def _defaults(value: Any) -> Form:
    held: Any = BASES[dict](value)
    return _mapping(b"defaultdict", held, value.default_factory)


def _namespace(state: Mapping[str, object]) -> Form:
    names = tuple(state)
    parts = [names, *state.values()]
    return Form(b"namespace", parts=parts, label=lambda index: f".{names[index - 1]}" if index else "")


def _text(tag: bytes, text: Callable[[Any], str] = str) -> Writer:
    return lambda value: Form(tag, text(value).encode("utf-8", "surrogatepass"))


def _fields(tag: bytes, *attributes: str) -> Writer:
    def write(value: object) -> Form:
        parts = [getattr(value, name) for name in attributes]
        return Form(tag, parts=parts, label=lambda index: f".{attributes[index]}")

    return write


def _memoryview(value: memoryview) -> Form:
    return Form(f"memoryview {value.format} {value.shape}".encode(), value.tobytes())


def _array(value: Any) -> Form:
    return Form(b"array " + value.typecode.encode(), value.tobytes())


def _zone(value: Any) -> Form:
    if value.key is None:
        raise Unidentified("a time zone that was read from a file; pass zoneinfo.ZoneInfo(its name)")
    return Form(b"zone", value.key.encode())


def _clock(tag: bytes) -> Writer:
    def write(value: Any) -> Form:
        # Two times in different zones may be equal and yet show different hours.
        text = f"{value.replace(tzinfo=None).isoformat()} {value.fold}"
        return Form(tag, text.encode(), parts=(value.tzinfo,), label=lambda _: ".tzinfo")

    return write


def _singleton(value: object) -> Form:
    return Form(b"singleton", repr(value).encode())


def _bare_object(value: object) -> Opaque:
    from memograd.fingerprint._content import Identity

    return Opaque(Identity(value))


def _pattern(value: Any) -> Form:
    return Form(b"pattern", parts=(value.pattern, value.flags))


def _reduced(value: Any) -> Form:
    # Of these it is known that what they are pickled as is all that they are.
    return Form(b"made by", parts=(kind_of(value), *value.__reduce__()), label=lambda _: "")


BY_TYPE: dict[type, Writer] = {
    **CALLABLES,
    object: _bare_object,
    type(...): _singleton,
    type(NotImplemented): _singleton,
    File: of_file,
    tuple: _sequence(b"tuple"),
    list: _sequence(b"list"),
    dict: lambda value: _mapping(b"dict", value),
    MappingProxyType: lambda value: _mapping(b"mappingproxy", value),
    set: _set(b"set"),
    frozenset: _set(b"frozenset"),
    range: _fields(b"range", "start", "stop", "step"),
    slice: _fields(b"slice", "start", "stop", "step"),
    bytearray: lambda value: Form(b"bytearray", bytes(value)),
    memoryview: _memoryview,
}

_PATHS = ("PurePath", "PurePosixPath", "PureWindowsPath", "Path", "PosixPath", "WindowsPath")

BY_NAME: dict[str, Writer] = {
    "types.SimpleNamespace": lambda value: _namespace(value.__dict__),
    "array.array": _array,
    "collections.deque": lambda value: Form(b"deque " + str(value.maxlen).encode(), parts=tuple(value)),
    "collections.OrderedDict": lambda value: _mapping(b"OrderedDict", _ordered(value)),
    "collections.defaultdict": _defaults,
    "datetime.date": _text(b"date"),
    "datetime.timedelta": _fields(b"timedelta", "days", "seconds", "microseconds"),
    "datetime.datetime": _clock(b"datetime"),
    "datetime.time": _clock(b"time"),
    "datetime.timezone": _text(b"timezone", repr),
    "zoneinfo.ZoneInfo": _zone,
    "re.Pattern": _pattern,
    "types.GenericAlias": _fields(b"alias", "__origin__", "__args__"),
    "types.UnionType": _fields(b"union", "__args__"),
    "operator.itemgetter": _reduced,
    "operator.attrgetter": _reduced,
    "operator.methodcaller": _reduced,
    "_collections._tuplegetter": _reduced,
    "functools.cached_property": _fields(b"cached_property", "func", "attrname"),
    "functools._lru_cache_wrapper": _fields(b"lru_cache", "__wrapped__"),
    "decimal.Decimal": _text(b"decimal"),
    "fractions.Fraction": _fields(b"fraction", "numerator", "denominator"),
    **{f"{module}.{kind}": _text(kind.encode()) for module in ("pathlib", "pathlib._local") for kind in _PATHS},
}


def _whole(base: Any) -> Callable[[Any], object]:
    return lambda value: base.__getitem__(value, slice(None))


def _elements(base: Any) -> Callable[[Any], object]:
    return lambda value: base(base.__iter__(value))


# What a subclass of a builtin holds as that builtin, whatever the subclass has overridden.
BASES: dict[type, Callable[[Any], object]] = {
    int: int.__pos__,
    float: float.__pos__,
    complex: complex.__pos__,
    str: str.__str__,
    bytes: _whole(bytes),
    bytearray: _whole(bytearray),
    tuple: _whole(tuple),
    list: _whole(list),
    dict: dict.copy,
    set: _elements(set),
    frozenset: _elements(frozenset),
}


class _As:
    """A value as `write` takes it apart, which is not the way of its own type."""

    __slots__ = ("value", "write")

    def __init__(self, value: object, write: Writer) -> None:
        self.value = value
        self.write = write


BY_TYPE[_As] = lambda value: value.write(value.value)


def known(kind: type) -> Writer | None:
    """Find the writer of a type that is known by name: datetime, pathlib and others need not be imported for that."""
    module = str(kind.__module__)
    same = getattr(sys.modules.get(module), kind.__qualname__, None) is kind
    return BY_NAME.get(f"{module}.{kind.__qualname__}") if same else None


def of_enum(value: Any) -> Form:
    """Write a member of an enum: its class, its name and its value, and the attributes that it was given."""
    held = getattr(value, "__dict__", {})
    names = tuple(name for name in held if not name.endswith("_"))
    parts = [kind_of(value), value._name_, value._value_, *(held[name] for name in names)]
    return Form(b"enum", marshalled(names) if names else b"", parts)


def of_dataclass(value: Any) -> Form:
    """Write a dataclass: its class, what it holds as a builtin, its fields, and attributes that are no fields."""
    from dataclasses import fields

    state = {field.name: getattr(value, field.name) for field in fields(value) if hasattr(value, field.name)}
    return _attributes(value, {**state, **_state(value)})


def of_object(value: Any) -> Form:
    """Write an instance of a class: its class, its content as the nearest type that is known, its attributes."""
    if hasattr(kind_of(value), "__dataclass_fields__"):
        return of_dataclass(value)
    return _attributes(value, _state(value))


def _attributes(value: Any, state: Mapping[str, object]) -> Form:
    names = tuple(state)
    parts = [kind_of(value), _base(value), *state.values()]
    return Form(b"object", marshalled(names), parts, lambda index: f".{names[index - 2]}" if index >= 2 else "")


def _base(value: object) -> object:
    """Give what a value is as the nearest type that is known."""
    for kind in type(value).__mro__[1:]:
        if kind in BASES:
            return BASES[kind](value)
        write = known(kind)
        if write is not None:
            return _As(value, write)
    return None


def hides(kind: type) -> bool:
    """Tell whether C code has room in values of a class for more than its known base, slots and dictionary."""
    base = next((each for each in kind.__mro__ if each in BASES or known(each)), object)
    slots = len(_slots(kind, base))
    weak = kind.__weakrefoffset__ > 0 and base.__weakrefoffset__ <= 0
    # A managed dictionary (3.11 on) stands in front of the object.
    own = kind.__dictoffset__ != 0 and base.__dictoffset__ == 0 and not kind.__flags__ & 1 << 4
    room = base.__basicsize__ + (slots + weak + own) * tuple.__itemsize__
    return kind.__basicsize__ > room or kind.__itemsize__ != base.__itemsize__


def _state(value: object) -> dict[str, object]:
    """Collect the attributes of an instance: those in slots, and those in its dictionary in their order."""
    kind = type(value)
    base = next((each for each in kind.__mro__[1:] if each in BASES or known(each)), object)
    slots = {name: getattr(value, name) for name in _slots(kind, base) if hasattr(value, name)}
    # What a cached_property has left there counts, too: it may have been changed since, or assigned.
    own: dict[str, object] = getattr(value, "__dict__", {})
    before = _looking.back
    if before is not None and id(value) in before:
        new = kept_properties(value) - before[id(value)]
        own = {name: item for name, item in own.items() if name not in new}
    return {**slots, **own}


class _Looking(threading.local):
    back: Mapping[int, frozenset[str]] | None = None


_looking = _Looking()


def kept_properties(value: object) -> frozenset[str]:
    """Name what cached properties have left in an object."""
    kind, own = type(value), getattr(value, "__dict__", {})
    return frozenset(name for name in own if type(getattr(kind, name, None)).__name__ == "cached_property")


@contextmanager
def as_kept(before: Mapping[int, frozenset[str]]) -> Generator[None]:
    """Write objects, by their ids, without what their cached properties have computed since."""
    _looking.back = before
    try:
        yield
    finally:
        _looking.back = None


def _slots(kind: type, base: type) -> dict[str, None]:
    """List the slots that a class has beside those of a base."""
    return {
        _mangled(each, name): None for each in kind.__mro__ if each not in base.__mro__ for name in _own_slots(each)
    }


def _own_slots(kind: type) -> Iterable[str]:
    slots = kind.__dict__.get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else slots
    return (name for name in names if name not in {"__dict__", "__weakref__"})


def _mangled(kind: type, name: str) -> str:
    private = name.startswith("__") and not name.endswith("__")
    return f"_{kind.__name__.lstrip('_')}{name}" if private else name


def _random(value: Any) -> Form:
    import random

    if isinstance(value, random.SystemRandom):
        raise Unidentified("of type SystemRandom, which has no state to know; pass random.Random(a seed)")
    return Form(b"random", parts=random.Random.getstate(value), label=lambda _: "")


def _logger(value: Any) -> Form:
    # There is one of a name, and what is logged is no value.
    return Form(b"logger", value.name.encode())


BY_NAME.update(
    {
        "functools.partial": of_partial,
        "random.Random": _random,
        "random.SystemRandom": _random,
        "logging.Logger": _logger,
        "logging.RootLogger": _logger,
    }
)
