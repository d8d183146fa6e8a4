"""Nested values: which tensors they hold, in which order, and the same value with other tensors in their places."""

from __future__ import annotations

import copy
import dataclasses
from enum import Enum
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils import _pytree

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    Parts = tuple[list[Any], Callable[[list[Any]], Any]]

SCALARS = frozenset({int, float, complex, bool, str, bytes, type(None), type(...), range, slice})
_TORCH = (torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size)
# What code is, and what it reaches, is the fingerprint's to say.
_PLAIN = (*_TORCH, Enum, type, FunctionType, BuiltinFunctionType, ModuleType)
_NODES: dict[Any, Any] = _pytree.SUPPORTED_NODES


def is_plain(value: object) -> bool:
    """Tell whether a value holds no tensors and cannot be changed, so that equal ones are one."""
    return type(value) in SCALARS or isinstance(value, _PLAIN)


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
        containers: those that it has gone into; `order` tells, in the order of the walk, which of them it met.
        reached: the ids of what it was told not to go into.
        pattern: which tensors are the same: for each the place where it was met first.
    """

    __slots__ = (
        "_beyond",
        "_indices",
        "_places",
        "containers",
        "direct",
        "modules",
        "order",
        "others",
        "pattern",
        "reached",
        "tensors",
    )

    def __init__(self, value: Any, beyond: Container[int] = ()) -> None:
        self.tensors: list[Tensor] = []
        self.direct: list[Tensor] = []
        self.others: list[Any] = []
        self.modules: list[nn.Module] = []
        self.containers: list[Any] = []
        self.order: list[int] = []
        self.reached: set[int] = set()
        self._beyond = beyond
        self._indices: dict[int, int] = {}
        # What is met must live until the walk ends: parts may be made for it alone.
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
        elif is_plain(value):
            return []
        elif id(value) in self._beyond:
            self.reached.add(id(value))
        elif id(value) in met:
            self.order.append(self._indices.get(id(value), -1))
        else:
            met[id(value)] = value
            parts = taken_apart(value)
            if parts is not None:
                self._indices[id(value)] = len(self.containers)
                self.order.append(len(self.containers))
                self.containers.append(value)
                return parts[0]
            self.others.append(value)
        return []

    def place(self, tensor: Tensor) -> int | None:
        """Find where a tensor, the very object, was met first."""
        return self._places.get(id(tensor))

    def named(self, name: int) -> Tensor:
        """Give the tensor with this id."""
        return self.tensors[self._places[name]]


class Built(NamedTuple):
    """A container that was made of another one."""

    old: Any
    new: Any


def swapped(
    value: Any, new: Mapping[int, Any], built: list[Built] | None = None, done: dict[int, Built] | None = None
) -> Any:
    """Give the value with other tensors and containers, named by the ids of the old. What is one stays one.

    Args:
        built: gets each container that was made; those in which nothing changed are not made anew.
            Without it all of them are: nobody else holds them, then.
        done: what was met so far.
    """
    if id(value) in new:
        return new[id(value)]
    if isinstance(value, (Tensor, nn.Module)) or is_plain(value):
        return value
    done = {} if done is None else done
    if id(value) not in done:
        done[id(value)] = Built(value, _remade(value, new, built, done))
    return done[id(value)].new


def _remade(value: Any, new: Mapping[int, Any], built: list[Built] | None, done: dict[int, Built]) -> Any:
    parts = taken_apart(value)
    if parts is None:
        return value
    old, rebuild = parts
    swaps = [swapped(part, new, built, done) for part in old]
    if built is None:
        return rebuild(swaps)
    if all(a is b for a, b in zip(old, swaps, strict=True)):
        return value
    built.append(Built(value, rebuild(swaps)))
    return built[-1].new


def content(container: Any) -> list[Any]:
    """List the very objects that make a container what it is: its keys, its parts, its attributes."""
    parts = taken_apart(container)
    attributes: dict[str, Any] = getattr(container, "__dict__", {})
    keys = list(cast("dict[Any, Any]", container)) if isinstance(container, dict) else []
    return [*keys, *(() if parts is None else parts[0]), *attributes, *attributes.values()]


def is_one(a: list[Any], b: list[Any]) -> bool:
    """Tell whether two lists hold the very same objects."""
    return len(a) == len(b) and all(x is y for x, y in zip(a, b, strict=True))
