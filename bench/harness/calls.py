"""Calls that are too short to be timed one by one, and functions that must be answered from memory to be compared."""

from __future__ import annotations

from importlib.util import find_spec
from timeit import Timer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def many(f: Callable[..., object], args: tuple[Any, ...], calls: int) -> Callable[[], float]:
    """Make a run of so many calls. The loop is in the time of whatever is compared.

    The call is written out, as a user writes it: `f(*args)` is cheap for what is written in C and dear for all else.
    """
    names = {f"x{index}": value for index, value in enumerate(args)}
    timer = Timer(f"f({', '.join(names)})", globals={"f": f, **names})
    return lambda: timer.timeit(calls)


def remembered(f: Any, *args: Any) -> Any:
    """Give back a wrapped function whose call with these arguments is a hit.

    Raises:
        AssertionError: it is not, so that there is no hit to be timed.
    """
    f(*args)
    before = f.cache_info().hits
    f(*args)
    assert f.cache_info().hits == before + 1, f"{f.__name__}() is not remembered, so there is no hit to be timed"
    return f


def installed(*names: str) -> bool:
    """Tell whether libraries that only serve for comparison are there."""
    return all(find_spec(name) is not None for name in names)
