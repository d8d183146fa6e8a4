"""`memo(f)`: the wrapper that stands in f's place, with f's own signature and the names that functools gave its own.

The wrapper is a plain function, so it is a method where f is one, and `copy`, `deepcopy` and `pickle` treat it as they
treat f. It is defined from source, as `dataclasses` does: Python itself binds keywords and defaults to one form, and a
hit on plain arguments is one look into a dictionary (about 1.3 times `functools.lru_cache(typed=True)`).
"""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from memograd._explain import Explanation, explain
from memograd._key import Binding
from memograd._recall import recall_of
from memograd._stats import CacheInfo, Stats, cache_info, stats
from memograd._wrapper import wrapper_of
from memograd.store._results import Results

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from threading import RLock
    from typing import Concatenate

    from memograd._key import Key
    from memograd._options import Options
    from memograd._recall import Recall
    from memograd._shelf import Store

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")
Q = ParamSpec("Q")
T = TypeVar("T")


class Memoized(Protocol[P, R_co]):
    """A function that remembers. What each name does is said where it is made, in `Names`."""

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
    def explain(self, *args: P.args, **kwargs: P.kwargs) -> Explanation: ...


def memoize(f: Callable[P, R_co], store: Store, lock: RLock, options: Options) -> Memoized[P, R_co]:
    """Wrap a function, a static or a class method. Raises `TypeError` for what cannot be remembered, by name."""
    if isinstance(f, (staticmethod, classmethod)):
        return _unwrapped(f, lambda inner: memoize(inner, store, lock, options))
    refuse(f)
    binding = Binding(f)
    recall = recall_of(f, binding, store, lock, options)
    wrapper: Any = functools.update_wrapper(wrapper_of(recall, binding), f)
    wrapper.__dict__.update(Names(recall).all())
    forgotten_with(wrapper, recall)
    return wrapper


def forgotten_with(wrapper: object, recall: Recall) -> None:
    """When the wrapper is gone nobody can ask for its results. The store is told, and must not keep it alive."""
    if isinstance(recall.shelf.store, Results):
        weakref.finalize(wrapper, recall.shelf.store.orphaned.append, recall.subject).atexit = False


def _unwrapped(method: Any, wrap: Callable[[Any], object]) -> Any:
    return type(method)(wrap(method.__func__))


def refuse(f: object) -> None:
    """Refuse what cannot be wrapped, saying what to write."""
    import inspect

    name = getattr(f, "__qualname__", type(f).__qualname__)
    if not callable(f):
        raise TypeError(f"memo() got {name if isinstance(f, type) else repr(f)}, expected a function; {_advice(f)}")
    for kind, advice in _EXCLUDED.items():
        if any(getattr(inspect, kind)(each) for each in (f, type(f).__call__)):
            raise TypeError(f"memo() got {name}(), {advice}")


_EXCLUDED = {
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


class Names:
    """What a wrapper carries: functools' names, and ours.

    Args:
        recall: the function in front of its store.
        bind: gives, of a call, the values of the parameters; None for the function's own.
    """

    def __init__(self, recall: Recall, bind: Callable[..., Sequence[Any]] | None = None) -> None:
        self._recall = recall
        self._bind = bind

    def _values(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Sequence[Any]:
        if self._bind is None:
            binding = Binding(self._recall.f)
            self._bind = binding.define(self._recall.subject.name, f"    return {binding.values}")
        return self._bind(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return Names, (self._recall,)

    def cache_key(self, /, *args: Any, **kwargs: Any) -> Key:
        """Give the key of a call. Raises `NoIdentityError` for an argument that has no content identity."""
        return self._recall.key(self._values(args, kwargs))

    def cached(self, /, *args: Any, **kwargs: Any) -> bool:
        """Tell whether a call would be answered without computing; counts as nothing."""
        return self._recall.holds(self._values(args, kwargs))

    def forget(self, /, *args: Any, **kwargs: Any) -> bool:
        """Remove the result of a call; tell whether there was one."""
        return self._recall.forget(self._values(args, kwargs))

    def explain(self, /, *args: Any, **kwargs: Any) -> Explanation:
        """Explain why a call is, or is not, remembered: what its key is made of, and what was said of the function."""
        return explain(self._recall, self._values(args, kwargs))

    def cache_info(self) -> CacheInfo:
        """Count hits, misses and entries, as `functools.lru_cache` does."""
        return cache_info(self._recall)

    def cache_clear(self) -> None:
        """Remove every result and begin to count anew."""
        self._recall.clear()

    def cache_parameters(self) -> dict[str, Any]:
        """Say what bounds the results, as `functools.lru_cache` does."""
        return {"maxsize": self._recall.shelf.max_entries, "typed": True}

    def stats(self) -> Stats:
        """Count what else happened, and give the account of seconds."""
        return stats(self._recall)

    def all(self) -> dict[str, Any]:
        """Give each by its name."""
        names = [name for name in vars(Names) if not name.startswith("_") and name != "all"]
        return {name: getattr(self, name) for name in names}
