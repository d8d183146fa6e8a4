"""`memo(f)`: the wrapper that stands in f's place, with f's own signature and the names that functools gave its own.

The wrapper is a plain function, so it is a method where f is one, and `copy`, `deepcopy` and `pickle` treat it as they
treat f. It is defined from source, as `dataclasses` does: Python itself binds keywords and defaults to one form, and a
hit on plain arguments is one look into a dictionary (about 1.3 times `functools.lru_cache(typed=True)`).
"""

from __future__ import annotations

import functools
import sys
import weakref
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from memograd._events import listeners
from memograd._key import MISSING, Binding, Function
from memograd._recall import Recall
from memograd._stats import CacheInfo, Stats, cache_info, stats
from memograd.store._memory import Memory

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import RLock
    from typing import Concatenate

    from memograd._key import Key
    from memograd._recall import Store

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")
Q = ParamSpec("Q")
T = TypeVar("T")


class Memoized(Protocol[P, R_co]):
    """A function that remembers. What each name does is said where it is made, in `_names`."""

    @property
    def __wrapped__(self) -> Callable[P, R_co]: ...
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    @overload
    def __get__(self, instance: None, owner: type) -> Memoized[P, R_co]: ...
    @overload
    def __get__(self: Memoized[Concatenate[S, Q], T], instance: S, owner: type | None = None) -> Memoized[Q, T]: ...
    def cache_info(self) -> CacheInfo: ...
    def cache_clear(self) -> None: ...
    def cache_parameters(self) -> dict[str, Any]: ...
    def cache_key(self, *args: P.args, **kwargs: P.kwargs) -> Key: ...
    def cached(self, *args: P.args, **kwargs: P.kwargs) -> bool: ...
    def forget(self, *args: P.args, **kwargs: P.kwargs) -> bool: ...
    def stats(self) -> Stats: ...


def memoize(
    f: Callable[P, R_co], store: Store, lock: RLock, max_entries: int | None, strict: bool
) -> Memoized[P, R_co]:
    """Wrap a function, a static or a class method. Raises `TypeError` for what cannot be remembered, by name."""
    if isinstance(f, (staticmethod, classmethod)):
        return _unwrapped(f, lambda inner: memoize(inner, store, lock, max_entries, strict))
    refuse(f)
    binding = Binding(f)
    function = Function(getattr(f, "__name__", type(f).__name__), binding.names)
    recall = Recall(f, function, store, lock, max_entries, strict)
    wrapper: Any = functools.update_wrapper(_wrapper(recall, binding), f)
    wrapper.__dict__.update(_names(recall, binding))
    if isinstance(store, Memory):
        # When the wrapper is gone nobody can ask for its results. The store is told, and must not keep it alive.
        weakref.finalize(wrapper, store.orphaned.append, function).atexit = False
    return wrapper


def _unwrapped(method: Any, wrap: Callable[[Any], object]) -> Any:
    return type(method)(wrap(method.__func__))


def refuse(f: object) -> None:
    """Refuse what cannot be wrapped, saying what to write."""
    import inspect

    name = getattr(f, "__qualname__", type(f).__qualname__)
    if not callable(f):
        raise TypeError(f"memo() got {name if isinstance(f, type) else repr(f)}, expected a function; {_advice(f)}")
    if not isinstance(f, type) and hasattr(f, "state_dict") and hasattr(f, "named_parameters"):
        raise TypeError(
            f"memo() got the module {type(f).__name__}, expected a function; write memo.scan(module) for an nn.RNN, "
            "nn.LSTM or nn.GRU, and for others memoize a function of the tensors that its output depends on"
        )
    for kind, advice in _EXCLUDED.items():
        if any(getattr(inspect, kind)(each) for each in (f, type(f).__call__)):
            raise TypeError(f"memo() got {name}(), {advice}")


