"""Calls under grad mode: what they give is remembered as a live graph, so that gradients flow through hits.

A *recording* is the result with the graph behind it, and lives as long as somebody uses what it gave. The store has
the result alone, as `Graded`: when the graph is gone, a hit gives that, and runs the call again if gradients come back.
Inside of a call that is being recorded nothing is recorded again: its parts belong to its graph.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from memograd._ambient._streams import read_streams
from memograd._draws import Drawn
from memograd._key import MISSING
from memograd._pays import Door
from memograd.fingerprint._form import PLAIN
from memograd.store._size import size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from memograd._key import Key
    from memograd._replay import Lives, Plan, Recorded, Recording

# What takes more is stored when it is computed a second time: in a training loop, where weights change, nothing is.
AT_ONCE = 1 << 20  # bytes
_MOST = 1_000  # signatures


class Graded:
    """A result that requires grad, without its graph; `plan` says what must be known to compute its gradients."""

    __slots__ = ("plan", "value")

    def __init__(self, value: Any, plan: Plan) -> None:
        self.value = value
        self.plan = plan

    def __repr__(self) -> str:
        return repr(self.value)

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + size_of(self.value)


class Gradients:
    """The recordings of one function.

    Args:
        max_bytes: how many bytes of graphs to hold beyond those in use.

    Attributes:
        tried: signatures of calls that were given arguments with a graph of their own, have run plainly, and could have
            been recorded.
        twice: why a call had to be run a second time nevertheless; from then on all are plain.
    """

    def __init__(self, max_bytes: int = 0) -> None:
        self.max_bytes = max_bytes
        self.seen = Door(1 << 12)
        self.twice = ""
        self.tried: set[Hashable] = set()
        self._lives: Lives | None = None

    @property
    def lives(self) -> Lives:
        """The recordings that can still be run back."""
        if self._lives is None:
            from memograd._replay import Lives

            self._lives = Lives(self.max_bytes)
        return self._lives

    def holds(self, key: Key) -> bool:
        """Tell whether a recorded result could be given."""
        return self._lives is not None and self._lives.get(key) is not None

    def hit(self, key: Key, args: Sequence[Any], kwargs: Mapping[str, Any], reads: Sequence[Any]) -> tuple[Any, Any]:
        """Give a recorded result to another call, and what was put beside it; MISSING if there is none."""
        recording = None if self._lives is None else self._lives.get(key)
        if recording is None:
            return MISSING, None
        from memograd._replay import GONE, watched_by_others

        # What such hooks pack is counted: a checkpoint runs again what it has run, and no graph stands for it.
        if watched_by_others():
            return MISSING, None
        value = recording.again(args, kwargs, reads)
        return (MISSING, None) if value is GONE else (value, recording.beside)

    def record(
        self,
        f: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        reads: Sequence[Any],
        version: Hashable = None,
    ) -> Recorded:
        """Call a function and record it, where it can be.

        Args:
            version: of the function.
        """
        from memograd._replay import Recorded, record, why_not

        reason = why_not(args, kwargs, reads)
        if reason:
            return Recorded(f(*args, **kwargs), None, f"is computed plainly: {reason}")
        self.lives.sweep()
        if self.twice:
            return Recorded(f(*args, **kwargs), None, self.twice)
        tried = _signature(version, args, kwargs, reads)
        found = record(f, args, kwargs, reads, trial=tried not in self.tried, note=self._note)
        if found.recording is not None:
            found.recording.beside = tried
        return found

    def _note(self, reason: str) -> None:
        # What had to be run a second time is not run twice again: it may have effects that are not seen.
        self.twice = reason

    def keep(self, key: Key, recording: Recording, drawn: Drawn | None) -> Any:
        """Hold a recording; give what a store is to hold beside it, MISSING if nothing.

        Args:
            drawn: where the call has left streams and generators, if it has moved any.
        """
        tried, recording.beside = recording.beside, drawn
        if recording.graph is None:
            if len(self.tried) >= _MOST:
                self.tried.clear()
            self.tried.add(tried)
        else:
            self.lives.put(key, recording)
        plan = recording.plan
        # A generator among the arguments has moved on when the call would be run again.
        if plan is None or (drawn is not None and drawn.generators):
            return MISSING
        if recording.result_bytes > AT_ONCE and not self.seen.sees(hash(key)):
            return MISSING
        graded = Graded(recording.bare(), plan)
        return graded if drawn is None else Drawn(graded, drawn.after, {})

    def given(
        self,
        key: Key,
        stored: Any,
        f: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        reads: Sequence[Any],
        unchanged: Callable[[], bool],
    ) -> Any:
        """Give a stored result, whose gradients are those of `f`, run again where they are asked for; else MISSING.

        Args:
            unchanged: tells, in the modes of the call, whether it would still be the same call.
        """
        from memograd._ambient._torch import read_modes
        from memograd._replay import GONE, recompute, why_not

        drawn = stored if type(stored) is Drawn else None
        graded: Any = stored if drawn is None else drawn.value
        if why_not(args, kwargs, reads):
            return MISSING
        # The key says that the streams are where they were when it was computed.
        streams = None if drawn is None else read_streams(drawn.after)
        try:
            again = recompute(f, args, kwargs, reads, graded.value, graded.plan, read_modes(), streams, unchanged)
        except Exception:  # noqa: BLE001 - whatever it is, it costs a computation, never the call
            return MISSING
        if again.output is GONE or again.recording is None:
            return MISSING
        again.recording.beside = drawn
        self.lives.put(key, again.recording)
        return again.output

    def drop(self, keys: Sequence[Key]) -> None:
        """Forget recordings; those who use what they gave keep them."""
        if self._lives is not None:
            for key in keys:
                self._lives.drop(key)

    def clear(self) -> None:
        """Forget all recordings."""
        self._lives = None
        self.twice = ""
        self.tried.clear()


def is_graded(stored: Any) -> bool:
    """Tell whether what a store holds is a result that requires grad."""
    return type(stored) is Graded or (type(stored) is Drawn and type(stored.value) is Graded)


def concerns(values: Sequence[Any], reads: Sequence[Any]) -> bool:
    """Tell whether a call of these values may give what requires grad: whether something among them does."""
    torch: Any = sys.modules.get("torch")
    if torch is None or (not reads and PLAIN.issuperset(map(type, values))):
        return False
    if not hasattr(torch, "is_grad_enabled") or not torch.is_grad_enabled():
        return False
    from memograd._replay import Seen

    try:
        return any(tensor.requires_grad for tensor in Seen((tuple(values), tuple(reads))).tensors)
    except Exception:  # noqa: BLE001 - whatever an object of the user's raises when it is looked into
        return False


def known_within(key: Key) -> Any:
    """Give what a call gave before within the call that is being recorded, as a part of its graph; else MISSING."""
    scope = _scope()
    if scope is None or key not in scope.known:
        return MISSING
    from memograd._replay import connected, watched_by_others

    if watched_by_others():
        return MISSING
    return connected(scope.known[key])


def know_within(key: Key, value: Any) -> bool:
    """Remember a value for the rest of the call that is being recorded; tell whether there is one."""
    scope = _scope()
    if scope is not None:
        from memograd._replay import connected, watched_by_others

        if not watched_by_others():
            # The caller may change its own.
            scope.known[key] = connected(value)
    return scope is not None


def _signature(
    version: Hashable, args: Sequence[Any], kwargs: Mapping[str, Any], reads: Sequence[Any]
) -> tuple[Hashable, Hashable]:
    from memograd._replay import needs_stand_ins, signature

    try:
        # Others are not tried.
        return version, signature((args, kwargs, reads)) if needs_stand_ins(args, kwargs) else b""
    except Exception:  # noqa: BLE001 - whatever an object of the user's raises when it is looked into
        return version, object()


def _scope() -> Any:
    if "memograd._replay" not in sys.modules:
        return None
    from memograd._replay import inside

    return inside()
