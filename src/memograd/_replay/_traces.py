"""What a call leaves on what it was given, beside what it gives back: a hit would not leave it again."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from memograd._replay._memory import version
from memograd._replay._trees import content, is_one

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    Look = list[Any]

CONTAINERS = "changes a list or dictionary among its arguments"
MARKS = (
    "sets an attribute or a hook on a tensor among its arguments, or calls retain_grad() or requires_grad_() on it; "
    "the result is not remembered"
)
BACKWARD = "goes backward itself"


class Traces:
    """How tensors and containers are before a call, to be compared with how they are then.

    Args:
        direct: tensors that the call was given.
        others: tensors that it may reach.
        containers: what it was given; one whose parts are made when it is asked for them is not looked at.
    """

    __slots__ = ("_containers", "_counts", "_direct", "_grads", "_others")

    def __init__(
        self, direct: Iterable[Tensor] = (), others: Sequence[Tensor] = (), containers: Iterable[Any] = ()
    ) -> None:
        # The looks hold what they have seen, so that nothing else can come to be at its address.
        self._direct = [(tensor, _marks(tensor)) for tensor in direct]
        self._others = others
        self._grads = _grads(others)
        self._counts = _counts(self._grads)
        looks = [(container, content(container)) for container in containers if type(container) is not tuple]
        self._containers = [(container, look) for container, look in looks if is_one(look, content(container))]

    def found(self) -> str:
        """Say what the call has left, if anything."""
        if not all(is_one(look, content(container)) for container, look in self._containers):
            return CONTAINERS
        if not all(is_one(look, _marks(tensor)) for tensor, look in self._direct):
            return MARKS
        grads = _grads(self._others)
        return "" if is_one(grads, self._grads) and _counts(grads) == self._counts else BACKWARD


def attributes(tensor: Tensor) -> dict[str, Any]:
    """Give what was noted on a tensor, but for the notes of torch's compiler."""
    return {name: note for name, note in vars(tensor).items() if not name.startswith("_dynamo")}


def _marks(tensor: Any) -> Look:
    hooks: list[Any] = []
    for kind in (tensor._backward_hooks, tensor._post_accumulate_grad_hooks):
        hooks += [*(kind or {}).keys()]
    return [tensor.requires_grad, tensor.retains_grad, *hooks, *chain(*attributes(tensor).items())]


def _grads(tensors: Sequence[Tensor]) -> list[Tensor | None]:
    return [tensor.grad if tensor.is_leaf else None for tensor in tensors]


def _counts(grads: Sequence[Tensor | None]) -> list[int]:
    return [version(grad) for grad in grads if grad is not None]
