"""Peak memory of one step: tensors by torch's own account, and the whole process by the kernel's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from memograd._scan._buffers import release_buffers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def peak(step: Callable[[], object], device: torch.device) -> int:
    """Give the most bytes that tensors held at once during a step, above what they held before it."""
    release_buffers()
    return _peak_cuda(step, device) if device.type == "cuda" else _peak_cpu(step)


def _peak_cuda(step: Callable[[], object], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    step()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _peak_cpu(step: Callable[[], object]) -> int:
    """Replay what was allocated and freed, in the order of time."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    assert profile.profiler is not None
    assert profile.profiler.kineto_results is not None
    changes = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = highest = 0
    for change in sorted(changes, key=lambda e: e.start_ns()):
        held += change.nbytes()
        highest = max(highest, held)
    return highest


def high_water_of(script: Path, arguments: Sequence[str]) -> int:
    """Run a script in a process of its own and give the bytes that it printed as its ``high_water``."""
    done = subprocess.run([sys.executable, str(script), *arguments], check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1])


def high_water() -> int:
    """Give the largest resident set that this process has had, in bytes.

    The kernel's mark of the address space is read where there is one: ``ru_maxrss`` outlives exec, so a child would
    report what its parent held.
    """
    status = Path("/proc/self/status")
    if status.exists():
        marks = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return 1024 * int(marks[0].split()[1])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
