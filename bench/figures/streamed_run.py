"""Take one streamed loss and its gradients in this process; print seconds a step and the resident set's high water.

Run by the streamed figure: ``streamed_run.py floor|ours FILE STEPS BUDGET HIDDEN``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from harness.memory import high_water
from harness.setting import use_all_cores
from torch import nn
from torch.nn import functional

from memograd import memo


def main(who: str, file: str, steps: str, budget: str, hidden: str) -> None:
    use_all_cores()
    torch.manual_seed(0)
    signal = np.load(file, mmap_mode="r")
    lstm, head = nn.LSTM(signal.shape[2], int(hidden)), nn.Linear(int(hidden), signal.shape[2])
    scan = memo.scan(lstm, budget=int(budget))

    def take(count: int) -> float:
        begin = time.perf_counter()
        loss = scan.loss(signal[:count], signal[1 : count + 1], lambda y, t: functional.mse_loss(head(y), t))
        loss.backward()
        return (time.perf_counter() - begin) / count

    took = take(64)  # loads what the first step loads
    if who == "ours":
        took = take(int(steps))
    else:  # the same, without the network
        source = (signal[k : k + 1_000].sum() for k in range(0, int(steps), 1_000))
        assert np.isfinite(sum(map(float, source)))
    print(took, high_water())


if __name__ == "__main__":
    main(*sys.argv[1:])
