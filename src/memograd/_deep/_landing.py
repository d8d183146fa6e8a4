"""The landing: computes a call, and before it each call that left for want of frames, always from the same place.

The rules are NOTE [deep] in `memograd._deep`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memograd._ambient._streams import read_streams, set_streams
from memograd._ambient._surroundings import Surroundings
from memograd._key import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from memograd._ambient._streams import State
    from memograd._key import Key

# Each of them stands for a whole stack, about 130 levels under the default recursion limit.
MOST_WAITING = 20_000
# As often as this a call may, begun again, not ask for what it had asked for before.
MOST_STRAYS = 100


class Call:
    """A call that is to be computed, and the name of its result; where it left from, once it has."""

    __slots__ = ("args", "f", "key", "kwargs", "surroundings")

    def __init__(self, key: Key, f: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self.key = key
        self.f = f
        self.args = args
        self.kwargs = kwargs
        self.surroundings: Surroundings | None = None

    def run(self) -> Any:
        """Run the body, in the surroundings of the place where it was asked for."""
        if self.surroundings is None:
            return self.f(*self.args, **self.kwargs)
        return self.surroundings.run(self.f, *self.args, **self.kwargs)


class Leave(BaseException):
    """Unwinds the stack to the landing. Not for you: catch `Exception`, or raise it again."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call = call
        self.streams = read_streams()
        call.surroundings = Surroundings()

    def __str__(self) -> str:
        return f"{self.call.key!r} is missing, and memograd is about to compute it from an emptier stack"


class Outcome:
    """What a call came to at the landing: a value or an exception, and the streams it left behind."""

    __slots__ = ("error", "streams", "traceback", "value")

    def __init__(self, value: Any, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.value = value
        self.error = error
        self.traceback = traceback
        self.streams = read_streams()

    def give(self) -> Any:
        """Give the value or raise the exception, as the call itself would have done."""
        if self.error is not None:
            raise self.error.with_traceback(self.traceback)
        return self.value


class Landing:
    """Calls that wait, the first of them for all the others, and what became of those that no longer do."""

    __slots__ = ("asked", "awaited", "handed", "raised", "strays", "waiting")

    def __init__(self, call: Call, handed: dict[Key, list[Outcome]]) -> None:
        # In the order of waiting; each with the streams that it begins with.
        self.waiting: dict[Key, tuple[Call, dict[str, State]]] = {call.key: (call, read_streams())}
        self.handed = handed
        self.asked: dict[Key, int] = {}
        self.awaited: Key | None = None
        self.strays = 0
        self.raised: dict[int, TracebackType | None] = {}

    def compute(self, attempt: Callable[[Call], Any]) -> Any:
        """Compute the first call. `attempt` runs one body and raises `Leave` for a call that is needed before."""
        while True:
            key, (call, _) = next(reversed(self.waiting.items()))
            outcome = self.outcome(attempt, call)
            if outcome is None:
                continue
            del self.waiting[key]
            if not self.waiting:
                return outcome.give()
            self.awaited = key
            self.handed.setdefault(key, []).append(outcome)
            self.begin_again()

    def outcome(self, attempt: Callable[[Call], Any], call: Call) -> Outcome | None:
        """Run a body. None: it left, and what it needs is now the last of those that wait."""
        self.asked.clear()
        try:
            return Outcome(attempt(call), None, None)
        except Leave as leave:
            leaving = leave
        except KeyboardInterrupt:
            # Somebody waits for the program to end: nothing is begun again for that.
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised again where the call was asked for
            # On the way up the same frames would be added at every level: those where it was raised are kept.
            return Outcome(None, error, self.raised.setdefault(id(error), error.__traceback__))
        return self.wait_for(leaving)

    def wait_for(self, leaving: Leave) -> Outcome | None:
        """Let a call wait for another. An outcome: the exception that this call comes to, as it needs itself."""
        key = leaving.call.key
        self.check(key)
        if key in self.waiting:
            error = RecursionError(f"{key!r} needs its own result: with these arguments the recursion has no end")
            return Outcome(None, error, self.raised.setdefault(id(error), None))
        _, (_, streams) = next(reversed(self.waiting.items()))
        # Most functions draw nothing: one state serves all who wait.
        self.waiting[key] = leaving.call, streams if leaving.streams == streams else leaving.streams
        self.begin_again()
        return None

    def begin_again(self) -> None:
        """Set the streams to what they were when the last of those that wait began."""
        _, (_, streams) = next(reversed(self.waiting.items()))
        set_streams(streams)

    def check(self, key: Key) -> None:
        """Give up on recursions that have no end, and on those that ask for something else each time."""
        first = next(iter(self.waiting))
        self.strays += self.awaited is not None
        self.awaited = None
        if len(self.waiting) > MOST_WAITING:
            raise RecursionError(f"{first!r} leads to calls without end, among them {key!r}")
        if self.strays > MOST_STRAYS:
            raise RecursionError(
                f"{first!r} leads to calls whose arguments differ each time, such as {key!r}, so it cannot be computed "
                "in parts; let them depend on its own arguments alone, or recur less deep"
            )

    def replay(self, key: Key) -> Any:
        """Give what a call came to here, if it did: its value, once, or its n-th exception when asked the n-th time."""
        if key == self.awaited:
            self.awaited = None
        outcomes = self.handed.get(key, ())
        turn = self.asked[key] = self.asked.get(key, -1) + 1
        if turn >= len(outcomes):
            return MISSING
        outcome = outcomes[turn]
        set_streams(outcome.streams)
        if outcome.error is None:
            # From now on it is remembered like any other.
            del self.handed[key]
        return outcome.give()

    def has_raised(self, error: Exception) -> bool:
        """Tell whether an exception is one that a call came to here."""
        return id(error) in self.raised
