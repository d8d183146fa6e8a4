"""Values that are no functions and yet no data: what has a name in a library, and what is made of other values."""

from __future__ import annotations

import os
import sys
from functools import partial
from types import MethodType
from typing import Any, cast

from memograd.fingerprint._origin import library_of

# Their text says all that they are.
_BY_TEXT = frozenset(
    "torch.dtype torch.device torch.layout torch.memory_format typing.TypeVar typing.ParamSpec typing._SpecialForm "  # noqa: SIM905 - so it reads
    "typing._SpecialGenericAlias typing.ForwardRef typing._AnyMeta".split()
)


# Where libraries keep the generators that everybody draws from.
_STREAMS = (("random", "_inst"), ("numpy.random.mtrand", "_rand"), ("torch", "default_generator"))


def is_stream(value: Any) -> bool:
    """Tell whether a value is one of the global random streams."""
    return any(value is getattr(sys.modules.get(module), name, None) for module, name in _STREAMS) and value is not None


def content_of(value: Any) -> Any:
    """Give what holds the content of a value of the standard library that hides it."""
    return vars(os.environ)["_data"] if value is os.environ else value


def known_by_name(value: Any) -> str | None:
    """Give a name that says what a value is: that by which its library knows it, or its text."""
    kind = cast("type[Any]", type(value))
    library = library_of(kind.__module__)
    if library is None:
        return None
    named = f"{kind.__module__}.{kind.__qualname__}"
    if kind.__name__ == "_tuplegetter":
        return kind.__name__
    if named in _BY_TEXT:
        return f"{library} {named} {value!r}"
    return _name_in_module(value)


def _name_in_module(value: Any) -> str | None:
    try:
        name, module = value.__name__, getattr(value, "__module__", None)
    except Exception:  # noqa: BLE001 - some libraries raise other errors than AttributeError
        return None
    for place in (module, type(value).__module__, type(getattr(value, "__self__", None)).__module__):
        if isinstance(place, str) and isinstance(name, str) and _is(_found(place, name), value):
            return f"{library_of(place)} {place} {name}"
    return None


def _found(module: str, name: str) -> object:
    space: dict[str, object] = getattr(sys.modules.get(module), "__dict__", {})
    return None if library_of(module) is None else space.get(name)


def _is(found: object, value: object) -> bool:
    # A bound method is another object each time it is read.
    return found is value or (type(found) is type(value) is MethodType and found == value)


def parts_of(value: Any) -> dict[str, Any] | None:
    """Take a value apart that cannot change in what it is made of, such as a partial; None for all others."""
    kind = cast("type[Any]", type(value))
    if kind is tuple:
        return {f"[{index}]": item for index, item in enumerate(value)}
    if issubclass(kind, partial):
        named = {f".keywords[{name!r}]": item for name, item in value.keywords.items()}
        return {".func": value.func, ".args": value.args, **named}
    for base, names in _PARTS.items():
        if issubclass(kind, base):
            return {f".{name}": getattr(value, name) for name in names}
    return _of_stdlib(value, kind)


_PARTS: dict[type, tuple[str, ...]] = {
    MethodType: ("__func__", "__self__"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset", "fdel"),
}
_OF_FUNCTOOLS = {
    "_lru_cache_wrapper": ("__wrapped__",),
    "cached_property": ("func",),
    "partialmethod": ("func", "args", "keywords"),
    "singledispatchmethod": ("func", "dispatcher"),
}


def names_in_getter(value: Any) -> list[str]:
    """List the attributes that a getter of `operator` gets."""
    if type(value).__module__ != "operator":
        return []
    texts = [one for one in value.__reduce__()[1] if type(one) is str]
    return [name for text in texts for name in text.split(".")]


def _of_stdlib(value: Any, kind: type) -> dict[str, Any] | None:
    if kind.__module__ == "functools":
        names = _OF_FUNCTOOLS.get(kind.__name__)
        return None if names is None else {f".{name}": getattr(value, name) for name in names}
    if kind.__module__ == "operator":
        return {".args": value.__reduce__()[1]}
    if kind.__module__ == "re" and kind.__name__ == "Pattern":
        return {".pattern": value.pattern, ".flags": int(value.flags)}
    if kind.__module__ in {"typing", "types"} and hasattr(value, "__args__"):
        return {".__origin__": getattr(value, "__origin__", None), ".__args__": value.__args__}
    return None
