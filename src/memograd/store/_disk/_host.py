"""Who computes, on this host: leases as locks that the kernel keeps, and takes back at once from whoever dies.

Each key has one byte of one file, far beyond its end, and who has locked that byte computes the key. Record locks
belong to a process, so its threads are told apart by a table; and they are all lost when the process closes any
descriptor of the file, so the one that is opened stays open for ever.

NOTE [heirs] A process may have a lock and never come to give it back: it was stopped; or it waits for us, whom it has
begun. The first is seen after `STOPPED` seconds. The second nobody tells, but that it does next to nothing for
`STANDING` seconds, and is an ancestor of ours. Then one other, the heir, computes beside it: who has a second byte.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from xxhash import xxh3_64_intdigest

from memograd.store._base import Lease
from memograd.store._lock import new_lock

try:
    import fcntl
except ImportError:  # on Windows threads are told apart, processes are not
    fcntl = None

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

# The byte that is locked while the index is opened, set aside or begun anew. Keys are below it, their heirs above.
SURGERY = 1 << 62
PATIENCE = 10.0
_TAKEN = {errno.EACCES, errno.EAGAIN}
# See NOTE [heirs]. Seconds; the share of the time below which work is next to nothing; seconds between two looks.
STOPPED = 10.0
STANDING = 60.0
IDLE = 0.01
LOOK_UP = 1.0
# Where it is known what a lock looks like (`struct flock` in 64 bits), and what processes do.
_SEES = sys.platform == "linux" and struct.calcsize("P") == 8
_FLOCK = "@hhqqi4x"


class Locks:
    """The bytes of one file that this process has locked, for all stores of the process over it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.surgery = new_lock()
        self._lock = new_lock()
        self._pid = os.getpid()
        self._taken: dict[int, object] = {}
        self._watches: dict[int, _Watch] = {}

    def take(self, offset: int, owner: object) -> bool:
        """Lock a byte, without waiting; tell whether it was free."""
        with self._lock:
            self._forget_the_parents()
            if offset in self._taken or not self._lock_byte(offset):
                return False
            self._taken[offset] = owner
            self._watches.pop(offset, None)
            return True

    def is_stuck(self, offset: int) -> bool:
        """Tell whether another process has a byte locked and is not to be waited for. See NOTE [heirs]."""
        with self._lock:
            if offset in self._taken:
                return False
            watch = self._watches.setdefault(offset, _Watch())
            now = time.monotonic()
            if now >= watch.again:
                watch.again = now + LOOK_UP
                watch.look_at(self._holder(offset), now)
            return watch.has_seen_enough

    def _holder(self, offset: int) -> int:
        """Give the process that has a byte locked, 0 if none, or nobody knows."""
        if fcntl is None or not _SEES:
            return 0
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
        try:
            kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(self.descriptor, fcntl.F_GETLK, asked))
        except OSError:
            return 0
        return 0 if kind == fcntl.F_UNLCK else max(pid, 0)

    def holds(self, offset: int, owner: object) -> bool:
        """Tell whether this process, and in it `owner`, has a byte locked."""
        return self._pid == os.getpid() and self._taken.get(offset) is owner

    def give_back(self, offset: int, owner: object) -> None:
        """Unlock a byte if `owner` has it."""
        with self._lock:
            if self.holds(offset, owner):
                del self._taken[offset]
                if fcntl is not None:
                    fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1, offset)

    def _lock_byte(self, offset: int) -> bool:
        if fcntl is None:
            return True
        try:
            fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            raise
        return True

    def _forget_the_parents(self) -> None:
        # A forked child has none of its parent's record locks.
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._taken = {}
            self._watches = {}


class _Watch:
    """Sees whether a process that has a lock is stopped, or an ancestor of ours that stands still, for long."""

    def __init__(self) -> None:
        self.again = 0.0
        self.has_seen_enough = False
        self._pid = 0
        self._ran = 0.0  # when it was not stopped
        self._worked = 0.0  # how long it had worked
        self._since = 0.0  # at this time

    def look_at(self, pid: int, now: float) -> None:
        state, worked = _doing(pid)
        if pid != self._pid:
            self._pid, self._ran, self._worked, self._since = pid, now, worked, now
        if state != "T":
            self._ran = now
        idle = worked - self._worked <= IDLE * (now - self._since)
        if not idle:
            self._worked, self._since = worked, now
        stopped = now - self._ran >= STOPPED
        self.has_seen_enough = stopped or (idle and now - self._since >= STANDING and _is_above_us(pid))


def _doing(pid: int) -> tuple[str, float]:
    """Give the state of a process ("T": stopped), and the seconds that it has worked."""
    fields = _stat(pid)
    # Ticks in user mode and in the kernel, of all threads. There are 100 in a second, whatever the kernel counts in.
    return (fields[0], (int(fields[11]) + int(fields[12])) / 100) if fields else ("", 0.0)


def _is_above_us(pid: int) -> bool:
    """Tell whether a process has begun this one, or one that has."""
    above = os.getppid()
    while above > 1 and above != pid:
        fields = _stat(above)
        above = int(fields[1]) if fields else 0
    return above == pid > 0


