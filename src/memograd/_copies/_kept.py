"""What a store holds of a result that can be changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memograd.store._size import size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from memograd._copies._plan import Plan


class Kept:
    """A result in a store.

    Attributes:
        give: makes of the bound arguments of a hit what its caller gets; MISSING if they are not made as those of the
            first call were (the result is a part of them), or if there is no memory for a copy: compute the call.
        same: what in it comes back as the same object, and can be spoiled therefore; empty if nothing does.
        value: what it holds, to be looked at; parts of the arguments are None there.
    """

    __slots__ = ("_plan", "give", "same", "value")

    def __init__(self, value: object, give: Callable[[Sequence[Any]], Any], same: str, plan: Plan | None) -> None:
        self.value = value
        self.give = give
        self.same = same
        self._plan = plan

    @property
    def lends(self) -> bool:
        """Tell whether a part of it is a part of the arguments."""
        return self._plan is not None and bool(self._plan.lends)

    def __repr__(self) -> str:
        return repr(self.value)

    def __sizeof__(self) -> int:
        held = [] if self._plan is None else [source for _, _, source in self._plan.makes]
        return object.__sizeof__(self) + size_of([self.value, held])


class Once:
    """A result that was read for one caller, and is not kept in memory.

    Attributes:
        value: what was read.
    """

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def give(self, _: Sequence[Any]) -> Any:
        """Give it."""
        return self.value

    def __repr__(self) -> str:
        return repr(self.value)
