"""Functions that draw from random streams: their results depend on the streams' states, and a hit moves the streams.

That a call draws is seen when it is first computed. From then on its key is a *signpost*: it says which streams the
result depends on, and the full key has their states. With the result it is remembered where the streams were left, and
a hit leaves them there, so that a memoized run draws what the plain run draws.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from memograd._ambient._streams import are_generators, are_states, read_streams, set_generators, set_streams
from memograd._key import CONTENT, Function, Key
from memograd.fingerprint._content import identify

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from memograd._ambient._streams import State
    from memograd._before import Before


class Drawn:
    """A result, and where the call that gave it left the streams, and the generators among its arguments.

    Attributes:
        sound: whether streams can be left there; of what was read from a store that is yet to be seen.
    """

    __slots__ = ("after", "generators", "sound", "value")

    def __init__(self, value: Any, after: dict[str, State], generators: dict[int, Any], *, sound: bool = True) -> None:
        self.sound = sound
        self.value = value
        self.after = after
        self.generators = generators

    def __repr__(self) -> str:
        return f"{self.value!r} (drawn from {', '.join(self.after) or 'a generator'})"


class Signpost(NamedTuple):
    """What stands under a base key in place of a result.

    Attributes:
        streams: the random streams that the call draws from: the full key has their states.
        effects: what the code changes itself, which is no input: the full key has none of it.
    """

    streams: tuple[str, ...] = ()
    effects: tuple[str, ...] = ()


class Draws:
    """What is known of the draws of one function.

    Attributes:
        signposts: the streams that the call of a key draws from.
    """

    def __init__(self) -> None:
        self.signposts: dict[Key, tuple[str, ...]] = {}
        self._functions: dict[Function, Function] = {}

    def key(self, base: Key) -> Key:
        """Give the full key of a call: with the states of the streams that it draws from, where it does."""
        names = self.signposts.get(base) if self.signposts else None
        if names is None:
            return base
        states = read_streams(names)
        return self._full(base, states)

    def move(self, remembered: Drawn, values: Sequence[Any]) -> bool:
        """Move streams and generators as the call has moved them; tell whether that can be."""
        if not remembered.sound:
            remembered.sound = are_states(remembered.after) and are_generators(values, remembered.generators)
        if not remembered.sound:
            return False
        set_streams(remembered.after)
        set_generators(values, remembered.generators)
        return True

    def beside(self, aside: Callable[[], Any], call: Callable[[], Any]) -> tuple[Any, Any]:
        """Make a call that leaves no trace in the streams, from the same states as another that does."""
        states = read_streams()
        value = aside()
        set_streams(states)
        return value, call()

    def told(
        self, rng: str, before: Before, key: Key, drawn: Mapping[str, State], value: Any, *, among_tasks: bool
    ) -> tuple[str, Key, Any]:
        """Learn that a call has drawn: why its result is not to be remembered, else under which key, and as what."""
        names = tuple(drawn)
        generators = before.moved_generators()
        if not names:
            return "", key, Drawn(value, {}, generators) if generators else value
        if rng == "freeze":
            return "", before.key, value
        if rng == "refuse":
            return f"draws from {', '.join(names)}; the result is not remembered", before.key, value
        if among_tasks or not before.was_alone():
            others = "tasks" if among_tasks else "threads"
            reason = f"while other {others} run, which may have drawn, too; the result is not remembered"
            return f"draws from {', '.join(names)} {reason}", before.key, value
        base = before.base
        self.signposts[base] = names
        return "", self._full(base, drawn), Drawn(value, read_streams(names), generators)

    def _full(self, base: Key, states: Mapping[str, State]) -> Key:
        function = base.function
        if function not in self._functions:
            names = (*function.parameters, "streams")
            self._functions[function] = Function(function.name, names, function.family, function)
        return Key((self._functions[function], *base[1:], CONTENT, identify(tuple(states.items()))))

    def clear(self) -> None:
        """Forget what is known."""
        self.signposts.clear()
        self._functions.clear()
