"""Nested values: which tensors they hold, in which order, and the same value with other tensors in their places."""

from __future__ import annotations

import copy
import dataclasses
from enum import Enum
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.utils import _pytree

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Parts = tuple[list[Any], Callable[[list[Any]], Any]]

_SCALARS = frozenset({int, float, complex, bool, str, bytes, type(None), type(...), range, slice})
_TORCH = (torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size)
# What code is, and what it reaches, is the fingerprint's to say.
_PLAIN = (*_TORCH, Enum, type, FunctionType, BuiltinFunctionType, ModuleType)
_NODES: dict[Any, Any] = _pytree.SUPPORTED_NODES


def is_plain(value: object) -> bool:
    """Tell whether a value holds no tensors and cannot be changed, so that equal ones are one."""
    return type(value) in _SCALARS or isinstance(value, _PLAIN)


def taken_apart(value: Any) -> Parts | None:
    """Give the parts of a container and what makes one like it of other parts; None for what is no container."""
    kind: Any = cast("Any", type(value))
    if kind is list or kind is tuple:
        return list(value), kind
    if hasattr(kind, "_make") and isinstance(value, tuple):
        return list(cast("Any", value)), kind._make
    if kind in _NODES:
        # Dictionaries, deques, and what libraries have registered with torch, such as the outputs of transformers.
        parts, context = _NODES[kind].flatten_fn(value)
        return list(parts), lambda new: _NODES[kind].unflatten_fn(new, context)
    return _fields(value) if dataclasses.is_dataclass(kind) else None


def _fields(value: Any) -> Parts:
    # Those without a value, and those that `__init__` does not know, are copied like the others.
    names = [field.name for field in dataclasses.fields(value) if hasattr(value, field.name)]

    def rebuilt(parts: list[Any]) -> Any:
        new = copy.copy(value)
        for name, part in zip(names, parts, strict=True):
            object.__setattr__(new, name, part)
        return new

    return [getattr(value, name) for name in names], rebuilt


class Seen:
    """What a walk over values met.

    Attributes:
        tensors: all of them, those of modules, too; `direct` are the others alone.
        others: objects that the walk cannot see into.
        pattern: which tensors are the same: for each the place where it was met first.
    """

    __slots__ = ("_places", "direct", "modules", "others", "pattern", "tensors")

    def __init__(self, value: Any) -> None:
        self.tensors: list[Tensor] = []
        self.direct: list[Tensor] = []
        self.others: list[Any] = []
        self.modules: list[nn.Module] = []
        stack, met = [value], dict[int, Any]()
        while stack:
            stack.extend(reversed(self._enter(stack.pop(), met)))
        self._places: dict[int, int] = {}
        self.pattern = [self._places.setdefault(id(x), place) for place, x in enumerate(self.tensors)]

    def _enter(self, value: Any, met: dict[int, Any]) -> list[Any]:
        if isinstance(value, Tensor):
            self.tensors.append(value)
            self.direct.append(value)
        elif isinstance(value, nn.Module):
            self.modules.append(value)
            self.tensors += [*value.parameters(), *value.buffers()]
        elif not is_plain(value) and id(value) not in met:
            met[id(value)] = value
            parts = taken_apart(value)
            if parts is not None:
                return parts[0]
            self.others.append(value)
        return []

    def place(self, tensor: Tensor) -> int | None:
        """Find where a tensor, the very object, was met first."""
        return self._places.get(id(tensor))

    def named(self, name: int) -> Tensor:
        """Give the tensor with this id."""
        return self.tensors[self._places[name]]


def swapped(value: Any, new: Mapping[int, Any], built: list[tuple[Any, list[Any]]] | None = None) -> Any:
    """Give the value with other tensors, named by the ids of the old.

    Args:
        built: gets each container that was made, and its parts; those in which nothing changed are not made anew.
            Without it all of them are: nobody else holds them, then.
    """
    if isinstance(value, Tensor):
        return new.get(id(value), value)
    parts = None if is_plain(value) or isinstance(value, nn.Module) else taken_apart(value)
    if parts is None:
        return value
    old, rebuild = parts
    swaps = [swapped(part, new, built) for part in old]
    if built is not None and all(a is b for a, b in zip(old, swaps, strict=True)):
        return value
    made = rebuild(swaps)
    if built is not None:
        built.append((made, swaps))
    return made


def is_as_built(made: Any, parts: list[Any]) -> bool:
    """Tell whether a container that `swapped` made holds the very parts that it was made of."""
    now = taken_apart(made)
    return now is not None and len(now[0]) == len(parts) and all(a is b for a, b in zip(now[0], parts, strict=True))
