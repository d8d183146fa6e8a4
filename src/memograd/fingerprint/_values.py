"""How the values of the language and its standard library are made of parts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from memograd.fingerprint._form import PLAIN, Form, Opaque, Unidentified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

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
    def write(value: set[object] | frozenset[object]) -> Form:
        # Elements have no order: each is written on its own, then they are sorted by what was written.
        from memograd.fingerprint._content import identify, leaf

        elements = tuple(value)
        if PLAIN.issuperset(map(type, elements)):
            return Form(tag, parts=sorted(map(leaf, elements)))
        try:
            contents = [identify(element) for element in elements]
        except Unidentified as error:
            raise Unidentified(error.reason, "{...}" + error.path) from error.__cause__
        if any(content.held for content in contents):
            return Form(tag + b" held", parts=(Held(frozenset(contents)),))
        return Form(tag, parts=sorted(content.stream for content in contents))

    return write


class Held:
    """Contents that were written already, as one value that stands for itself."""

    __slots__ = ("contents",)

    def __init__(self, contents: frozenset[object]) -> None:
        self.contents = contents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Held) and self.contents == other.contents

    def __hash__(self) -> int:
        return hash(self.contents)


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


def _zone(value: Any) -> Form | Opaque:
    return Opaque(value) if value.key is None else Form(b"zone", value.key.encode())


def _clock(tag: bytes) -> Writer:
    def write(value: Any) -> Form:
        # Two times in different zones may be equal and yet show different hours.
        text = f"{value.replace(tzinfo=None).isoformat()} {value.fold}"
        return Form(tag, text.encode(), parts=(value.tzinfo,), label=lambda _: ".tzinfo")

    return write


BY_TYPE: dict[type, Writer] = {
    tuple: _sequence(b"tuple"),
    list: _sequence(b"list"),
    dict: lambda value: _mapping(b"dict", value),
    type(int.__dict__): lambda value: _mapping(b"mappingproxy", value),
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


def kind_of(value: object) -> object:
    """Give the exact type of a value as a value: it stands for itself."""
    return type(value)


def of_enum(value: Any) -> Form:
    """Write a member of an enum: its class and its name; a nameless combination of flags by its value."""
    return Form(b"enum", parts=(kind_of(value), value._name_, value._value_ if value._name_ is None else None))


def of_dataclass(value: Any) -> Form:
    """Write a dataclass: its class, what it holds as a builtin, its fields, and attributes that are no fields."""
    from dataclasses import fields

    state = {field.name: getattr(value, field.name) for field in fields(value) if hasattr(value, field.name)}
    return _attributes(value, {**state, **_state(value)})


def of_subclass(value: Any) -> Form:
    """Write an instance of a subclass of a known type: its class, its content as that type, its attributes."""
    return _attributes(value, _state(value))


def _attributes(value: Any, state: Mapping[str, object]) -> Form:
    names = tuple(state)

    def label(index: int) -> str:
        return f".{names[index - 3]}" if index >= 3 else ""

    return Form(b"object", parts=[kind_of(value), _base(value), names, *state.values()], label=label)


def _base(value: object) -> object:
    """Give what a value is as the nearest type that is known."""
    for kind in type(value).__mro__[1:]:
        if kind in BASES:
            return BASES[kind](value)
        write = known(kind)
        if write is not None:
            # What it holds beside that, out of sight, its own equality may tell (nanoseconds of a datetime, say).
            own = () if type(value).__hash__ is None else (_As(value, Opaque),)  # pyright: ignore[reportUnnecessaryComparison]
            return (_As(value, write), *own)
    return None


def _state(value: object) -> dict[str, object]:
    """Collect the attributes of an instance: those in slots, and those in its dictionary in their order."""
    slots = {name: getattr(value, name) for name in _slots(type(value)) if hasattr(value, name)}
    own = {name: item for name, item in getattr(value, "__dict__", {}).items() if not _cached(type(value), name)}
    return {**slots, **own}


def _cached(kind: type, name: str) -> bool:
    # What a cached_property has left in the dictionary was there, uncomputed, before.
    return type(getattr(kind, name, None)).__name__ == "cached_property"


def _slots(kind: type) -> Iterable[str]:
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in {"__dict__", "__weakref__"}:
                private = name.startswith("__") and not name.endswith("__")
                yield f"_{base.__name__.lstrip('_')}{name}" if private else name