def _stat(pid: int) -> list[str]:
    """Read what the kernel says of a process (proc(5)): the fields behind its name, which may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


_opened: dict[tuple[int, int], Locks] = {}
_opening = new_lock()


def locks_of(path: Path) -> Locks:
    """Give this process's locks in a file, which is made if there is none. Raises `OSError`."""
    with _opening:
        try:
            found = _opened.get(_identity(path.stat()))
        except FileNotFoundError:
            found = None
        if found is None:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
            # Should it be one that we have by now, this descriptor stays open: to close it would lose that one's locks.
            found = _opened.setdefault(_identity(os.fstat(descriptor)), Locks(descriptor))
        return found


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


class Nobodys(Lease):
    """What stands for a lease where none can be had."""

    @property
    def held(self) -> bool:
        """Tell that it is nobody's."""
        return False

    def release(self) -> None:
        """Do nothing."""


class Leases:
    """Hands out the leases of one directory, each key's to one thread of one process of this host at a time.

    Args:
        path: the file that is locked.
        keep: asked when a lease is given back; while it is true, the holder keeps it and calls `Held.let_go` later.
    """

    def __init__(self, path: Path, keep: Callable[[Held], bool] = lambda _: False) -> None:
        self._path = path
        self._keep = keep

    def lease(self, key: bytes) -> Held | None:
        """Take the right to compute a key, None while another has it. Raises `OSError`."""
        locks = locks_of(self._path)
        held = Held(key, locks, self._keep)
        if held.take():
            return held
        heir = Held(key, locks, self._keep, heir=True)
        return heir if locks.is_stuck(held.offset) and heir.take() else None

    @contextmanager
    def alone(self) -> Generator[None]:
        """Keep everybody else from opening the index, or setting it aside. Raises `OSError` after a while."""
        locks = locks_of(self._path)
        with locks.surgery:
            owner = object()
            until = time.monotonic() + PATIENCE
            while not locks.take(SURGERY, owner):
                if time.monotonic() > until:
                    raise TimeoutError(
                        errno.ETIMEDOUT, "another process has been opening the index for long", self._path
                    )
                time.sleep(0.002)
            try:
                yield
            finally:
                locks.give_back(SURGERY, owner)


class Held(Lease):
    """The lease of one key on this host; or of its heir, see NOTE [heirs]."""

    def __init__(self, key: bytes, locks: Locks, keep: Callable[[Held], bool], *, heir: bool = False) -> None:
        self.key = key
        offset = xxh3_64_intdigest(key) >> 2
        self.offset = SURGERY + 1 + (offset >> 1) if heir else offset
        self._locks = locks
        self._keep = keep
        self._released = False

    def take(self) -> bool:
        """Take it if it is free."""
        return self._locks.take(self.offset, self)

    @property
    def held(self) -> bool:
        """Tell whether it is still ours."""
        return not self._released and self._locks.holds(self.offset, self)

    def release(self) -> None:
        """Give it back; a second time it does nothing."""
        if not self._released:
            self._released = True
            if not self._keep(self):
                self.let_go()

    def let_go(self) -> None:
        """Unlock the byte."""
        self._locks.give_back(self.offset, self)


_NETWORK = {
    "nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "glusterfs",
    "fuse.sshfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.gcsfuse", "fuse.ceph", "virtiofs",
}  # fmt: skip


def network_of(path: Path, mounts: str = "/proc/self/mountinfo") -> str:
    """Give the type of the network file system that a path is on, "" if it is on none, or nobody knows."""
    try:
        with open(mounts, encoding="utf-8", errors="replace") as lines:  # noqa: PTH123 - a file of the kernel's
            found = max(
                (mount for line in lines if (mount := _mount(line)) and _under(path, mount[0])),
                default=("", ""),
                key=_depth,
            )
    except OSError:
        return ""
    return found[1] if found[1] in _NETWORK else ""


def _mount(line: str) -> tuple[str, str] | None:
    """Read where a file system is mounted, and its type, from a line of mountinfo (proc(5))."""
    left, _, right = line.partition(" - ")
    fields = left.split()
    if len(fields) < 5 or not right:
        return None
    where = fields[4].encode().decode("unicode_escape", "replace") if "\\" in fields[4] else fields[4]
    return where, right.split()[0]


def _depth(mount: tuple[str, str]) -> int:
    return len(mount[0])


def _under(path: Path, mount: str) -> bool:
    real = os.path.realpath(path)
    return mount in {"/", real} or real.startswith(mount + "/")


def check_locks(path: Path) -> None:
    """Look whether locks work in a directory. Raises `OSError`, with what to write."""
    offset, owner = threading.get_ident() & (SURGERY - 1), object()
    locks = locks_of(path)
    try:
        if locks.take(offset, owner):
            locks.give_back(offset, owner)
    except OSError as error:
        raise OSError(
            error.errno,
            f"Disk() got a directory whose file system has no locks ({error.strerror}), so processes would write over"
            " each other; write Disk() for a directory of this machine, or Redis(url) to share results among machines",
            str(path.parent),
        ) from None
