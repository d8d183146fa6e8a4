"""`memo(module)`: the module once more, with the same state and a call that remembers.

A `MemoModule` is an instance of a class derived from the module's own, over the very same `__dict__`: what is done to
either is done to both, and every method is the module's. Its call alone is another one: that of a function with the
module for an argument, so that weights, buffers, flags and hooks count by content, and no store keeps the module alive.
"""

from __future__ import annotations

import copy
import sys
import weakref
from operator import is_
from types import FunctionType, MethodType, new_class
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules import module as _torch_modules
from torch.nn.parameter import is_lazy

from memograd._ambient._torch import leave_uncompiled
from memograd._call import Names, forgotten_with
from memograd._key import Binding
from memograd._recall import recall_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from threading import RLock
    from typing import TypeAlias

    from memograd._explain import Explanation
    from memograd._key import Key
    from memograd._options import Options
    from memograd._recall import Recall
    from memograd._shelf import Store
    from memograd._stats import CacheInfo, Stats

    # What a function is called with, and the values of its parameters.
    _Bound: TypeAlias = tuple[Sequence[Any], Mapping[str, Any], Sequence[Any]]

NAMES = frozenset(
    {"cache_clear", "cache_info", "cache_key", "cache_parameters", "cached", "explain", "forget", "stats"}
)
_REGISTERS = ("_parameters", "_buffers", "_modules")
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_has_global_hooks: Callable[[], object] = _torch_modules._has_any_global_hook  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001


class Calling(NamedTuple):
    """How the calls of a module are remembered.

    Attributes:
        store: where results are kept.
        lock: guards it.
        options: as of a function.
        again: wraps an unpickled module; it is pickled itself.
    """

    store: Store
    lock: RLock
    options: Options
    again: Callable[[nn.Module], Any]


def memoize_module(module: nn.Module, how: Calling) -> MemoModule:
    """Give a module like `module` that remembers what its calls gave. Raises `TypeError`, saying what to write."""
    if isinstance(module, MemoModule):
        module = module.__wrapped__
    if isinstance(module, torch.jit.ScriptModule):
        raise TypeError(
            f"memo() got a {type(module).__name__}, which is compiled and cannot be looked into; write memo(module) "
            "for the module that it was made from"
        )
    return _over(module, how)


class MemoModule(nn.Module):
    """A module that remembers what its calls gave. Made by `memo(module)`.

    The names that every memoized function has are here, too, but for those that the module has itself.

    Attributes:
        __wrapped__: the module, whose parameters, buffers, submodules, hooks and attributes these are.
    """

    # All else is the module's own, and so is its namespace.
    __slots__ = ("__memograd__", "__wrapped__")
    __wrapped__: nn.Module
    __memograd__: _Calls

    if TYPE_CHECKING:

        def cache_info(self) -> CacheInfo: ...
        def cache_clear(self) -> None: ...
        def cache_parameters(self) -> dict[str, Any]: ...
        def cache_key(self, *args: Any, **kwargs: Any) -> Key: ...
        def cached(self, *args: Any, **kwargs: Any) -> bool: ...
        def forget(self, *args: Any, **kwargs: Any) -> bool: ...
        def stats(self) -> Stats: ...
        def explain(self, *args: Any, **kwargs: Any) -> Explanation: ...

    def __init_subclass__(cls, **_: Any) -> None:
        """Tell no registry of the module's own of the class that is derived from it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Give what the module gives."""
        calls = _calls_of(self)
        if calls is not None:
            calls.follows(self)
        # What traces knows modules by their place in a model, and this one is there.
        if calls is None or calls.derived is not type(self) or _is_traced():
            return super().__call__(*args, **kwargs)
        return calls.answer(args, kwargs)

    def __getattr__(self, name: str) -> Any:
        calls = None if name in MemoModule.__slots__ else _calls_of(self)
        if calls is not None and calls.follows(self):
            return getattr(self, name)
        if calls is not None and name in NAMES and not any(name in self.__dict__[each] for each in _REGISTERS):
            return getattr(calls.names(), name)
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        # Of the class of before, a property that the module has by now would be passed by.
        _followed(self)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        _followed(self)
        super().__delattr__(name)

    @property
    def __class__(self) -> type[nn.Module]:
        """The module's class: who derives another from it, to put in its place (a parametrization), means that one."""
        calls = _calls_of(self)
        return type(self) if calls is None else type(calls.module)

    @__class__.setter
    def __class__(self, kind: Any) -> None:
        calls = _calls_of(self)
        if calls is None:
            _own_class.__set__(self, kind)
        else:
            calls.becomes(self, kind)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *NAMES})

    def __repr__(self) -> str:
        calls = _calls_of(self)
        return super().__repr__() if calls is None else f"memo({calls.module!r})"

    def __copy__(self) -> MemoModule:
        calls = self.__memograd__
        return _over(copy.copy(calls.module), calls.how)

    def __deepcopy__(self, memo: dict[int, Any]) -> MemoModule:
        calls = self.__memograd__
        made = memo[id(self)] = _over(copy.deepcopy(calls.module, memo), calls.how)
        return made

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        calls = self.__memograd__
        return calls.how.again, (calls.module,)


# In a compiled caller, too, the call remembers: the graph breaks there.
leave_uncompiled(MemoModule.__call__.__code__)
setattr(MemoModule.__call__, "_torchdynamo_disable", True)  # noqa: B010 - no attribute that a function is known to have


def _over(module: nn.Module, how: Calling) -> MemoModule:
    calls = _Calls(module, how)
    made: MemoModule = object.__new__(calls.derived)
    for name, value in {"__dict__": module.__dict__, "__wrapped__": module, "__memograd__": calls}.items():
        object.__setattr__(made, name, value)
    return made