_EXCLUDED = {
    "iscoroutinefunction": "an async function, whose coroutine can be awaited once; memoize a plain function that it "
    "awaits the arguments of, or the part of it that computes",
    "isasyncgenfunction": "an async generator function, whose results are used up by being read; memoize a plain "
    "function that returns a list",
    "isgeneratorfunction": "a generator function, whose results are used up by being read; return a list or a tuple",
}


def _advice(f: object) -> str:
    if isinstance(f, property):
        return "write property(memo(getter)), or @property above @memo"
    if isinstance(f, int):
        return f"write @memo(max_entries={f!r}) for a bound, and @memo or memo(f) for a function"
    return "write @memo above a def, memo(f), or @memo(max_entries=..., store=...)"


def _wrapper(recall: Recall, binding: Binding) -> Any:
    """Define the wrapper; what it does is NOTE [hit]."""
    look, touches = _quick(recall)
    # Variadic arguments are never plain, and a foreign mapping must see a `Key`: both take the long way at once.
    # To look with a tuple of the arguments asks for their hash, which is what such a function is called for.
    asked_for = recall.function.name in {"__hash__", "__eq__"}
    body = _HIT if binding.probe and look is not None and not asked_for else _PLAIN
    touch = "; ".join(f"$touch_{index}($key)" for index in range(len(touches))) or "pass"
    guard = "with $lock:" if _FREE_THREADED else "if True:"
    return binding.define(
        recall.function.name,
        body.format(probe=binding.probe, call=binding.call, values=binding.values, touch=touch, guard=guard),
        function=recall.function,
        look=look,
        missing=MISSING,
        counts=recall.counts,
        listeners=listeners,
        lock=recall.lock,
        answer=recall.answer,
        error=Exception,
        nothing={},
        **{f"touch_{index}": touch for index, touch in enumerate(touches)},
    )


# NOTE [hit] Looking with a plain tuple finds the `Key` that it is equal to; only plain values are ever found so.
# An argument without a hash, and an entry that another thread evicts between two lines, raise: the long way answers.
# Under the GIL each line is atomic, the count too (no other thread runs within it); without, the lock makes them so.
_HIT = """\
    $key = {probe}
    try:
        {guard}
            $value = $look($key, $missing)
            if $value is not $missing and not $listeners:
                {touch}
                $counts.hits += 1
                return $value
    except $error: pass
    $values = {values}
    return $answer({call}, $values, None if $listeners else $key)
"""
_PLAIN = """\
    $values = {values}
    return $answer({call}, $values)
"""
_FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()


def _quick(recall: Recall) -> tuple[Callable[..., Any] | None, list[Callable[[Any], Any]]]:
    """Find how to look into the store in one call of C, and what notes that an entry was used."""
    touches: list[Callable[[Any], Any]] = [] if recall.order is None else [recall.order.move_to_end]
    store, kind = recall.store, type(recall.store)
    if isinstance(store, Memory):
        return store.entries.get, [store.entries.move_to_end, *touches]
    return store.get if kind is dict else None, touches


def _names(recall: Recall, binding: Binding) -> dict[str, Any]:
    """Make what the wrapper carries: functools' names, and ours."""
    bind = functools.cache(lambda: binding.define(recall.function.name, f"    return {binding.values}"))

    def cache_key(*args: Any, **kwargs: Any) -> Key:
        """Give the key of a call. Raises `NoIdentityError` for an argument that has no content identity."""
        return recall.key(bind()(*args, **kwargs))

    def cached(*args: Any, **kwargs: Any) -> bool:
        """Tell whether a call would be answered without computing; counts as nothing."""
        return recall.holds(bind()(*args, **kwargs))

    def forget(*args: Any, **kwargs: Any) -> bool:
        """Remove the result of a call; tell whether there was one."""
        return recall.forget(bind()(*args, **kwargs))

    return {
        "cache_info": functools.partial(cache_info, recall),
        "cache_clear": recall.clear,
        "cache_parameters": lambda: {"maxsize": recall.max_entries, "typed": True},
        "cache_key": cache_key,
        "cached": cached,
        "forget": forget,
        "stats": functools.partial(stats, recall),
    }
