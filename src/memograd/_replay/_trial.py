"""Try a piece of a program, forward and back, to see how many bytes it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from memograd._replay._interpreter import leaf
from memograd._replay._meter import Meter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from typing_extensions import Self

    from memograd._replay._interpreter import Needs, Program


def most_bytes(
    program: Program, steps: int, carry: Sequence[Tensor], weights: Sequence[Tensor], needs: Needs, outputs: int
) -> int:
    """Run the first steps as one piece, forward and back.

    Args:
        program: what to run; nothing is written to it.
        steps: how many.
        carry: the first state.
        weights: what the steps read besides.
        needs: which gradients are asked for; of the state, that of every part is: a piece in the middle needs it.
        outputs: gradients come back to so many of its outputs, and to the state behind.

    Returns:
        The most bytes that it held at once. On CUDA the allocator says so, which sees what kernels take for themselves;
        its mark of the most bytes begins anew with this.
    """
    device = next((t.device for t in (*carry, *weights)), torch.device("cpu"))

    def run() -> None:
        with torch.enable_grad():
            _run(program, steps, carry, weights, needs, outputs)

    if device.type == "cuda":
        run()  # libraries take workspaces at their first call, and keep them
    with _Allocated(device) as allocated, Meter() as meter:
        run()
    return max(meter.peak, allocated.peak)


def _run(
    program: Program, steps: int, carry: Sequence[Tensor], weights: Sequence[Tensor], needs: Needs, outputs: int
) -> None:
    inputs = [leaf(t, needed) for t, needed in zip(program.read(0, steps), needs.inputs, strict=True)]
    given = [leaf(t, True) for t in carry]
    read = [leaf(t, needed) for t, needed in zip(weights, needs.weights, strict=True)]
    found, behind = program.run(0, steps, inputs, given, read)
    wanted = [t for t in (*inputs, *given, *read) if t.requires_grad]
    ends = [t for t in (*found[:outputs], *behind) if t.requires_grad]
    if ends and wanted:
        torch.autograd.grad(ends, wanted, [torch.zeros_like(t) for t in ends], allow_unused=True)


class _Allocated:
    """The most bytes that CUDA's allocator has given out in a block, above what it had."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.peak, self._before = device, 0, 0

    def __enter__(self) -> Self:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
        return self

    def __exit__(self, *raised: object) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            self.peak = torch.cuda.max_memory_allocated(self.device) - self._before