def _calls_of(made: MemoModule) -> _Calls | None:
    """Give what is remembered; None for what others have made of its class, without a module behind it."""
    try:
        return made.__memograd__
    except AttributeError:
        return None


def _followed(made: MemoModule) -> None:
    calls = _calls_of(made)
    if calls is not None:
        calls.follows(made)


# What `made.__class__` would be without a module behind it.
_own_class: Any = object.__dict__["__class__"]


def _is_traced() -> bool:
    tracer = sys.modules.get("torch.fx._symbolic_trace")
    tracing: bool = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    # The flag itself: to ask by name prints a warning of torch's.
    return tracing or torch.compiler.is_compiling() or getattr(tracer, "_is_fx_tracing_flag", False)


def _derived(kind: type[nn.Module]) -> type[MemoModule]:
    """Derive the class of the modules that remember from that of those that do not."""
    found = _kinds.get(id(kind))
    if found is None:
        names = {"__module__": kind.__module__, "__qualname__": f"Memo{kind.__qualname__}", "__doc__": kind.__doc__}
        try:
            found = new_class(f"Memo{kind.__name__}", (MemoModule, kind), exec_body=lambda body: body.update(names))
        except TypeError as error:
            raise TypeError(
                f"memo() got a module of type {kind.__qualname__}, from which no class can be derived: {error}; write "
                "a function that calls the module, and memoize that"
            ) from error
        _kinds[id(kind)] = found
    return found


# By number: a derived class holds the other one, so that a dictionary with both would never let go of them.
_kinds: weakref.WeakValueDictionary[int, type[MemoModule]] = weakref.WeakValueDictionary()


def _call(module: nn.Module, /, *args: Any, **kwargs: Any) -> Any:
    return module(*args, **kwargs)


def _taker(module: nn.Module) -> FunctionType:
    """Find the function that takes what the module is called with, and the module first; `_call` takes anything."""
    method: Any = module.forward if type(module).__call__ is nn.Module.__call__ else module.__call__
    taker = method.__func__ if type(method) is MethodType else _call
    named = type(taker) is FunctionType and taker.__code__.co_argcount and not hasattr(taker, "__signature__")
    return taker if named else _call  # pyright: ignore[reportReturnType]


class _Calls:
    """The calls of one module, in front of a store.

    Attributes:
        derived: the class of a `MemoModule` over a module of the class that it has now.
    """

    def __init__(self, module: nn.Module, how: Calling) -> None:
        self.module = module
        self.how = how
        self.kind = type(module)
        self.derived = _derived(self.kind)
        self._is_whole = False
        self._mark: tuple[object, ...] = ()
        self._recall: Recall | None = None
        self._bind: Callable[..., Any] = _call

    def follows(self, made: MemoModule) -> bool:
        """Take on the class that the module has by now: lazy ones get another, and so do those with parametrizations.

        Tells whether there was anything to do.
        """
        kind = type(self.module)
        if kind is self.kind or type(made) is not self.derived:
            return False
        self.kind, self.derived = kind, _derived(kind)
        _own_class.__set__(made, self.derived)
        return True

    def becomes(self, made: MemoModule, kind: type[nn.Module]) -> None:
        """Give the module another class. Raises `TypeError` where none can be derived from it, and changes nothing."""
        _derived(kind)
        self.module.__class__ = kind
        self.follows(made)

    def answer(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Answer a call."""
        recall = self.recall() if self._has_weights() else None
        try:
            bound = None if recall is None else self.bound(args, kwargs)
        except TypeError:
            bound = None  # the module says what is wrong, in its own words
        return self.module(*args, **kwargs) if recall is None or bound is None else recall.answer(*bound)

    def _has_weights(self) -> bool:
        """Tell whether no weight waits for the first call to get its shape."""
        if not self._is_whole:
            self._is_whole = not any(map(is_lazy, (*self.module.parameters(), *self.module.buffers())))
        return self._is_whole

    def recall(self) -> Recall:
        """Give the function that calls the module, in front of its store: another one where its parameters change."""
        taker = _taker(self.module)
        mark = type(self.module), taker, taker.__code__, taker.__defaults__, *(taker.__kwdefaults__ or {}).values()
        if self._recall is None or len(mark) != len(self._mark) or not all(map(is_, mark, self._mark)):
            before = self._recall
            self._recall, self._bind = self._bound_as(taker)
            self._mark = mark
            if before is not None:
                self._recall.shelf.counts = before.shelf.counts
        return self._recall

    def _bound_as(self, taker: FunctionType) -> tuple[Recall, Callable[..., Any]]:
        name, binding = type(self.module).__name__, Binding(taker)
        store, lock, options, _ = self.how
        recall = recall_of(_call, binding, store, lock, options, name)
        forgotten_with(recall, recall)
        body = f"    $values = {binding.values}\n    return {binding.call}, $values"
        return recall, binding.define(name, body, nothing={})

    def bound(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Bound:
        """Bind a call: what to call `_call` with, and the values of the parameters. Raises `TypeError` as calls do."""
        module = self.module
        given, named, values = self._bind(module, *args, **kwargs)
        if not (any(getattr(module, hooks) for hooks in _HOOKS) or _has_global_hooks()):
            return given, named, values
        # Hooks see what is passed by position and what by keyword, and may go by that.
        own = module if self.how.options.per else (module, len(args), tuple(kwargs))
        return (module, *args), kwargs, (own, *values[1:])

    def names(self) -> Names:
        """Give what a memoized function carries."""
        return Names(self.recall(), lambda *args, **kwargs: self.bound(args, kwargs)[2])
