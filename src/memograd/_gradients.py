"""Calls under grad mode: what they give is remembered as a live graph, so that gradients flow through hits.

A *recording* is the result with the graph behind it. It lives as long as somebody uses what it gave; the store holds
none. Inside of a call that is being recorded nothing is recorded again: its parts belong to its graph.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from memograd._key import MISSING
from memograd.fingerprint._form import PLAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from memograd._key import Key
    from memograd._replay import Lives, Recorded


class Gradients:
    """The recordings of one function.

    Args:
        max_bytes: how many bytes of graphs to hold beyond those in use.
    """

    def __init__(self, max_bytes: int = 0) -> None:
        self.max_bytes = max_bytes
        self._lives: Lives | None = None

    @property
    def lives(self) -> Lives:
        """The recordings that can still be run back."""
        if self._lives is None:
            from memograd._replay import Lives

            self._lives = Lives(self.max_bytes)
        return self._lives

    def hit(self, key: Key, args: Sequence[Any], kwargs: Mapping[str, Any], reads: Sequence[Any]) -> Any:
        """Give a recorded result to another call, MISSING if there is none."""
        recording = None if self._lives is None else self._lives.get(key)
        if recording is None:
            return MISSING
        from memograd._replay import GONE

        value = recording.again(args, kwargs, reads)
        return MISSING if value is GONE else value

    def record(
        self, f: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], reads: Sequence[Any]
    ) -> Recorded:
        """Call a function and record it, where it can be."""
        from memograd._replay import Recorded, record, why_not

        reason = why_not(args, kwargs, reads)
        if reason:
            return Recorded(f(*args, **kwargs), None, f"is computed plainly: {reason}")
        self.lives.sweep()
        return record(f, args, kwargs, reads)


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
    from memograd._replay import connected

    return connected(scope.known[key])


def know_within(key: Key, value: Any) -> bool:
    """Remember a value for the rest of the call that is being recorded; tell whether there is one."""
    scope = _scope()
    if scope is not None:
        scope.known[key] = value
    return scope is not None


def _scope() -> Any:
    if "memograd._replay" not in sys.modules:
        return None
    from memograd._replay import inside

    return inside()
