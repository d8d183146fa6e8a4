"""Copies of functions and modules to be tried: what a trial does to its copy is done to nobody else.

In the copies no weight is what it is: a path that is closed at first, by a weight of zero, say, is open there, so that
what mixes rows by it is seen before training opens it. What limits and scales (a single number, one a channel) is tried
far on either side of zero, too.
"""

from __future__ import annotations

import copy
import functools
from types import CellType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import nn

from memograd._rows._structure import Unfit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_CALLED: frozenset[type] = frozenset({FunctionType, MethodType, functools.partial})
_PART = 0.1  # of a weight's mean size: how far each number is moved
GATES = 2.0, -2.0  # what gates may be: relu, a sigmoid, a limit of one half let through, and do not


class Copy(NamedTuple):
    """A copy of a function.

    Attributes:
        f: the copy.
        modules: copies of the modules that it refers to.
    """

    f: Callable[..., Any]
    modules: Sequence[nn.Module]

    def set_gates(self, number: float) -> bool:
        """Let all weights that may be gates be this number; tell whether there are any."""
        gates = [p for p in _weights(self.modules) if p.dim() < 2]
        for p in gates:
            p.detach().fill_(number)
        return bool(gates)


def copied(f: Callable[..., Any]) -> Copy:
    """Copy a function, with all modules that it refers to. Raises `Unfit` for what cannot be copied."""
    made: list[nn.Module] = []
    try:
        found = _Copying(made).of(f)
    except Exception as error:
        raise Unfit(f"it cannot be copied to be tried: {error}") from error
    numbers = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in _weights(made):
            _move(p, numbers)
    return Copy(found, made)


def _weights(modules: Sequence[nn.Module]) -> Iterator[nn.Parameter]:
    for module in modules:
        yield from (p for p in module.parameters() if p.is_floating_point() and not p.is_meta and p.numel())


def _move(p: nn.Parameter, numbers: torch.Generator) -> None:
    size = float(p.abs().mean()) or 1.0
    p.add_(torch.empty(p.shape).uniform_(-_PART, _PART, generator=numbers).to(p) * size)


class _Copying:
    def __init__(self, made: list[nn.Module]) -> None:
        self.made = made
        self.memo: dict[int, Any] = {}

    def of(self, f: Any) -> Any:
        """Copy what is called; a function keeps its code, and refers to copies."""
        if isinstance(f, nn.Module):
            return self.module(f)
        if isinstance(f, MethodType):
            return MethodType(f.__func__, self.of(f.__self__))
        if isinstance(f, functools.partial):
            parts = cast("Any", f)
            keywords = {name: self.value(value) for name, value in parts.keywords.items()}
            return functools.partial(self.of(parts.func), *map(self.value, parts.args), **keywords)
        return self.function(f) if isinstance(f, FunctionType) else self.value(f)

    def module(self, module: nn.Module) -> nn.Module:
        if id(module) not in self.memo:
            copy.deepcopy(module, self.memo)
            self.made.append(self.memo[id(module)])
        return self.memo[id(module)]

    def function(self, f: FunctionType) -> FunctionType:
        cells = tuple(CellType(self.value(cell.cell_contents)) for cell in f.__closure__ or ())
        names = {name: f.__globals__[name] for name in f.__code__.co_names if name in f.__globals__}
        changed = {name: new for name, value in names.items() if (new := self.value(value)) is not value}
        # Without modules among its globals, a function's are the program's: it may look up others later.
        space = {**f.__globals__, **changed} if changed else f.__globals__
        made = FunctionType(f.__code__, space, f.__name__, f.__defaults__, cells)
        made.__kwdefaults__ = f.__kwdefaults__
        return made

    def value(self, value: Any) -> Any:
        """Copy what may hold weights: modules, and objects of classes of the user's."""
        if isinstance(value, nn.Module):
            return self.module(value)
        if type(value) in _CALLED:
            return self.of(value) if _is_users(value) else value
        if callable(value) and not isinstance(value, type) and hasattr(value, "__dict__") and _is_users(type(value)):
            held = copy.deepcopy(value, self.memo)
            self.made += [each for each in vars(held).values() if isinstance(each, nn.Module)]
            return held
        return value


def _is_users(value: Any) -> bool:
    module = str(getattr(value, "__module__", None) or "")
    return not module.startswith(("torch", "numpy", "memograd", "builtins"))
