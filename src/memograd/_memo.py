"""The door to the verbs: a `Memo` remembers, and each verb says what the unit is.

`memo` is the default one: in memory, at most a quarter of what the process may use, nothing on disk.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from memograd._options import check_bounds, options_of
from memograd._place import place, tiers
from memograd.store._lock import new_lock
from memograd.store._results import Results, default_results

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from contextlib import AbstractContextManager
    from os import PathLike

    from torch import nn
    from typing_extensions import Unpack

    from memograd._call import Memoized
    from memograd._module import MemoModule
    from memograd._options import Along, How, Named
    from memograd._rows._make import HowRows
    from memograd._rows._module import RowsFunction, RowsModule
    from memograd._scan._cell._module import CellScan
    from memograd._scan._remember._book import Near
    from memograd._scan._remember._prefixes import Prefixes
    from memograd._scan._scan import Scan
    from memograd.store import Store

P = ParamSpec("P")
R = TypeVar("R")


class _Module(Protocol):
    """An `nn.Module`, to a type checker: one that finds no torch would take `nn.Module` itself for anything."""

    def eval(self) -> Any: ...  # without parameters, so that a class of modules is none
    def named_parameters(self, *args: Any, **kwargs: Any) -> Any: ...


class Remembering(Protocol):
    """A decorator with options: `memo(max_entries=1000)`."""

    @overload
    def __call__(self, f: _Module, /) -> MemoModule: ...
    @overload
    def __call__(self, f: Callable[P, R], /) -> Memoized[P, R]: ...


class Memo:
    """Remember what a program has already computed.

    Args:
        store: what outlives the process, behind what is in memory: a directory ("~/.cache/lab"), an address
            ("redis://host:6379/0") or a `Store`. Or any mapping from keys to results, to be looked at at any time. None
            for memory alone, which forgets what was used least recently.
        disk, shared: in place of `store`: a directory, and a store that is shared with others, one behind the other.
        max_entries: the most results to hold in memory of each function; None for any number.
        max_bytes: the most bytes to hold in memory, by estimate, of all functions together, as an int or as "2GiB";
            None for a quarter of the memory that the process may use (its cgroup and limits counted). Not together with
            a mapping of your own.
        memory: another name for `max_bytes`.
        salt: a word that keys in a store begin with: who says another one finds none of these results.
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
        store: Named | None = None,
        *,
        disk: Store | str | PathLike[str] | None = None,
        shared: Store | str | PathLike[str] | None = None,
        memory: int | str | None = None,
        max_entries: int | None = None,
        max_bytes: int | str | None = None,
        salt: str = "",
        strict: bool = False,
    ) -> None:
        check_bounds("Memo", max_entries, max_bytes)
        if (store is not None) + (disk is not None or shared is not None) > 1:
            raise TypeError("Memo() got a store, and disk= or shared= besides; write Memo(disk=..., shared=...)")
        if memory is not None and max_bytes is not None:
            raise TypeError("Memo() got both memory and max_bytes, which are one thing; leave one out")
        self._lock = store.lock if isinstance(store, Results) else new_lock()
        named = tiers("Memo", disk, shared) if store is None else store
        self._results = place("Memo", named, max_bytes if memory is None else memory, self._lock)
        self.store: MutableMapping[Any, Any] | Store = getattr(self._results, "behind", None) or self._results
        self._max_entries = max_entries
        self._strict = strict
        self._salt = salt
        self._near: Near | None = None

    def __repr__(self) -> str:
        behind = getattr(self._results, "behind", None)
        return f"<Memo: {self._results!r}>" if behind is None else f"<Memo: {self._results!r} in front of {behind!r}>"

    @overload
    def __call__(self, f: _Module, **how: Unpack[How]) -> MemoModule: ...
    @overload
    def __call__(self, f: Callable[P, R], **how: Unpack[How]) -> Memoized[P, R]: ...
    @overload
    def __call__(self, f: None = None, **how: Unpack[How]) -> Remembering: ...
    def __call__(self, f: Any = None, **how: Unpack[How]) -> Any:
        """Remember the results of a function or module: a second call with the same arguments is not computed.

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
            f: a function or method, async or not, or an `nn.Module`; without it, a decorator with the options below.
            store: keep this function's results elsewhere: in whatever `Memo` takes for a store.
            max_entries: the most results to hold; the least recently used goes first.
            max_bytes: give this function a memory of its own, of so many bytes, or "64MiB".
            strict: raise for an argument without identity in place of computing and warning once.
            version: what the code is, in your words, in place of looking at it: change it when the code changes.
            rng: of a function that draws from a global random stream (`random`, `numpy.random`, `torch`): `"replay"`
                remembers a result for the stream's state, and a hit leaves the stream where the call would have;
                `"freeze"` gives the first draw for ever; `"refuse"` does not remember it.
            copy: give each caller a copy of a result that can be changed; False for callers who promise not to.
            mode: `"use"`; `"refresh"` computes and stores anew, `"read"` stores nothing, `"off"` is the plain function.
                So does `MEMOGRAD=off` in the environment, read when a function is wrapped, for all of them.
            always: keep remembering where it does not pay, too.
            verify: the part of all hits to compute again and compare, 0.01 say; what differs is said and not given.
            live: bytes of autograd graphs to hold, "64MiB" say, beside those in use: a hit whose graph is gone runs the
                call again in backward.
            trust: `"versions"` takes a tensor for unchanged while its version counter is, and does not hash it again.
                Not seen are changes through `.data`, numpy arrays that share its memory, and C code.
            per: `"instance"` takes the first argument, `self`, for itself and not for what it holds, weakly. Not seen
                are changes of its attributes, of its weights, and of its class.
            salt: as for a `Memo`.
            ttl: how long a stored result is good for, in seconds or as "7d"; in memory it may be given for longer.
            tags: words to find stored results by.

        Returns:
            A function with f's signature, and, by functools' names, `cache_info()`, `cache_clear()`,
            `cache_parameters()` and `__wrapped__`; besides, `cache_key(*args)`, `cached(*args)`, `forget(*args)`,
            `explain(*args)` and `stats()`. Its `copy` and `deepcopy` are itself. Of a module, a module with the same
            state and these names, whose copies are of copies of the module.

        Raises:
            TypeError: f is a generator function, a scripted module or no function; the message says what to write.

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
        store = how.get("store")
        max_bytes, strict = how.get("max_bytes"), how.get("strict", self._strict)
        options = options_of(how, self._max_entries, strict=strict, salt=self._salt)
        behind = getattr(self._results, "behind", None)
        if store is not None:
            results = place("memo", store, max_bytes, self._lock)
        else:
            results = self._results if max_bytes is None else place("memo", behind, max_bytes, self._lock)

        from memograd._call import memoize  # half of what an import would take

        def decorate(f: Any) -> Any:
            if not _is_module(f):
                return memoize(f, results, self._lock, options)
            from memograd._module import Calling, memoize_module

            ours = {"max_entries": options.max_entries, "strict": strict, "salt": options.salt}
            # What is in memory does not travel with a pickled module; a store that lasts does.
            behind = getattr(results, "behind", None)
            said: Any = {**ours, **how, "store": behind if behind is not None and behind.lasting else None}
            return memoize_module(f, Calling(results, self._lock, options, partial(_again, said)))

        return decorate if f is None else decorate(f)

    def frozen(self, *modules: nn.Module) -> AbstractContextManager[None]:
        """Hash the weights of modules once, and not at every call, for as long as a `with` block lasts.

        A weight or buffer is taken for unchanged while its version counter is: what trains or loads weights in the
        block is seen. Not seen are changes through `.data`, numpy arrays that share memory, and C code; at the end of
        the block the weights are hashed once more, and such a change is warned of.

        Args:
            modules: any number of them.

        Raises:
            TypeError: one is no module.

        Example:
            >>> import torch
            >>> from memograd import memo
            >>> backbone = torch.nn.Linear(8, 4).eval()
            >>> features = memo(lambda x: backbone(x))
            >>> with torch.no_grad(), memo.frozen(backbone):
            ...     y = [features(torch.ones(2, 8)) for _ in range(3)]
            >>> features.cache_info().hits
            2
        """
        from memograd._frozen import Frozen

        return Frozen(modules)

    @overload
    def scan(  # pyright: ignore[reportOverlappingOverload] - the one overload is meant to come first
        self, module: nn.RNNBase, **how: Unpack[Along]
    ) -> Scan: ...
    @overload
    def scan(self, module: nn.Module | Callable[[Any, Any], tuple[Any, Any]], **how: Unpack[Along]) -> CellScan: ...
    def scan(
        self,
        module: Any,
        *,
        engine: str = "auto",
        budget: int | str | None = None,
        window: int | None = None,
        batch_first: bool = False,
        remember: bool = False,
        exact: str = "bits",
        salt: str = "",
        spill: bool | str | PathLike[str] = False,
    ) -> Any:
        """Wrap a recurrent module, or a cell, to be run along sequences.

        Of a recurrent module every prefix that rows of a batch share is computed once; with `remember`, without grad, a
        prefix that an earlier call has seen is resumed. A cell, `cell(x_t, carry) -> (y_t, carry)`, is run one step
        after the other, as JAX's `lax.scan` does: `ys, carry = memo.scan(cell)(xs, carry)`, time first.

        Args:
            module: an `nn.RNN`, `nn.LSTM` or `nn.GRU`; or a cell: a module or function of an input and a carry, each of
                them tensors, nested as you like; or one of torch's cells. Parameters are shared, not copied.
            engine: `"auto"` shares where that is faster, `"levels"` always, `"plain"` never.
            budget: bytes, as an int or as "256MiB", for what a training step keeps of a sequence: some of its states,
                and the steps that are on their way back. What is not kept is run again, and gives the same bits.
            window: gradients do not pass the steps that are multiples of it: truncated backpropagation, which is not
                the plain gradient. None for all to pass.
            spill: keep the states of a budget in a temporary file, and read each before it is needed; or the folder of
                that file. Memory then holds the piece at work and two states.
            batch_first: of a cell: whether its inputs and outputs are (B, T, ...) and not (T, B, ...).
            remember: under `no_grad` and in inference mode, remember states and outputs of prefixes, in this Memo's
                memory and store, and compute what is new alone.
            exact: `"bits"` resumes only where a probe has found the bits of the whole; `"rounding"` anywhere.
            salt: a word that names of remembered prefixes begin with: who says another one finds none of these.

        Returns:
            A module with the same signature, the same `state_dict` keys and the same outputs; `Scan.forward` and
            `CellScan.forward` say what its call takes.

        Raises:
            TypeError: the module is not one of these.
            ValueError: the engine is not known, or, in a call, the budget is too small: the message says the smallest.

        Example:
            >>> import torch
            >>> from memograd import memo
            >>> gru = memo.scan(torch.nn.GRU(8, 16), engine="levels")
            >>> y, h = gru(torch.ones(5, 3, 8))
            >>> gru.receipt.steps, gru.receipt.nodes
            (15, 5)
        """
        from memograd._module import MemoModule, memoize_module
        from memograd._scan._door import scan

        if exact not in ("bits", "rounding"):
            raise ValueError(f"memo.scan: got exact={exact!r}; expected 'bits' or 'rounding'.")
        prefixes = self._prefixes(exact, salt) if remember else None
        how: Any = {"engine": engine, "budget": budget, "window": window, "batch_first": batch_first, "spill": spill}
        if not isinstance(module, MemoModule):
            return scan(module, **how, prefixes=prefixes)
        # Of a module that remembers its calls, what shares prefixes remembers them, too.
        return memoize_module(scan(module.__wrapped__, **how, prefixes=prefixes), module.__memograd__.how)

    def _prefixes(self, exact: str, salt: str) -> Prefixes:
        from memograd._scan._remember._book import Book, Near
        from memograd._scan._remember._prefixes import Prefixes

        if self._near is None:
            self._near = Near(getattr(self._results, "max_bytes", None))
        behind = getattr(self._results, "behind", None)
        return Prefixes(Book(self._near, behind, f"{self._salt}:{salt}" if salt else self._salt), exact)

    @overload
    def rows(self, f: _Module, **how: Unpack[HowRows]) -> RowsModule: ...
    @overload
    def rows(self, f: Callable[..., Any], **how: Unpack[HowRows]) -> RowsFunction: ...
    @overload
    def rows(self, f: None = None, **how: Unpack[HowRows]) -> Callable[[Callable[..., Any]], RowsFunction]: ...
    def rows(self, f: Any = None, **how: Unpack[HowRows]) -> Any:
        """Wrap a function of batches so that no row is computed twice: not within a batch, and not across calls.

        Equal rows of a batch are computed once, and what comes back in backward is summed onto them, so that gradients
        to weights are those of the plain program. Where nothing goes back to weights (they are frozen, or grad is off),
        rows are remembered across calls, for what the function is at that moment: its code, weights, buffers, modes.

        A row's bits depend neither on the batch that it is in nor on what is remembered: missing rows are computed in
        sizes of batches that give a row the same bits, which are found by trying. What is no function of the row
        (dropout and batch statistics in train mode, attention across rows, a loss of the batch) is found, too, and
        then the call is the plain one; `receipt` says why.

        Args:
            f: a module or function that maps a batch to results per row: tensors, arrays, lists of texts, in tuples,
                dictionaries and dataclasses, all equally long. Without it, a decorator with the options below.
            dim: where tensors have their rows; those with fewer dimensions have them first.
            static: arguments that are not per row, by name or place; what has no length is none anyway.
            exact: `"bits"`: a row has the same bits in every batch; `"rounding"` computes rows in whatever batches.
            store: keep rows elsewhere: in whatever `Memo` takes for a store.
            name: as messages and the store's tables have it.
            max_bytes: the most bytes to hold in memory, an int or "64MiB"; None for an eighth of the process's.
            always: go on where it does not pay, too.
            strict: raise for an argument without identity in place of computing plainly and warning once.
            version: what the code is, in your words, in place of looking at it.
            frozen: of a partly frozen module remember the longest part that is frozen, and run the rest live; samples
                come again. `frozen_part` says what that is, and what ends it.
            dataset, count: name a dataset and say how many samples it has: calls with `index=` keep their rows in one
                mapped file, in the order of the dataset, each beside the digest of its sample.
            tokenizer, max_length: call f with a list of texts; each is padded to a length of its own, and so has the
                same bits in whatever company.
            per_worker: let workers of a `DataLoader` compute by themselves, in place of asking this process.

        Returns:
            A function, or a module over the same state, with `receipt`, `stats()`, `cache_clear()`, `forget(...)`,
            `fill(dataset)`.

        Raises:
            TypeError, ValueError: an option is not what it should be; the message says what to write.

        Example:
            >>> import torch
            >>> from memograd import Memo
            >>> backbone = torch.nn.Linear(8, 4).eval().requires_grad_(False)
            >>> features = Memo().rows(backbone)
            >>> x = torch.arange(40.0).reshape(5, 8)
            >>> y = features(torch.cat([x, x[:3]]))
            >>> features.receipt.rows, features.receipt.computed
            (8, 5)
            >>> torch.equal(features(x), y[:5]), features.receipt.hits
            (True, 5)
        """
        from memograd._rows._make import maker

        make = maker(how, self._results, self._lock, strict=self._strict, salt=self._salt)
        if f is None:
            return make
        # Of a module that remembers its calls, rows are those of the module.
        return make(f.__wrapped__ if _is_module(f) and hasattr(f, "__memograd__") else f)


def _is_module(f: object) -> bool:
    # Of a torch that is not loaded, or is just being imported, there are no modules.
    base: Any = getattr(getattr(sys.modules.get("torch"), "nn", None), "Module", None)
    return base is not None and isinstance(f, base)


def _again(how: How, module: nn.Module) -> MemoModule:
    """Wrap a module that was pickled within its wrapper. A store does not travel: the default `memo` remembers."""
    return memo(module, **how)


memo = Memo(default_results())
