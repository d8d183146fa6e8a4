"""How many threads a step is worth.

A step of a few rows takes ten to a hundred microseconds on one core. Where the threads of OpenMP sleep between two
parallel regions (``OMP_WAIT_POLICY=passive``, what one sets on a machine that is shared), waking them takes longer than
that, at every step; where they wait awake it takes nothing, and all of them are better at any width.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from functools import cache
from typing import TYPE_CHECKING

from threadpoolctl import ThreadpoolController  # pyright: ignore[reportMissingTypeStubs]

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch import Tensor

_SMALL = 1 << 21  # multiplications a gate below which a step takes less time on one core than the others to wake
# Asked of the environment, as OpenMP does at its start: a clock would choose otherwise in the next run.
_ASLEEP = os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive" or os.environ.get("KMP_BLOCKTIME") == "0"


def threads_for(rows: int, hidden_size: int, like: Tensor) -> AbstractContextManager[object]:
    """Let the steps of this block run on as many threads as they are worth: on one, or on those that there are.

    The limit is this thread's alone, and ends with the block.

    Args:
        rows: that a step takes at once.
        hidden_size: H.
        like: a tensor on the device of the steps.
    """
    if not _ASLEEP or like.is_cuda or rows * hidden_size * hidden_size > _SMALL:
        return nullcontext()
    return _openmp().limit(limits=1)


@cache
def _openmp() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="openmp")
