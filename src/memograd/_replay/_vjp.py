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

_C: Any = torch._C  # pyright: ignore[reportPrivateUsage]
_TWICE = (
    b"trying to differentiate twice through a memoized call, which memograd does not do: call the unmemoized function "
    b"(f.__wrapped__) where create_graph=True is used"
)


class Live(Function):
    """A recorded call. Whatever comes back to its outputs arrives summed, so its graph runs back once a backward."""

    @staticmethod
    def forward(ctx: Any, recording: Recording, *inputs: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG004 - the node's
        """Give the values at the roots; the node keeps the recording alive."""
        ctx.set_materialize_grads(False)
        ctx.recording = recording
        return tuple(value.detach() for value in recording.values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Run the recorded graph back."""
        found = ctx.recording.back(grads, ctx.needs_input_grad[1:])
        return (None, *(_once(found) if torch.is_grad_enabled() else found))


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


def _once(grads: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """Let gradients, which a further backward would take for constants, raise there."""
    given = [grad.detach().requires_grad_() for grad in grads if grad is not None]
    late = iter(_C._functions.DelayedError(_TWICE, len(given))(*given) if len(given) > 1 else _single(given))
    return tuple(None if grad is None else next(late) for grad in grads)


def _single(given: list[Tensor]) -> list[Tensor]:
    # The node of one tensor gives it bare.
    return [_C._functions.DelayedError(_TWICE, 1)(*given)] if given else []
