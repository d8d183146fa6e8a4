"""How much memory this process may use: the least of what the machine has, cgroups grant and the shell allows."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Where nothing can be read (Windows), as much as the smallest machine that trains models has.
UNKNOWN = 4 << 30


def memory_limit(root: str = "/") -> int:
    """Find how many bytes this process may use. `root` is where /proc and /sys are looked for."""
    limits = [limit for limit in (*_machine(), *_cgroups(Path(root)), *_rlimit()) if limit > 0]
    return min(limits, default=UNKNOWN)


def _machine() -> Iterator[int]:
    try:
        yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return


def _rlimit() -> Iterator[int]:
    if sys.platform != "win32":
        import resource

        yield from (soft for soft in [resource.getrlimit(resource.RLIMIT_AS)[0]] if soft != resource.RLIM_INFINITY)


def _cgroups(root: Path) -> Iterator[int]:
    """Read the limit of this process's group and of every group around it, in cgroup v2 and v1."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers == "":
            yield from _upwards(root / "sys/fs/cgroup", group, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _upwards(root / "sys/fs/cgroup/memory", group, "memory.limit_in_bytes")


def _upwards(mount: Path, group: str, name: str) -> Iterator[int]:
    # Inside a container the path may be the host's and lead nowhere here; the mount itself is then the group.
    folder = mount / group.strip("/")
    while True:
        text = _read(folder / name).strip()
        if text.isdigit():
            yield int(text)
        if folder == mount or ".." in folder.parts:
            break
        folder = folder.parent
    if ".." in folder.parts:
        yield from _upwards(mount, "", name)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
