"""What code *is*: the bytecode of a function or class, and of all of the user's that it can reach.

A function reads more than its arguments: defaults, closures, globals, other functions, attributes of modules. All that
is found in its bytecode, by name, and followed. What is found falls into four kinds:

1. *fixed*: code, and values that cannot change (numbers, strings, tuples of them). They go into the stream; a guard
   looks whether the names still stand for the very same objects.
2. *captured*: values that change in place (lists, arrays, modules). They are looked at by content at every call.
3. *libraries*: known by name and version, not looked into.
4. *effects*: names that the code itself binds anew. They are no inputs; otherwise every call would be a new one.

What cannot be told from the bytecode (a method of an argument, `eval`) leaves a `Reach` *open*: it may reach anything.
"""

from __future__ import annotations

import threading
import weakref
from types import FunctionType
from typing import TYPE_CHECKING, Any

from memograd._errors import NoIdentityError
from memograd.fingerprint._bytecode import joined
from memograd.fingerprint._form import Unidentified
from memograd.fingerprint._walk import Walk

if TYPE_CHECKING:
    from collections.abc import Callable

    from memograd.fingerprint._guards import Guards
    from memograd.fingerprint._walk import Captured


class Reach:
    """What a function or class can reach.

    Attributes:
        stream: what is fixed, written down; the same in every process.
        captured: what may change in place. What is found in it counts like an argument: it may be a tensor tomorrow.
        effects: names that reached code binds anew.
        open: whether it may reach what cannot be told, torch among it.
        draws: whether it may reach a random stream: open for more than what it reads.
        peeks: whether it may look at a random stream that it leaves where it was.
        guard: tells, quickly, whether all names still stand for what they stood for: True, else None.
        guards: what `guard` was made of.
    """

    __slots__ = ("captured", "draws", "effects", "guard", "guards", "open", "peeks", "stream")

    def __init__(
        self,
        stream: bytes,
        captured: tuple[Captured, ...],
        effects: tuple[str, ...],
        guards: Guards,
        open: bool,  # noqa: A002 - as the attribute
        draws: bool,
        peeks: bool,
    ) -> None:
        self.stream = stream
        self.captured = captured
        self.effects = effects
        self.guard: Callable[[], bool | None] = guards.check().built()
        self.guards = guards
        self.open = open
        self.draws = draws
        self.peeks = peeks


def reach(root: Any, effects: frozenset[str] = frozenset(), *, weak: bool = False) -> Reach:
    """Follow what a function or class can reach.

    Args:
        root: the function or class.
        effects: paths that are known to be effects.
        weak: whether the guard holds it weakly, which makes it slower.

    Raises:
        NoIdentityError: for code that cannot be read.
    """
    try:
        return _followed(root, effects, weak=weak)
    except Unidentified as error:
        reason = f"it reads {error.path}, which is {error.reason}; pass its value as an argument, or say version=..."
        raise NoIdentityError(reason) from error
    except Exception as error:
        raise NoIdentityError(f"its code could not be read: {error!r}; say version=... in its place") from error


def _followed(root: Any, effects: frozenset[str], *, weak: bool) -> Reach:
    rebound: dict[tuple[int, str], object] = {}
    while True:
        walk = Walk(root, rebound, effects, weak=weak)
        walk.all()
        if walk.rebound.keys() <= rebound.keys():
            return _reached(walk)
        rebound = {**rebound, **walk.rebound}


def _reached(walk: Walk) -> Reach:
    captured, effects = tuple(walk.captured.values()), tuple(walk.effects.values())
    return Reach(
        joined(walk.chunks),
        captured,
        effects,
        walk.guards,
        open=walk.open or walk.reads,
        draws=walk.open,
        peeks=walk.peeks,
    )


_functions: weakref.WeakKeyDictionary[Any, Reach] = weakref.WeakKeyDictionary()
_classes: dict[type, Reach] = {}
_lock = threading.Lock()


def reach_of(root: Any) -> Reach:
    """Give what a function or class can reach, followed anew only where a name has changed."""
    if type(root) is FunctionType:
        found = _functions.get(root)
        if found is None or not found.guard():
            found = _functions[root] = reach(root, weak=True)
        return found
    return _reach_of_class(root) if type(root) is type else reach(root)


def _reach_of_class(cls: type) -> Reach:
    found = _classes.get(cls)
    if found is not None and found.guard():
        return found
    found = reach(cls)
    with _lock:
        # Methods hold their class, so it could not be held weakly here.
        if len(_classes) >= 256:
            _classes.pop(next(iter(_classes)))
        _classes[cls] = found
    return found
