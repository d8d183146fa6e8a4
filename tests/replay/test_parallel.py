"""Training on several processes: every parameter arrives once, where DistributedDataParallel waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from tests.replay.replayed import Replayed
from tests.threads import leave_process_group
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

if TYPE_CHECKING:
    from pathlib import Path


def train(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = []
    for remembered in (False, True):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        parallel = DistributedDataParallel(net)
        f = Replayed(parallel, captured=(parallel,)) if remembered else parallel
        for step in range(3):
            parallel.zero_grad()
            f(torch.ones(2, 3) * (rank + step + 1)).square().sum().backward()
            with torch.no_grad():
                for p in net.parameters():
                    p.sub_(0.1 * p.grad)
        found.append([p.detach().clone() for p in net.parameters()])
    torch.save(found, f"{folder}/{rank}")
    leave_process_group()


@pytest.mark.slow
def test_two_processes_train_to_the_same_bits_as_plainly(tmp_path: Path):
    multiprocessing.spawn(train, (str(tmp_path),), 2)
    results = [weights for rank in range(2) for weights in torch.load(tmp_path / str(rank))]
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))
