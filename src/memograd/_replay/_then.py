"""What a tensor has that changes no value of a call: hooks, notes, whether it requires grad.

A call that is run again in backward is run as it was then. What was put on its tensors since is of the program, which
goes on with it afterwards.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from torch import Tensor

    Hooks = dict[int, Any]


class _Look(NamedTuple):
    leaf: bool
    requires: bool
    notes: dict[str, Any]
    hooks: list[list[int]]


class Then:
    """How tensors look at a moment."""

    __slots__ = ("_looks",)

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._looks = [(tensor, _look(tensor)) for tensor in {id(tensor): tensor for tensor in tensors}.values()]

    @contextmanager
    def flags(self) -> Generator[None]:
        """Have them require grad, and be noted upon, as they were."""
        others = [(tensor, look, _look(tensor)) for tensor, look in self._looks]
        # One that has lost its graph meanwhile is another one.
        others = [(tensor, then, now) for tensor, then, now in others if then.leaf is now.leaf and then[:3] != now[:3]]
        try:
            for tensor, then, _ in others:
                _flag(tensor, then)
            yield
        finally:
            for tensor, _, now in others:
                _flag(tensor, now)

    @contextmanager
    def hooks(self) -> Generator[None]:
        """Take those hooks from them that they did not have, for a moment: other threads may be going backward."""
        pairs = [pair for tensor, look in self._looks for pair in zip(_hooks(tensor), look.hooks, strict=True)]
        more = [(hooks, dict(hooks), names) for hooks, names in pairs if hooks.keys() - set(names)]
        try:
            for hooks, now, names in more:
                for name in now.keys() - set(names):
                    del hooks[name]
            yield
        finally:
            for hooks, now, _ in more:
                hooks.clear()
                hooks.update(now)


def _look(tensor: Tensor) -> _Look:
    return _Look(tensor.is_leaf, tensor.requires_grad, dict(vars(tensor)), [[*hooks] for hooks in _hooks(tensor)])


def _hooks(tensor: Any) -> list[Hooks]:
    kinds = tensor._backward_hooks, tensor._post_accumulate_grad_hooks
    return [{} if hooks is None else hooks for hooks in kinds]


def _flag(tensor: Tensor, look: _Look) -> None:
    if tensor.requires_grad is not look.requires:
        tensor.requires_grad_(look.requires)
    notes = vars(tensor)
    notes.clear()
    notes.update(look.notes)
