"""The nodes that stand for a recorded call: one for the call, and a light one for each who is given its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import Function

from memograd._replay._memory import copied

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memograd._replay._recording import Recording

_TWICE = (
    "trying to differentiate twice through a memoized call, which memograd does not do: call the unmemoized function "
    "(f.__wrapped__) where create_graph=True is used"
)


class Live(Function):
    """A recorded call. Whatever comes back to its outputs arrives summed, so its graph runs back once a backward."""

    @staticmethod
    def forward(ctx: Any, recording: Recording, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Give the values at the roots; the node keeps the recording alive."""
        ctx.set_materialize_grads(False)
        ctx.recording = recording
        ctx.save_for_backward(*inputs)
        return tuple(value.detach() for value in recording.values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Run the recorded graph back."""
        found = ctx.recording.back(grads, ctx.needs_input_grad[1:])
        if torch.is_grad_enabled():
            found = _once(found, [*ctx.saved_tensors, *(grad for grad in grads if grad is not None)])
        return (None, *found)


class Give(Function):
    """Copies of what a recorded call gave, one for each root: changing them spoils nothing."""

    @staticmethod
    def forward(ctx: Any, *values: Tensor) -> tuple[Tensor, ...]:
        """Copy. As long as somebody uses a copy, the outputs of the call can be found, and be copied again."""
        ctx.set_materialize_grads(False)
        ctx.values = values
        return tuple(copied(value) for value in values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: ARG004
        """Pass on."""
        return grads


def applied(node: Any, *args: Any) -> tuple[Tensor, ...]:
    """Call a ``torch.autograd.Function``, whose ``apply`` has no types."""
    return node.apply(*args)


class Once(Function):
    """Gradients that depend on all that they were computed of, and whose own gradients raise."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG004
        """Give the first ones, which depend on the others."""
        return tuple(tensor.clone() for tensor in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:  # noqa: ARG004
        """Raise."""
        raise RuntimeError(_TWICE)


def _once(grads: Sequence[Tensor | None], sources: Sequence[Tensor]) -> list[Tensor | None]:
    """Let gradients, which a further backward would take for constants, raise there."""
    given = [grad for grad in grads if grad is not None]
    late = iter(applied(Once, len(given), *given, *sources))
    return [None if grad is None else next(late) for grad in grads]
