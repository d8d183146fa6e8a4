"""Who holds a lease, as text: enough for others on this host to see that the holder is dead.

A process is its pid and the time when it started, since pids are used again; and a pid means something only among
processes of one boot and one pid namespace (containers on a host share the first, not the second).
"""

from __future__ import annotations

import os
from pathlib import Path
from secrets import token_hex


def new_holder() -> str:
    """Name this process, and one lease of it: no two are alike."""
    pid = os.getpid()
    return f"{_host()} {pid} {_started(pid)} {token_hex(8)}"


def is_dead(holder: str) -> bool:
    """Tell whether the holder was a process of this host and is no more; when unsure, it lives."""
    parts = holder.split(" ")
    if len(parts) != 4 or parts[0] != _host() or parts[0] == "-":
        return False
    _, pid, started, _ = parts
    if not (pid.isascii() and pid.isdecimal() and len(pid) < 12):
        return False
    return _started(int(pid)) != started


def _host() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"  # noqa: PTH116 - Path.stat is the same, slower
    except (OSError, ValueError):
        return "-"


def _started(pid: int) -> str:
    """Give when a process started, in ticks since boot; "-" if it is gone, or a zombie, which never ends its work."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return "-"
    # The name, in parentheses, may hold anything; after it come the state and, 19 fields on, the start.
    fields = text.rpartition(")")[2].split()
    return "-" if fields[0] in {"Z", "X"} else fields[19]
