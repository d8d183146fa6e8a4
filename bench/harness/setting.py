"""Where a benchmark runs: device, full or quick, and the machine in words."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from harness.timing import Rounds


@dataclass(frozen=True)
class Setting:
    """What every figure is told.

    Attributes:
        device: where tensors live.
        quick: whether to run tiny sizes once: the numbers then mean nothing, the program is what is tried.
    """

    device: torch.device
    quick: bool

    def rounds(self, least: int = 5, most: int = 15) -> Rounds:
        return Rounds(1, 1, 0.0) if self.quick else Rounds(least, most)


def use_all_cores() -> None:
    """Let torch use every core that this process may run on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch.set_num_threads(cores or 1)


def machine(device: torch.device) -> dict[str, Any]:
    """Describe what the numbers hold for."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "unset"),
        "load": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
