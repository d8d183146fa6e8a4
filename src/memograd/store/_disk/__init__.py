"""Entries in a directory of this machine, for many processes at once: an index, and files for what is large.

NOTE [get] A `get` is one question to the index, and what it does in Python takes as long as SQLite does. So it asks for
what it needs and no more (the facts are another question, when somebody wants them), and makes no call that it need
not make.
"""

from __future__ import annotations

import atexit
import os
import sqlite3
import time
from contextlib import suppress
from functools import partial
from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from memograd.store._base import Entry, Lease, Store
from memograd.store._disk._commit import Batch, GoneError
from memograd.store._disk._connection import NewerError, damaged
from memograd.store._disk._faults import FAULTS, NO_LOCKS, Faults
from memograd.store._disk._files import DIGESTS, DamagedError, Files
from memograd.store._disk._host import Leases, Nobodys, check_locks, network_of
from memograd.store._disk._index import Index
from memograd.store._disk._rows import FACTS, OVERHEAD, about_of, found_of, place_of, row_of, sound
from memograd.store._disk._scan import ENDED, ORDERS, greatest, number, unsorted
from memograd.store._disk._waiting import Waiting
from memograd.store._memory import refuse
from memograd.store._units import parse_bytes, show_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from memograd.store._base import About, Info
    from memograd.store._disk._host import Held

INLINE = 32 << 10
# What stands for a row that cannot even be read.
_UNSOUND: tuple[Any, ...] = (None,) * 6


