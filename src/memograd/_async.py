"""Who computes, among the tasks of an event loop: a call runs in a task of its own, and all who want it wait for that.

So it belongs to nobody: who is cancelled goes, the first caller too, and the call goes on for those who are left. What
the plain program would show of it stays as it was:

- it runs in the context of the first caller, begins in the modes of torch that the first caller is in, and context
  variables that it sets are set for the first caller;
- when the last who waits is cancelled, so is the call, and that caller goes when the call has cleaned up behind it;
- what it raises is raised for all who wait, and not remembered.

Each loop is by itself; outside of asyncio's loops (trio's, say) calls are remembered, and each computes.
"""

from __future__ import annotations

import sys
from _thread import allocate_lock
from contextlib import nullcontext, suppress
from contextvars import ContextVar, copy_context
from functools import partial
from types import coroutine
from typing import TYPE_CHECKING, Any

from memograd._ambient._surroundings import modes_now
from memograd._events import Wait, listeners, tell
from memograd._held import leases_held
from memograd._key import MISSING

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from collections.abc import Awaitable, Callable, Generator, Hashable
    from contextvars import Context
    from typing import TypeAlias

    from memograd._ambient._torch import Modes
    from memograd._far import Far
    from memograd._held import Held
    from memograd._key import Key

    Place: TypeAlias = tuple[AbstractEventLoop, Hashable]


class Running:
    """A call in progress.

    task: runs it. waiting: how many wait for it. shared: what they are given, MISSING if it serves only the first.
    awaits: the calls that it waits for itself. context: what its context was in the end.
    """

    __slots__ = ("awaits", "context", "shared", "task", "waiting")
    task: Task[Any]

    def __init__(self) -> None:
        self.waiting = 0
        self.shared: Any = MISSING
        self.awaits: list[Running] = []
        self.context: Context | None = None


# Inside which call in progress this code runs, in whatever task.
_inside: ContextVar[Running | None] = ContextVar("memograd", default=None)
_OURS: tuple[ContextVar[Any], ...] = _inside, leases_held


class AsyncFlight:
    """The calls of async functions that are in progress, in every loop.

    Example:
        >>> import asyncio
        >>> flight, seen = AsyncFlight(), {}
        >>> async def compute():
        ...     await asyncio.sleep(0)
        ...     print("computed")
        ...     return 42
        >>> async def main():
        ...     async def put(value):
        ...         seen["key"] = value
        ...         return value
        ...     calls = (flight.answer("key", lambda: seen.get("key", MISSING), compute, put) for _ in range(3))
        ...     return await asyncio.gather(*calls)
        >>> asyncio.run(main())
        computed
        [42, 42, 42]
    """

    __slots__ = ("running",)

    def __init__(self) -> None:
        self.running: dict[Place, Running] = {}

    async def answer(
        self,
        key: Hashable,
        look: Callable[[], Any],
        compute: Callable[[], Awaitable[Any]],
        put: Callable[[Any], Awaitable[Any]],
        take: Callable[[Any], Any] = lambda shared: shared,
    ) -> Any:
        """Answer a call: from the store, from a call in progress, else by computing.

        Args:
            key: of the call; equal keys in progress in one loop are one call.
            look: gives what the store has, MISSING if nothing.
            compute: calls the function.
            put: remembers a result; gives what others may be given, MISSING if it serves the first caller alone.
            take: makes of that what one of the others is given, MISSING if it cannot.
        """
        value = look()
        if value is not MISSING:
            return value
        loop = _loop()
        if loop is None:
            return await _alone(compute, put)
        running = self.running.get((loop, key))
        if running is None:
            return await self.first((loop, key), compute, put)
        inside = _inside.get()
        if inside is not None and _leads_to(running, inside):
            # It would wait for itself: that is recursion, and how it ends is the user's.
            return await _alone(compute, put)
        if listeners:
            tell(Wait(key))
        await self.wait((loop, key), running)
        value = MISSING if running.shared is MISSING else take(running.shared)
        return await _alone(compute, put) if value is MISSING else value

    async def first(
        self, place: Place, compute: Callable[[], Awaitable[Any]], put: Callable[[Any], Awaitable[Any]]
    ) -> Any:
        """Begin a call in a task of its own, and wait for it."""
        before, running = copy_context(), Running()
        running.task = place[0].create_task(_run(running, compute, put, modes_now()))
        self.running[place] = running
        running.task.add_done_callback(lambda task: self.ended(place, running, task))
        try:
            return await self.wait(place, running)
        finally:
            _adopt(before, running.context)

    async def wait(self, place: Place, running: Running) -> Any:
        """Wait for a call in progress, and give or raise what it came to; cancel it if nobody waits any longer."""
        inside = _inside.get()
        awaits = [] if inside is None else inside.awaits
        awaits.append(running)
        running.waiting += 1
        try:
            return await self.outcome(place, running)
        finally:
            awaits.remove(running)
            running.waiting -= 1
            if not running.waiting:
                self.abandon(place, running)

    async def outcome(self, place: Place, running: Running) -> Any:
        """Wait for a call in progress; the last who does, once cancelled, waits for it to end."""
        import asyncio

        try:
            await asyncio.wait([running.task])
        except asyncio.CancelledError:
            if running.waiting > 1 or running.task.done():
                raise
            self.abandon(place, running)
            # What comes of it (a value, too) is what came of it in the plain program; a second cancellation reaches it.
            return await running.task
        return running.task.result()

    def abandon(self, place: Place, running: Running) -> None:
        """Cancel a call, and let nobody join it any more."""
        self.drop(place, running)
        if not running.task.done():
            # A loop that has been closed runs nothing, not even this.
            with suppress(RuntimeError):
                running.task.cancel()

    def ended(self, place: Place, running: Running, task: Task[Any]) -> None:
        """Note that a call has ended; an exception that nobody waits for any more is nothing to be logged."""
        self.drop(place, running)
        if not task.cancelled():
            task.exception()

    def drop(self, place: Place, running: Running) -> None:
        """Take a call from the table, if it is there."""
        if self.running.get(place) is running:
            del self.running[place]


