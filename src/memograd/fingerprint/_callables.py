"""Code as a value: functions, classes, methods and modules, by what they do and what that reads."""

from __future__ import annotations

import sys
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import TYPE_CHECKING, Any

from memograd._errors import SOURCE
from memograd.fingerprint._form import Form, Reached, Unidentified

if TYPE_CHECKING:
    from memograd.fingerprint._code import Reach
    from memograd.fingerprint._form import Writer


def reached(value: Any) -> Reach:
    """Follow what code can reach."""
    from memograd.fingerprint._code import reach_of

    if not isinstance(value, type) or type(value) is type:
        return reach_of(value)
    # A class with a metaclass (an enum, an abstract class) may compare as it likes: here it is itself.
    held = _by_metaclass.get(id(value))
    if held is None or held[0] is not value or not held[1].guard():
        if len(_by_metaclass) >= _MOST:
            _by_metaclass.clear()
        held = _by_metaclass[id(value)] = value, reach_of(value)
    return held[1]


_by_metaclass: dict[int, tuple[object, Reach]] = {}
_MOST = 256


def of_code(tag: bytes) -> Writer:
    """Write a function or a class: what its code does, and what that reads."""

    def write(value: Any) -> Form:
        found = reached(value)
        own = _noted(value)
        paths = [f" -> {each.path}" for each in found.captured] + [f".{name}" for name in own]
        parts = [each.value for each in found.captured] + list(own.values())
        return Reached(tag + repr(list(own)).encode() if own else tag, found.stream, parts, paths.__getitem__)

    return write


def _noted(value: Any) -> dict[str, Any]:
    """Give the attributes of a function; what a memoized one carries is ours."""
    if not isinstance(value, FunctionType) or value.__code__.co_filename == SOURCE:
        return {}
    return {name: held for name, held in value.__dict__.items() if name != "__wrapped__"}


of_class = of_code(b"class")


def _method(value: MethodType) -> Form:
    return Form(b"method", parts=(value.__func__, value.__self__), label=lambda index: ".__self__" if index else "")


def _built_in(value: Any) -> Form:
    from memograd.fingerprint._origin import library_of

    owner = getattr(value, "__self__", None)
    place = getattr(value, "__objclass__", None)
    module = getattr(value, "__module__", None) or getattr(place, "__module__", None)
    name = f"{type(value).__name__} {library_of(module)} {value.__qualname__}"
    owner = None if isinstance(owner, ModuleType) else owner
    return Form(b"C", name.encode(), (place, owner), lambda index: ".__self__" if index else "")


def _module(value: ModuleType) -> Form:
    from memograd.fingerprint._origin import library_of

    library = library_of(value.__name__)
    if library is None or sys.modules.get(value.__name__) is not value:
        raise Unidentified(
            f"the module {value.__name__}, whose names may be bound anew; pass what is used of it", stands=True
        )
    return Form(b"module", f"{library} {value.__name__}".encode())


def _compiled(value: CodeType) -> Form:
    from memograd.fingerprint._bytecode import written

    return Form(b"code", written(value))


def of_partial(value: Any) -> Form:
    parts = (value.func, value.args, value.keywords, value.__dict__)
    return Form(b"partial", parts=parts, label=lambda index: ("", ".args", ".keywords", "")[index])


CALLABLES: dict[type, Writer] = {
    FunctionType: of_code(b"function"),
    MethodType: _method,
    ModuleType: _module,
    CodeType: _compiled,
    staticmethod: lambda value: Form(b"staticmethod", parts=(value.__func__,)),
    classmethod: lambda value: Form(b"classmethod", parts=(value.__func__,)),
    property: lambda value: Form(b"property", parts=(value.fget, value.fset, value.fdel)),
    BuiltinFunctionType: _built_in,
    MethodWrapperType: _built_in,
    MethodDescriptorType: _built_in,
    WrapperDescriptorType: _built_in,
    ClassMethodDescriptorType: _built_in,
    GetSetDescriptorType: _built_in,
    MemberDescriptorType: _built_in,
}
