"""What a call keeps elsewhere of what it has computed: a hit would leave there what an earlier call has computed.

A tensor that is written over by an equal one is a change that no comparison of contents sees, and it has another graph.
Looked through are the arguments and what the code reads, as far as they lead in a few steps.
"""

from __future__ import annotations

import functools
from collections import deque
from contextlib import suppress
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn
from torch.nn.modules import module as _modules

from memograd._replay._trees import SCALARS, is_plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

STASHES = "keeps a tensor that it has computed, beside its result; the result is not remembered"
_MANY = 1_000  # objects to look at
_ENDS = 100  # of a long list
_OWN = frozenset(vars(nn.Module()))
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_GLOBAL: list[dict[int, Any]] = [vars(_modules)[f"_global{name}"] for name in _HOOKS]
_PLAIN = (BuiltinFunctionType, ModuleType, type)


def stashes(values: Sequence[Any], start: int) -> bool:
    """Tell whether a tensor whose graph is no older than `start` can be reached from values."""
    stack, met = [*values, *(hook for hooks in _GLOBAL for hook in hooks.values())], dict[int, Any]()
    while stack and len(met) < _MANY:
        value = stack.pop()
        if isinstance(value, Tensor):
            if value.grad_fn is not None and cast("Any", value.grad_fn)._sequence_nr() >= start:
                return True
        elif id(value) not in met and (isinstance(value, FunctionType) or not is_plain(value)):
            met[id(value)] = value
            stack.extend(_within(value))
    return False


def _within(value: Any) -> Iterable[Any]:
    if isinstance(value, nn.Module):
        return _of_module(value)
    if isinstance(value, _PLAIN):
        return ()
    if isinstance(value, FunctionType):
        return _of_function(value)
    if isinstance(value, MethodType):
        return value.__self__, value.__func__
    if isinstance(value, functools.partial):
        made = cast("functools.partial[Any]", value)
        return made.func, *made.args, *made.keywords.values()
    return (*_items(value), *getattr(value, "__dict__", {}).values())


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        value = list(cast("dict[Any, Any]", value).values())
    if isinstance(value, (list, tuple, deque)):
        every = list(cast("Sequence[Any]", value))
        return every if len(every) < 2 * _ENDS else [*every[:_ENDS], *every[-_ENDS:]]
    return ()


def _of_module(module: nn.Module) -> Iterable[Any]:
    """Give what users have put on a module and those below: attributes and hooks."""
    stack, met, found = [module], set[nn.Module](), list[Any]()
    while stack:
        module = stack.pop()
        if module in met:
            continue
        met.add(module)
        own = vars(module)
        stack += [part for part in own["_modules"].values() if part is not None]
        found += [own[name] for name in own.keys() - _OWN if type(own[name]) not in SCALARS]
        for name in _HOOKS:
            if own[name]:
                found += own[name].values()
    return found


def _of_function(f: FunctionType) -> Iterable[Any]:
    yield from f.__defaults__ or ()
    yield from (f.__kwdefaults__ or {}).values()
    for cell in f.__closure__ or ():
        with suppress(ValueError):  # empty
            yield cell.cell_contents
    for name in f.__code__.co_names:
        if name in f.__globals__:
            yield f.__globals__[name]