async def beside(f: Callable[..., Any], *args: Any) -> Any:
    """Call what may wait for a disk or a server, without holding up the loop if it is one of asyncio's."""
    if _loop() is None:
        return f(*args)
    import asyncio

    return await asyncio.to_thread(f, *args)


async def to_its_end(f: Callable[..., Any], *args: Any) -> Any:
    """Call something as `beside` does: also when who waits for it is cancelled it is called, and goes on to its end."""
    ending = _sent(f, *args)
    if ending is None:
        return f(*args)
    import asyncio

    return await asyncio.shield(ending)


def _sent(f: Callable[..., Any], *args: Any) -> Awaitable[Any] | None:
    """Have something called in another thread; None where there is no loop that has one, any more."""
    loop = _loop()
    if loop is None:
        return None
    try:
        return loop.run_in_executor(None, partial(copy_context().run, f, *args))
    except RuntimeError:
        return None


class AsyncLease:
    """The lease of one call of an async function: waited for without holding up the loop, and given back.

    Args:
        far: who leases; None where there is nobody to agree with.

    Attributes:
        found: what was given was stored by another.
    """

    __slots__ = ("_closed", "_far", "_lease", "_lock", "found")

    def __init__(self, far: Far | None) -> None:
        self._far = far
        self._lease: Held | None = None
        self._lock = allocate_lock()
        self._closed = False
        self.found = False

    async def wait(self, key: Key) -> Any:
        """Take the lease; give what another has stored by then, MISSING if nothing."""
        if self._far is None or _loop() is None:
            return MISSING
        import asyncio

        pauses = self._far.pauses(key)
        while True:
            found = await beside(self._attempt, self._far, key)
            lease = self._lease
            pause = 0.0 if found is not MISSING or lease is not None else next(pauses, 0.0)
            if not pause:
                if lease is not None:
                    lease.enter(task=True)
                return found
            await asyncio.sleep(pause)

    def _attempt(self, far: Far, key: Key) -> Any:
        """Try to take the lease. When that is done nobody may wait for it any more: then it is given back at once."""
        found, lease = far.attempt(key)
        with self._lock:
            if not self._closed:
                self._lease, lease = lease, None
        far.release(lease)
        return found

    def release(self) -> None:
        """Give the lease back, also one that is still to come; a second time this does nothing."""
        with self._lock:
            lease, self._lease, self._closed = self._lease, None, True
        if self._far is not None:
            self._far.release(lease)

    def let_go(self) -> None:
        """Give the lease back as `release` does, without waiting for it."""
        lease = self._lease
        if lease is not None:
            lease.leave()
        if lease is None or not lease.live or _sent(self.release) is None:
            self.release()


async def _alone(compute: Callable[[], Awaitable[Any]], put: Callable[[Any], Awaitable[Any]]) -> Any:
    value = await compute()
    await put(value)
    return value


async def _run(
    running: Running, compute: Callable[[], Awaitable[Any]], put: Callable[[Any], Awaitable[Any]], modes: Modes | None
) -> Any:
    """Compute a call and remember its result."""
    _inside.set(running)
    try:
        value = await in_modes(modes, compute())
        running.shared = await put(value)
        return value
    finally:
        running.context = copy_context()


def in_modes(modes: Modes | None, body: Awaitable[Any]) -> Awaitable[Any]:
    """Begin a body in the modes of its caller."""
    return body if modes is None or modes == modes_now() else _begun_under(modes, body)


@coroutine
def _begun_under(modes: Modes, body: Awaitable[Any]) -> Generator[Any, Any, Any]:
    """Run a body whose first step is under the modes of its caller: the thread is in those of another task by now."""
    from memograd._ambient._torch import under

    steps: Any = body.__await__()
    advance, given, scope = steps.send, None, under(modes)
    try:
        while True:
            with scope:
                future: Any = advance(given)
            scope = nullcontext()
            try:
                advance, given = steps.send, (yield future)
            except BaseException as error:  # noqa: BLE001 - whatever is thrown in is the body's
                advance, given = steps.throw, error
    except StopIteration as stop:
        return stop.value


def _loop() -> AbstractEventLoop | None:
    # Who runs in a loop of asyncio's has imported it.
    if "asyncio" not in sys.modules:
        return None
    import asyncio

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _leads_to(running: Running, inside: Running) -> bool:
    """Tell whether a call in progress is `inside`, or waits for it, through others."""
    passed: set[Running] = set()
    ahead = [running]
    while ahead:
        each = ahead.pop()
        if each is inside:
            return True
        if each not in passed:
            passed.add(each)
            ahead += each.awaits
    return False


def _adopt(before: Context, after: Context | None) -> None:
    """Set for the caller what a call has set."""
    for variable, value in () if after is None else after.items():
        if variable not in _OURS and before.get(variable, MISSING) is not value:
            variable.set(value)
