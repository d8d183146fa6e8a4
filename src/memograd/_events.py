"""What happened, as small frozen values: upward talk is by events only.

| event | when |
|---|---|
| `Hit` | a result was given back without computing |
| `Miss` | a result was computed because none was remembered |
| `Wait` | a call waits for another thread, or task, that computes its result |
| `Put` | a result was given to the store |
| `Evict` | a result left the store to make room |
| `Refuse` | a call or a result was not remembered, and why |

With no listener nothing is built and nothing is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Event:
    """One thing that happened to one key. Frozen; equal to an event of the same type with the same fields."""

    # By hand and not by `dataclasses`: importing that takes longer than all of memograd.
    __slots__ = ("key", "reason")
    key: object
    reason: str

    def __init__(self, key: object, reason: str = "") -> None:
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "reason", reason)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"cannot set {name!r}: an event is frozen")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, Event) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash((type(self), *self._fields()))

    def __repr__(self) -> str:
        reason = f", reason={self.reason!r}" if self.reason else ""
        return f"{type(self).__name__}({self.key!r}{reason})"

    def _fields(self) -> tuple[object, str]:
        return self.key, self.reason


class Hit(Event):
    """A result was given back without computing."""

    __slots__ = ()


class Miss(Event):
    """A result was computed because none was remembered."""

    __slots__ = ()


class Wait(Event):
    """A call waits for another thread, or task, that computes its result."""

    __slots__ = ()


class Put(Event):
    """A result was given to the store."""

    __slots__ = ()


class Evict(Event):
    """A result left the store to make room."""

    __slots__ = ()


class Refuse(Event):
    """A call or a result was not remembered; `reason` says why. For a call without a key, `key` is its function."""

    __slots__ = ()


listeners: list[Callable[[Event], object]] = []


def subscribe(listener: Callable[[Event], object]) -> Callable[[], None]:
    """Call `listener` with every event from now on.

    Args:
        listener: called in the thread where the event happens, sometimes under a lock: it should be quick.

    Returns:
        A function that ends the subscription; calling it twice is harmless.

    Example:
        >>> from memograd import Memo, subscribe
        >>> seen = []
        >>> end = subscribe(seen.append)
        >>> square = Memo()(lambda x: x * x)
        >>> square(3), square(3)
        (9, 9)
        >>> end()
        >>> seen
        [Miss(<lambda>(x=3)), Put(<lambda>(x=3)), Hit(<lambda>(x=3))]
    """
    own = [listener]
    listeners.append(listener)

    def end() -> None:
        if own:
            listeners.remove(own.pop())

    return end


def tell(event: Event) -> None:
    """Give an event to every listener."""
    for listener in tuple(listeners):
        listener(event)