class Disk(Store):
    """Entries in a directory of this machine.

    Args:
        path: the directory; None for the user's cache directory.
        max_bytes: the most bytes to hold, as 2_000_000 or "10GiB".
        load: "map" gives large entries as mapped memory that costs no copy (who changes it changes a copy of his own),
            "read" as memory that is read: if others may truncate files of the directory, which mapping cannot survive.
        digest: what files are named by: "xxh3", or "blake3" if others may choose what is stored.
        readonly: take nothing and write nothing.
        inline: bodies up to so many bytes are in the index, larger ones in files of their own.
        fsync: "files": a file is on the disk before the index names it; "off": a power cut may cost more entries.
        clock: gives the time, in seconds since the epoch.

    Raises:
        NewerError: what is there was written by a later version; a `ValueError`.
        OSError: it is on a network file system that has no locks.

    Example:
        >>> from tempfile import mkdtemp
        >>> from memograd.store import About, Entry
        >>> store = Disk(mkdtemp())
        >>> store.put(b"key", Entry(About(seconds=2.0), [b"bo", b"dy"]))
        True
        >>> store.get(b"key").body
        [b'body']
        >>> store.close()
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        max_bytes: int | str = "10GiB",
        load: str = "map",
        digest: str = "xxh3",
        readonly: bool = False,
        inline: int = INLINE,
        fsync: str = "files",
        clock: Callable[[], float] = time.time,
    ) -> None:
        _one_of("load", load, ("map", "read"))
        _one_of("digest", digest, DIGESTS)
        _one_of("fsync", fsync, ("files", "off"))
        if path is not None and not isinstance(path, (str, os.PathLike)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"Disk() got path={path!r}, expected a directory or None; write Disk('~/.cache/lab')")
        self.path = default_directory() if path is None else Path(fspath(path)).expanduser().absolute()
        self.max_bytes = parse_bytes(max_bytes, who="Disk")
        self.readonly = readonly
        self.maps = load == "map"
        self._inline = inline
        self._clock = clock
        self._files = Files(self.path / "files", digest=digest, load=load, fsync=fsync == "files")
        self._leases = Leases(self.path / "leases", self._keep)
        self._index = Index(
            self.path / "index.sqlite",
            alone=self._leases.alone,
            begun=self._begun,
            wal=not (network := network_of(self.path)),
            readonly=readonly,
            settle=self.flush,
            forked=self._forked,
        )
        self._faults = Faults(self._index)
        self._waiting = Waiting(self._files, self._faults, self.max_bytes, self._clock)
        self._begin(network)
        _disks.add(self)

    # What a store does:

    def get(self, key: bytes) -> Entry | None:
        """Give the entry of a key, None if there is none, and count that as a use."""
        if self._faults.again and self._faults.pausing():
            return None
        try:
            return self._get(key)
        except FAULTS as error:
            return self._faults.once_more(error, lambda: self._get(key), None)

    def put(self, key: bytes, entry: Entry) -> bool:
        """Put an entry in the place of any other of its key, and make room; tell whether it was taken.

        Of many small entries, some are committed up to 50 ms later; this process has them at once.
        """
        size = entry.nbytes
        if self.readonly:
            return False
        if size + OVERHEAD > self.max_bytes:
            return refuse(key, f"the entry has {size:,} bytes, the store holds {self.max_bytes:,}")
        put = self._put_row if size <= self._inline else self._put_file
        if self._faults.again and self._faults.pausing():
            return False
        try:
            return put(key, entry, size)
        except FAULTS as error:
            return self._faults.once_more(error, lambda: put(key, entry, size), False)

    def put_many(self, entries: Iterable[tuple[bytes, Entry]]) -> int:
        """Put many entries, and commit them; count those that were taken."""
        count = super().put_many(entries)
        self.flush()
        return count

    def delete(self, key: bytes) -> bool:
        """Take an entry out; tell whether there was one."""
        return self.delete_many([key]) == 1

    def delete_many(self, keys: Iterable[bytes]) -> int:
        """Take many entries out; count those that were there."""
        wanted = [(place_of(key), bytes(key)) for key in keys]
        if self.readonly or not wanted:
            return 0
        return self._faults.safely(lambda: self._waiting.write(lambda commit: commit.delete(wanted, self._clock())), 0)

    def contains(self, key: bytes) -> bool:
        """Tell whether there is an entry, without counting that as a use."""
        now = self._clock()
        found = self._faults.safely(lambda: self._find(place_of(key), now), None)
        return found is not None and found[0] == key and (found[1] is None or found[1] > now)

    def infos(self) -> Iterator[Info]:
        """Go through all entries, in any order. Entries that come or go meanwhile may be missed."""
        return self.scan()

    def scan(self, *, sort: str = "", limit: int | None = None) -> Iterator[Info]:
        """Go through entries, the greatest in `sort` first; without it at once, whatever their number."""
        if sort:
            _one_of("sort", sort, tuple(ORDERS), who="scan")
        self.flush()
        yield from greatest(self._ask, self._clock(), sort, limit) if sort else unsorted(self._ask, self._clock, limit)

    def count(self) -> int:
        """Count the entries."""
        self.flush()
        return max(number(self._ask, "SELECT entries FROM totals") - number(self._ask, ENDED, self._clock()), 0)

    @property
    def nbytes(self) -> int:
        """Count the bytes that entries take: bodies, facts, and by estimate their places; equal files once."""
        self.flush()
        return number(self._ask, "SELECT nbytes FROM totals")

    def clear(self) -> int:
        """Take every entry out; count them."""
        if self.readonly:
            return 0
        count = self.count()
        self._faults.safely(lambda: self._waiting.write(lambda commit: commit.clear()), None)
        self._faults.safely(self._index.shrink, None)
        return count

    def pin(self, key: bytes, *, pinned: bool = True) -> bool:
        """Keep an entry from being evicted, or no longer; tell whether there is one."""
        if self.readonly or not self.contains(key):
            return False
        return self._faults.safely(
            lambda: self._waiting.write(lambda commit: commit.pin(place_of(key), bytes(key), pinned)), False
        )

    def lease(self, key: bytes) -> Lease | None:
        """Take the right to compute a key; None while another thread or process of this host has it."""
        try:
            return self._leases.lease(key)
        except OSError as error:
            # Two may then compute the same, and both be right.
            self._faults.say(error)
            return Nobodys()

    def flush(self) -> None:
        """Commit what waits to be committed."""
        self._waiting.flush()

    def close(self) -> None:
        """Commit what waits, and let go of files. What is asked of it later opens them again."""
        self.flush()
        self._faults.safely(self._index.close, None)

    def __del__(self) -> None:
        with suppress(Exception):
            self.flush()

    def __repr__(self) -> str:
        return f"<Disk {fspath(self.path)!r}: at most {show_bytes(self.max_bytes)}>"

    # Opening:

    def _begin(self, network: str) -> None:
        try:
            if not self.readonly:
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
                if network:
                    check_locks(self.path / "leases")
            self._index.open()
            if not self.readonly:
                self._files.litter(remove=True)
        except NewerError:
            raise
        except FAULTS as error:
            if network and getattr(error, "errno", 0) in NO_LOCKS:
                raise
            if self._faults.recover(error):
                return
            self._faults.say(error)
            if not self.readonly and os.access(self._index.path, os.R_OK) and not damaged(error):
                self._index.readonly = self.readonly = True  # who may not write may still read

    def _begun(self, instead_of: str) -> None:
        """Begin an index anew: what the files hold, nobody knows any more."""
        self._files.clear()
        if instead_of:
            self._faults.say_once(
                "older", f"{instead_of} was there; it was set aside, and what it held is computed again"
            )

    def _forked(self) -> None:
        self._waiting.begin_anew()
        self._faults.again = 0.0

    def _keep(self, lease: Held) -> bool:
        return self._waiting.keep(lease)

    # Reading:

    def _get(self, key: bytes) -> Entry | None:
        # See NOTE [get].
        place = place_of(key)
        now = self._clock()
        found = self._find(place, now)
        if found is None:
            return None
        there, expires, size, digest, _, body = found
        if there != key or (expires is not None and expires <= now):
            return None
        if digest is not None and (body := self._load(place, digest, size)) is None:
            return None
        if not self.readonly:
            self._waiting.use(place, now)
        return Entry(partial(self._about, place, there, expires), [body])

    def _find(self, place: int, now: float) -> tuple[Any, ...] | None:
        """Give what FIND gives of a row, if it is sound."""
        waiting = self._waiting
        if (waiting.rows or waiting.committing) and (row := waiting.find(place)) is not None:
            return found_of(row)
        try:
            found = self._index.find(place, now)
        except sqlite3.Error as error:
            if not isinstance(error, sqlite3.DataError) and "decode" not in str(error):
                raise
            found = _UNSOUND
        if found is None or sound(*found):
            return found
        self._discard(place, found[3])
        return None

    def _load(self, place: int, digest: str, size: int) -> memoryview | None:
        with suppress(DamagedError, ValueError):
            body = self._files.load(digest, size)
            if body is not None:
                return body
        self._discard(place, digest)
        return None

    def _about(self, place: int, key: bytes, expires: float | None) -> About:
        """Give the facts of an entry that was found; see NOTE [get]. If it is gone by now, there are none."""

        def facts() -> tuple[Any, ...] | None:
            if (row := self._waiting.find(place)) is not None:
                return row.created, row.facts, row.facts_checksum, row.seconds, row.parent, row.pinned
            return self._index.one(FACTS, (place,))

        return about_of(key, expires, self._faults.safely(facts, None))

    def _discard(self, place: int, digest: str | None) -> None:
        """Take out a row that is damaged, or whose file is damaged or gone, with all other rows of that file."""
        if not self.readonly:
            self._waiting.write(lambda commit: commit.discard(place, digest))

    def _ask(self, sql: str, values: tuple[Any, ...]) -> list[Any]:
        return self._faults.safely(lambda: self._index.rows(sql, values), [])

    # Writing:

    def _put_row(self, key: bytes, entry: Entry, size: int) -> bool:
        return self._waiting.put(row_of(key, entry.about, size=size, now=self._clock(), body=b"".join(entry.body)))

    def _put_file(self, key: bytes, entry: Entry, size: int) -> bool:
        digest = self._files.digest(entry.body)
        row = row_of(key, entry.about, size=size, now=self._clock(), digest=digest)
        if self._waiting.nbytes + size > self.max_bytes and not self._waiting.write(lambda commit: commit.free(row)):
            return refuse(key, "what the store holds saves more seconds per byte")
        if self._files.size(digest) == size:
            with suppress(GoneError):
                return not self._waiting.commit(Batch({row.place: row}))
        new = self._files.write(entry.body)
        try:
            lost = self._waiting.commit(Batch({row.place: row}, new=new))
        finally:
            new.discard()
        if not lost:
            self._files.settle(digest)
        return not lost


_disks: WeakSet[Disk] = WeakSet()


@atexit.register
def _at_exit() -> None:
    for disk in list(_disks):
        disk.flush()


def default_directory() -> Path:
    """Give the directory of the user's cache, as the platform has it."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("memograd"))


def _one_of(name: str, value: str, words: Sequence[str], who: str = "Disk") -> None:
    if value not in words:
        raise ValueError(f"{who}() got {name}={value!r}, expected one of {', '.join(map(repr, words))}")
