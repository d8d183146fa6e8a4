"""What `memo.rows(f)` gives: a function, or a module over the very same state as the one that it wraps."""

from __future__ import annotations

import copy
import functools
from types import new_class
from typing import TYPE_CHECKING, Any

from torch import nn

from memograd._ambient._torch import leave_uncompiled

if TYPE_CHECKING:
    from collections.abc import Callable

    from memograd._rows._fill import Filled
    from memograd._rows._frozen import FrozenPart
    from memograd._rows._receipt import Receipt, RowsStats
    from memograd._rows._served import ServedRows

    Make = Callable[[Any], ServedRows]

NAMES = ("receipt", "stats", "cache_clear", "forget", "frozen_part", "fill")


class RowsModule(nn.Module):
    """A module by rows. Made by `memo.rows(module)`.

    Its parameters, buffers, submodules, hooks and attributes are those of the module; what is done to either is done to
    both. The names of `memo.rows` (`receipt`, `stats()`, `cache_clear()`, `forget()`) are there but for those that the
    module has itself.

    Attributes:
        __wrapped__: the module.
    """

    __slots__ = ("__again__", "__rows__", "__wrapped__")
    __wrapped__: nn.Module
    __rows__: ServedRows
    __again__: Make

    if TYPE_CHECKING:
        receipt: Receipt | None
        frozen_part: FrozenPart | None

        def stats(self) -> RowsStats: ...
        def cache_clear(self) -> None: ...
        def forget(self, *args: Any, **kwargs: Any) -> int: ...
        def fill(self, dataset: Any, batch_size: int = 64, **how: Any) -> Filled: ...

    def __init_subclass__(cls, **_: Any) -> None:
        """Tell no registry of the module's own of the class that is derived from it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Give what the module gives."""
        return self.__rows__.answer(args, kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name in NAMES:
                return _named(self.__rows__, name)
            raise

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *NAMES})

    def __repr__(self) -> str:
        return f"memo.rows({self.__wrapped__!r})"

    def __copy__(self) -> RowsModule:
        return rows_module(copy.copy(self.__wrapped__), self.__again__)

    def __deepcopy__(self, memo: dict[int, Any]) -> RowsModule:
        made = memo[id(self)] = rows_module(copy.deepcopy(self.__wrapped__, memo), self.__again__)
        return made

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return self.__rows__.for_worker() or (rows_module, (self.__wrapped__, self.__again__))


def rows_module(module: nn.Module, make: Make) -> RowsModule:
    """Give a module by rows over the state of another."""
    made: RowsModule = object.__new__(_derived(type(module)))
    for name, value in {
        "__dict__": module.__dict__,
        "__wrapped__": module,
        "__rows__": make(module),
        "__again__": make,
    }.items():
        object.__setattr__(made, name, value)
    return made


@functools.cache
def _derived(kind: type[nn.Module]) -> type[RowsModule]:
    names = {"__module__": kind.__module__, "__qualname__": f"Rows{kind.__qualname__}", "__doc__": kind.__doc__}
    return new_class(f"Rows{kind.__name__}", (RowsModule, kind), exec_body=lambda body: body.update(names))


class RowsFunction:
    """A function by rows. Made by `memo.rows(f)`.

    Attributes:
        __wrapped__: the function.
    """

    def __init__(self, f: Callable[..., Any], make: Make) -> None:
        functools.update_wrapper(self, f)
        self.__wrapped__ = f
        self._make = make
        self._rows = make(f)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Give what the function gives."""
        return self._rows.answer(args, kwargs)

    @property
    def receipt(self) -> Receipt | None:
        """What the last call did, None before the first."""
        return self._rows.receipt

    def stats(self) -> RowsStats:
        """Count what all calls did."""
        return self._rows.stats()

    def cache_clear(self) -> None:
        """Forget every row and begin to count anew."""
        self._rows.cache_clear()

    def forget(self, *args: Any, **kwargs: Any) -> int:
        """Forget the rows of a batch, for the function as it is now; count those that were there."""
        return self._rows.forget(args, kwargs)

    def fill(self, dataset: Any, batch_size: int = 64, **how: Any) -> Filled:
        """Compute and keep the rows of a dataset that are not there; as of a module."""
        return self._rows.fill(dataset, batch_size, **how)

    def __repr__(self) -> str:
        return f"memo.rows({self.__wrapped__!r})"

    def __copy__(self) -> RowsFunction:
        return self

    def __deepcopy__(self, memo: object) -> RowsFunction:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return self._rows.for_worker() or (RowsFunction, (self.__wrapped__, self._make))


def _named(rows: ServedRows, name: str) -> Any:
    def forget(*args: Any, **kwargs: Any) -> int:
        return rows.forget(args, kwargs)

    return forget if name == "forget" else getattr(rows, name)


# In a compiled caller, too, rows are remembered: the graph breaks there.
for _kind in (RowsModule, RowsFunction):
    leave_uncompiled(_kind.__call__.__code__)
    setattr(_kind.__call__, "_torchdynamo_disable", True)  # noqa: B010 - no attribute that a function is known to have
