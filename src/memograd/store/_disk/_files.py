"""Large bodies as files, each named by the digest of what it holds: equal ones are stored once, none is written twice.

A file is written under another name, made durable and renamed; from then on it is only read or removed. So it can be
mapped: nobody writes to what a reader sees, and what the reader writes stays its own (copy on write).
"""

from __future__ import annotations

import itertools
import mmap
import os
import re
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import xxhash

try:
    import fcntl
except ImportError:
    fcntl = None

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from memograd.store._base import Buffer

DIGESTS = ("xxh3", "blake3")
NAME = re.compile(r"[0-9a-f]{32}(?:[0-9a-f]{32})?")
TYPE = ".safetensors"
_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_MOST_PIECES = 512
_CHUNK = 8 << 20

# The files that were read whole in this process and found to be what their name says.
_verified: set[tuple[int, int, int, int, str]] = set()
_MOST_VERIFIED = 100_000
_mapped: WeakSet[mmap.mmap] = WeakSet()


class DamagedError(Exception):
    """A file is not what its name says."""


class Files:
    """The files of one store.

    Args:
        root: the directory, made when it is needed.
        digest: "xxh3", or "blake3" where others may choose what is stored.
        load: "map", or "read".
        fsync: a file is on the disk before it has its name.
        remember: a file that was verified in this process is not verified again.
    """

    def __init__(
        self, root: Path, *, digest: str = "xxh3", load: str = "map", fsync: bool = True, remember: bool = True
    ) -> None:
        self.root = root
        self._temporary = root / "new"
        self._digest = digest
        self._map = load == "map"
        self._fsync = fsync
        self._remember = remember
        self._number = itertools.count()

    def digest(self, pieces: Sequence[Buffer]) -> str:
        """Give the digest of pieces that follow one another."""
        return _digest(self._digest, pieces)

    def path(self, digest: str) -> Path:
        """Give the path of a file. Raises `DamagedError` for what is no digest."""
        if not NAME.fullmatch(digest):
            raise DamagedError("its name is no digest")
        return self.root / digest[:2] / (digest + TYPE)

    def size(self, digest: str) -> int:
        """Give the size of a file, -1 if there is none."""
        try:
            return self.path(digest).stat().st_size
        except (FileNotFoundError, NotADirectoryError, DamagedError):
            return -1

    def write(self, pieces: Sequence[Buffer]) -> New:
        """Write a file that has no name yet. Raises `OSError`."""
        for folder in (self.root, self._temporary):
            folder.mkdir(mode=0o700, exist_ok=True)
        while (new := self._new()) is None:
            pass
        try:
            _write(new.descriptor, [memoryview(piece).cast("B") for piece in pieces])
            if self._fsync:
                os.fsync(new.descriptor)
        except BaseException:
            new.discard()
            raise
        return new

    def _new(self) -> New | None:
        """Make a file and lock it, which tells the living from the killed; None if it was swept before."""
        path = self._temporary / f"{os.getpid()}-{next(self._number)}-{os.urandom(4).hex()}"
        new = New(path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600))
        if fcntl is None:
            return new
        try:
            fcntl.flock(new.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(new.descriptor).st_nlink:
                return new
        except BlockingIOError:
            pass
        except BaseException:
            new.discard()
            raise
        new.discard()
        return None

    def name(self, new: New, digest: str) -> None:
        """Give a new file its name. Raises `OSError`."""
        path = self.path(digest)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        new.path.replace(path)
        new.close()

    def settle(self, digest: str) -> None:
        """Make the name of a file durable, too."""
        if self._fsync and hasattr(os, "O_DIRECTORY"):
            for folder in (self.path(digest).parent, self.root):
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | _FLAGS)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    def load(self, digest: str, size: int) -> memoryview | None:
        """Give what a file holds, None if there is none. Raises `OSError`, `DamagedError`."""
        try:
            descriptor = os.open(self.path(digest), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _FLAGS)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            status = os.fstat(descriptor)
            # Before anything is mapped: to touch a page behind the end of a file kills the process.
            if not stat.S_ISREG(status.st_mode) or status.st_size != size or size == 0:
                raise DamagedError(f"it has {status.st_size} bytes and not {size}")
            body = _mapping(descriptor, size) if self._map and _room() else _read(descriptor, size)
            self._verify(body, digest, status)
        finally:
            os.close(descriptor)
        return body

    def remove(self, digest: str) -> None:
        """Remove a file if it is there. Who has it mapped keeps what it holds."""
        with suppress(DamagedError):
            self.path(digest).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove all files."""
        away = self.root.with_name(f"{self.root.name}.{os.getpid()}-{os.urandom(4).hex()}.old")
        try:
            self.root.rename(away)
        except FileNotFoundError:
            return
        shutil.rmtree(away, ignore_errors=True)

    def all(self) -> Iterator[tuple[Path, str]]:
        """Go through the files that have a name: path and digest. What else lies there has the digest ""."""
        for folder in sorted(_listed(self.root)):
            if folder.name != self._temporary.name:
                for path in _listed(folder) if folder.is_dir() and not folder.is_symlink() else [folder]:
                    digest = path.name.removesuffix(TYPE)
                    ours = bool(NAME.fullmatch(digest)) and path == self.path(digest) and not path.is_symlink()
                    yield path, digest if ours else ""

    def litter(self, *, remove: bool = False) -> int:
        """Count what killed processes have left half written, or half removed, and remove it if asked to."""
        old = [*self.root.parent.glob(f"{self.root.name}.*.old")]
        for path in old if remove else ():
            shutil.rmtree(path, ignore_errors=True)
        return len(old) + sum(_abandoned(path, remove=remove) for path in _listed(self._temporary))

    def _verify(self, body: memoryview, digest: str, status: os.stat_result) -> None:
        known = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, digest)
        if self._remember and known in _verified:
            return
        if _digest("xxh3" if len(digest) == 32 else "blake3", [body]) != digest:
            raise DamagedError("its content is not what its name says")
        if len(_verified) >= _MOST_VERIFIED:
            _verified.clear()
        _verified.add(known)


class New:
    """A file that has no name yet."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    def close(self) -> None:
        """Let go of its descriptor."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def discard(self) -> None:
        """Remove it."""
        self.path.unlink(missing_ok=True)
        self.close()


def _digest(algorithm: str, pieces: Sequence[Buffer]) -> str:
    hasher: Any
    if algorithm == "xxh3":
        hasher = xxhash.xxh3_128()
    else:
        import blake3

        hasher = blake3.blake3()
    for piece in pieces:
        hasher.update(memoryview(piece).cast("B"))
    return hasher.hexdigest()


def _write(descriptor: int, views: list[memoryview]) -> None:
    """Write pieces as they are, without joining them."""
    waiting = [view for view in reversed(views) if view.nbytes]
    while waiting:
        batch = waiting[: -_MOST_PIECES - 1 : -1]
        written = os.writev(descriptor, batch) if hasattr(os, "writev") else os.write(descriptor, batch[0])
        while waiting and written >= waiting[-1].nbytes:
            written -= waiting.pop().nbytes
        if written:
            waiting[-1] = waiting[-1][written:]


def _mapping(descriptor: int, size: int) -> memoryview:
    if hasattr(mmap, "MAP_PRIVATE"):
        flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)
        mapped = mmap.mmap(descriptor, size, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    else:
        mapped = mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY)
    _mapped.add(mapped)
    return memoryview(mapped)


def _room() -> bool:
    """Tell whether there may be more mappings: each keeps a descriptor, and of these a process has not many."""
    try:
        import resource
    except ImportError:
        return True
    return len(_mapped) < resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4


def _read(descriptor: int, size: int) -> memoryview:
    body = memoryview(bytearray(size))
    at = 0
    while at < size:
        count = os.readv(descriptor, [body[at:]]) if hasattr(os, "readv") else _read_into(descriptor, body[at:])
        if not count:
            raise DamagedError("it ended early")
        at += count
    return body


def _read_into(descriptor: int, view: memoryview) -> int:
    data = os.read(descriptor, min(view.nbytes, _CHUNK))
    view[: len(data)] = data
    return len(data)


def _listed(folder: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(folder)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _abandoned(path: Path, *, remove: bool) -> bool:
    """Tell whether nobody writes a file any more, whose writer would hold a lock until it ends."""
    if fcntl is None:
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _FLAGS)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if remove:
            path.unlink(missing_ok=True)  # still locked: who has just made it sees that it is gone
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
