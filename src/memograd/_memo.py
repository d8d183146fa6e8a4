"""The door to the verbs: a `Memo` remembers, and each verb says what the unit is.

`memo` is the default one: in memory, at most a quarter of what the process may use, nothing on disk.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from os import environ
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from memograd._call import memoize
from memograd._draws import RNG
from memograd._mode import mode_of
from memograd._recall import Options
from memograd.store._lock import new_lock
from memograd.store._memory import Memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from memograd._call import Memoized
    from memograd._scan._scan import Scan

P = ParamSpec("P")
R = TypeVar("R")


class Memo:
    """Remember what a program has already computed.

    Args:
        store: where results are kept: any mapping from keys to results, to be looked at at any time. None for memory
            that forgets what was used least recently.
        max_entries: the most results to hold of each function; None for any number.
        max_bytes: the most bytes to hold, by estimate, of all functions together; None for a quarter of the memory
            that the process may use (its cgroup and limits counted). Not together with a `store` of your own.
        strict: raise `NoIdentityError` for an argument that cannot be part of a key, in place of computing the call
            without remembering it and warning once.

    Raises:
        TypeError, ValueError: an argument is not what it should be; the message says what to write.

    Example:
        >>> store = {}
        >>> square = Memo(store)(lambda x: x * x)
        >>> square(3)
        9
        >>> store
        {<lambda>(x=3): 9}
    """

    def __init__(
        self,
        store: MutableMapping[Any, Any] | None = None,
        *,
        max_entries: int | None = None,
        max_bytes: int | None = None,
        strict: bool = False,
    ) -> None:
        _check("Memo", store, max_entries, max_bytes)
        self._lock = new_lock()
        self.store: MutableMapping[Any, Any] = Memory(max_bytes, self._lock) if store is None else store
        self._max_entries = max_entries
        self._strict = strict

    @overload
    def __call__(self, f: Callable[P, R]) -> Memoized[P, R]: ...
    @overload
    def __call__(
        self,
        *,
        store: MutableMapping[Any, Any] | None = None,
        max_entries: int | None = None,
        max_bytes: int | None = None,
        strict: bool | None = None,
        version: str | None = None,
        rng: str = "replay",
        copy: bool = True,
        mode: str = "use",
        always: bool = False,
        verify: float = 0.0,
    ) -> Callable[[Callable[P, R]], Memoized[P, R]]: ...
    def __call__(
        self,
        f: Any = None,
        *,
        store: MutableMapping[Any, Any] | None = None,
        max_entries: int | None = None,
        max_bytes: int | None = None,
        strict: bool | None = None,
        version: str | None = None,
        rng: str = "replay",
        copy: bool = True,
        mode: str = "use",
        always: bool = False,
        verify: float = 0.0,
    ) -> Any:
        """Remember the results of a function: a second call with the same arguments is not computed.

        The arguments are compared by exact type and content, nested too: 1, 1.0 and True differ, and so do 0.0 and
        -0.0; lists, dictionaries (in their order), sets, dataclasses, arrays and tensors are compared by what they
        hold at the time of the call, and so are objects, modules and functions, their code included. However arguments
        are passed (by position, by keyword, by default), equal calls are one call. Methods work: `self` is an argument.
        Exceptions are not remembered, None is.

        The function's own code counts, and the functions, classes and globals that it reaches; the modes of torch
        where it can reach torch; the states of the random streams that it draws from, which a hit moves, too.

        What can be changed comes back as a copy. Gradients flow through hits for as long as a result is in use. A
        recursion may be as deep as it likes (`fibonacci(100_000)`), under any recursion limit; a body far down may then
        be begun twice. Of threads, and of tasks, that ask for one result at once, one computes.

        Args:
            f: a function or method, async or not; without it, a decorator with the options below is given.
            store: keep this function's results in a mapping of your own.
            max_entries: the most results to hold; the least recently used goes first.
            max_bytes: give this function a memory of its own, of so many bytes.
            strict: raise for an argument without identity in place of computing and warning once.
            version: what the code is, in your words, in place of looking at it: change it when the code changes.
            rng: of a function that draws from a global random stream (`random`, `numpy.random`, `torch`): `"replay"`
                remembers a result for the stream's state, and a hit leaves the stream where the call would have;
                `"freeze"` gives the first draw for ever; `"refuse"` does not remember it.
            copy: give each caller a copy of a result that can be changed; False for callers who promise not to.
            mode: `"use"`; `"refresh"` computes and stores anew, `"read"` stores nothing, `"off"` is the plain function.
                So does `MEMOGRAD=off` in the environment for all of them.
            always: keep remembering where it does not pay, too.
            verify: the part of all hits to compute again and compare, 0.01 say; what differs is said and not given.

        Returns:
            A function with f's signature, and, by functools' names, `cache_info()`, `cache_clear()`,
            `cache_parameters()` and `__wrapped__`; besides, `cache_key(*args)`, `cached(*args)`, `forget(*args)` and
            `stats()`. Its `copy` and `deepcopy` are itself.

        Raises:
            TypeError: f is a generator function, a module or no function; the message says what to write.

        Example:
            >>> from memograd import memo
            >>> @memo
            ... def fibonacci(n):
            ...     return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)
            >>> fibonacci(50)
            12586269025
            >>> fibonacci.cache_info()
            CacheInfo(hits=48, misses=51, maxsize=None, currsize=51)
        """
        _check("memo", store, max_entries, max_bytes)
        _check_words(version, rng)
        if store is None:
            store = self.store if max_bytes is None else Memory(max_bytes, self._lock)
        entries = self._max_entries if max_entries is None else max_entries
        strictly = self._strict if strict is None else strict
        options = Options(entries, strictly, version, rng, copy, mode_of(mode, environ), always, verify)

        def decorate(f: Callable[P, R]) -> Memoized[P, R]:
            return memoize(f, store, self._lock, options)

        return decorate if f is None else decorate(f)

    def scan(self, module: nn.Module, *, engine: str = "auto") -> Scan:
        """Wrap a recurrent module so that every prefix which rows of a batch share is computed once.

        Nothing is kept between calls: the sharing is within one.

        Args:
            module: an `nn.RNN`, `nn.LSTM` or `nn.GRU`; its parameters are shared, not copied.
            engine: `"auto"` shares where that is faster, `"levels"` always, `"plain"` never.

        Returns:
            A module with the same signature, the same `state_dict` keys and the same outputs; `Scan.forward` says what
            its call takes besides.

        Raises:
            TypeError: the module is not one of these.
            ValueError: the engine is not known.

        Example:
            >>> import torch
            >>> from memograd import memo
            >>> gru = memo.scan(torch.nn.GRU(8, 16), engine="levels")
            >>> y, h = gru(torch.ones(5, 3, 8))
            >>> gru.receipt.steps, gru.receipt.nodes
            (15, 5)
        """
        from memograd._scan._scan import scan

        return scan(module, engine=engine)


def _check(who: str, store: object, max_entries: object, max_bytes: object) -> None:
    if store is not None and not isinstance(store, MutableMapping):
        raise TypeError(f"{who}() got {store!r} for a store, expected a MutableMapping; write {who}(store={{}})")
    if store is not None and max_bytes is not None:
        raise TypeError(f"{who}() got both a store and max_bytes; a store of your own bounds itself, leave one out")
    for name, bound in (("max_entries", max_entries), ("max_bytes", max_bytes)):
        if bound is not None and (not isinstance(bound, int) or isinstance(bound, bool)):
            raise TypeError(f"{who}() got {name}={bound!r}, expected an int or None; write {name}=1000")
        if bound is not None and bound < 0:
            raise ValueError(f"{who}() got {name}={bound}, expected 0 or more; write {name}=None for no bound")


def _check_words(version: object, rng: object) -> None:
    if version is not None and not isinstance(version, str):
        raise TypeError(f"memo() got version={version!r}, expected a str; write version={str(version)!r}")
    if rng not in RNG:
        raise ValueError(f"memo() got rng={rng!r}, expected one of {', '.join(map(repr, RNG))}")


memo = Memo()
