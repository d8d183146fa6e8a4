"""Act one for async functions: as `_recall`, and the loop is never held up by a disk or a server."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from memograd._ambient._surroundings import modes_now
from memograd._async import AsyncFlight, AsyncLease, beside, in_modes, to_its_end
from memograd._before import Before
from memograd._errors import NoIdentityError
from memograd._key import MISSING
from memograd._single import ALONE, Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from memograd._key import Key
    from memograd._recall import Recall


async def answer(recall: Recall, args: Sequence[Any], kwargs: Mapping[str, Any], values: Sequence[Any]) -> Any:
    """Answer a call; `values` are those of the parameters, bound."""
    try:
        base = recall.subject.key(values)
    except NoIdentityError as error:
        recall.bypass(error)
        return await recall.f(*args, **kwargs)
    base, key, fetched = await _looked(recall, base, values)
    call = _Awaited(recall, args, kwargs, Before(recall.subject, base, key, values), fetched)
    if recall.tasks is None:
        recall.tasks = AsyncFlight()
    return await recall.tasks.answer(key, call.look, call.compute, call.put, call.take)


async def _looked(recall: Recall, base: Key, values: Sequence[Any]) -> tuple[Key, Key, Any]:
    """Look behind what is in memory; give the keys of a call, and what was found."""
    key, remembered = recall.draws.key(base), MISSING
    if recall.far is not None and recall.options.mode.looks and recall.shelf.peek(key) is MISSING:
        base, key, remembered = await beside(recall.found_far, base, key, values)
    recall.describe(key, values)
    return base, key, remembered


class _Awaited:
    """One call of an async function, in the steps that an `AsyncFlight` asks for."""

    def __init__(
        self, recall: Recall, args: Sequence[Any], kwargs: Mapping[str, Any], before: Before, fetched: Any
    ) -> None:
        self.recall = recall
        self.args, self.kwargs = args, kwargs
        self.before = before
        self.fetched = fetched
        self.lease = AsyncLease(recall.far if recall.options.mode.looks else None)
        self.modes = None if recall.far is None else modes_now()

    def look(self) -> Any:
        """Give what is remembered, MISSING if nothing is."""
        if not self.recall.options.mode.looks:
            return MISSING
        remembered = self.recall.shelf.peek(self.before.key)
        remembered = self.fetched if remembered is MISSING else remembered
        return MISSING if remembered is MISSING else self.take(remembered)

    def take(self, remembered: Any) -> Any:
        """Make of what is remembered what this caller is given."""
        value = self.recall.given(remembered, self.before.arguments)
        if value is not MISSING:
            self.recall.hit(self.before.key)
        return value

    async def compute(self) -> Any:
        """Compute, unless another process has done so by the time that it is our turn."""
        try:
            found = await self.lease.wait(self.before.key)
            value = MISSING if found is MISSING else self.take(self.recall.brought(self.before.key, found))
            self.lease.found = value is not MISSING
            if not self.lease.found:
                self.before.began = perf_counter()
                value = await in_modes(self.modes, self.recall.f(*self.args, **self.kwargs))
        except BaseException:
            self.lease.let_go()
            raise
        return value

    async def put(self, value: Any) -> Any:
        """Remember a computed result; give what others may be given, MISSING if it serves this caller alone."""
        turn, store = Turn(), None
        turn.value = ALONE
        try:
            if not self.lease.found:
                store = self.recall.put(None, self.before, value, turn, among_tasks=True)
        finally:
            if store is None:
                self.lease.let_go()
        if store is not None:
            await to_its_end(self.settle, store)
        return MISSING if turn.value is ALONE else turn.value

    def settle(self, store: Callable[[], None]) -> None:
        """Do what waits for the store, and let others compute."""
        try:
            store()
        finally:
            self.lease.release()
