"""What tells beforehand whether a call can be recorded: all of it but the data.

A flag among the arguments, or a module that trains, may lead to what cannot be recorded; the numbers in a tensor seldom
do. So calls that differ in those alone have one signature.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from types import FunctionType
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

from memograd._replay._trees import SCALARS, is_plain, taken_apart
from memograd.fingerprint._digest import hash_of
from memograd.fingerprint._form import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MANY = 10_000  # values to look at
_FLAGS: frozenset[type] = frozenset({bool, int, str, type(None)})
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def signature(values: Sequence[Any]) -> bytes:
    """Digest types, structure, plain values, and of modules and objects the plain attributes."""
    stack, met, told = list(values), dict[int, tuple[int, Any]](), list[object]()
    while stack and len(told) < _MANY:
        value = stack.pop()
        told.append(_name(kind_of(value)))
        if isinstance(value, Tensor):
            told += (value.dtype, value.requires_grad, value.is_leaf)
        elif is_plain(value):
            told.append(_plain(value))
        elif id(value) in met:
            told.append(met[id(value)][0])
        else:
            met[id(value)] = len(met), value
            for name, part in _within(value):
                # Most are flags of modules.
                if type(name) is str and type(part) in _FLAGS:
                    told += (name, part)
                else:
                    stack += (name, part)
            told.append(len(stack))
    return hash_of("xxh3")(repr(told).encode("utf-8", "surrogatepass"))


def attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """Give what users have put on an object, by name; on a module, beside its tensors and the modules in it."""
    of_torch = _OF_MODULES if isinstance(value, nn.Module) else frozenset[str]()
    own: dict[str, Any] = getattr(value, "__dict__", {})
    return ((name, part) for name, part in own.items() if name not in of_torch and not name.startswith("_memograd"))


_OF_MODULES = frozenset(vars(nn.Module())) - {"training"}


def _within(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, nn.Module):
        own = vars(value)
        yield from own["_modules"].items()
        yield from ((name, hook) for name in _HOOKS for hook in own[name].values())
    else:
        parts = taken_apart(value)
        if parts is not None:
            keys = list(cast("dict[Any, Any]", value)) if isinstance(value, dict) else range(len(parts[0]))
            yield from zip(keys, parts[0], strict=False)
    yield from attributes(value)


def _plain(value: Any) -> str:
    if type(value) in SCALARS:
        return repr(value)
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, FunctionType):
        return f"{value.__qualname__} {id(value.__code__)}"
    return _name(value) if isinstance(value, type) else str(value)


@lru_cache(1024)
def _name(kind: type[Any]) -> str:
    return f"{kind.__module__}.{kind.__qualname__} {id(kind)}"
