"""What code runs in without being told: context variables, and the modes of torch where it is loaded."""

from __future__ import annotations

import sys
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from memograd._ambient._torch import Modes

R = TypeVar("R")


class Surroundings:
    """The surroundings of the moment in which this is made; a function can be run in them later, from elsewhere."""

    __slots__ = ("_context", "_modes")

    def __init__(self) -> None:
        self._context = copy_context()
        self._modes = modes_now()

    def run(self, f: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        """Call a function in these surroundings, in a copy of the context: what it sets there ends with it."""
        context = self._context.copy()
        if self._modes is None or self._modes == modes_now():
            return context.run(f, *args, **kwargs)
        from memograd._ambient._torch import under

        with under(self._modes):
            return context.run(f, *args, **kwargs)


def modes_now() -> Modes | None:
    """Read the modes of torch; None while it is not loaded, or just being loaded."""
    if not hasattr(sys.modules.get("torch"), "get_default_dtype"):
        return None
    from memograd._ambient._torch import read_modes

    return read_modes()


def modes_changed(before: Modes | None) -> list[str]:
    """Name the modes of torch that are no longer what they were."""
    now = modes_now()
    if now is before or now is None or before is None:
        return []
    pairs = zip(now._fields, before, now, strict=True)
    # The flags of CUDA are read from its first use on.
    return [name for name, then, by_now in pairs if then != by_now and (name != "cuda" or then)]
