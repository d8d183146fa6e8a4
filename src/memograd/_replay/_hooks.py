"""Hooks of leaves while a graph is run back by us.

A leaf is asked for its gradient there, and its hooks would fire once for that and once more when the gradient arrives
at the leaf itself. They are for the second.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from torch import Tensor


class _Here(threading.local):
    running = False


_here = _Here()


@contextmanager
def running() -> Generator[None]:
    """Run a graph back in this thread."""
    before, _here.running = _here.running, True
    try:
        yield
    finally:
        _here.running = before


class _Quiet:
    """A hook of a leaf that keeps still while we run a graph back."""

    # By this name the fingerprint of the leaf knows the user's own.
    __slots__ = ("__memograd_hook__",)

    def __init__(self, hook: Callable[[Tensor], Tensor | None]) -> None:
        self.__memograd_hook__ = hook

    def __call__(self, grad: Tensor) -> Tensor | None:
        return None if _here.running else self.__memograd_hook__(grad)


def quieten(leaf: Any) -> None:
    """Let the hooks that a leaf has now keep still while we run a graph back."""
    hooks: dict[int, Any] = leaf._backward_hooks or {}
    for name, hook in list(hooks.items()):
        if type(hook) is not _Quiet:
            hooks[name] = _Quiet(hook)


def astray(_: Tensor) -> None:
    """Stop a gradient that comes to a stand-in by a way that is not in the recorded graph: it would be lost there."""
    if not _here.running:
        raise RuntimeError(
            "a memoized function has kept, or written into an argument, a tensor that depends on an argument that "
            "requires grad; a gradient through it cannot reach that argument. Return such tensors, or leave the "
            "function unmemoized"
        )
