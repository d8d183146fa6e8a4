"""Entries in a directory of this machine, for many processes at once: an index, and files for what is large.

NOTE [batches] A commit costs as much as ten rows. So the small entries that come within `DELAY` of a commit wait in
memory until it is over and are committed together; this process finds them at once, and another that waits for a key
gets the key's lease when it is committed. Uses are counted the same way, and committed with what comes a second later,
or at the end. What is killed loses what it has not committed: computations, no more.

NOTE [get] A `get` is one question to the index, and what it does in Python takes as long as SQLite does. So it asks for
what it needs and no more (the facts are another question, when somebody wants them), and makes no call that it need
not make.
"""

from __future__ import annotations

import atexit
import errno
import os
import sqlite3
import threading
import time
from contextlib import suppress
from functools import partial
from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from memograd._errors import warn
from memograd._events import Evict, listeners, tell
from memograd.store._base import Entry, Lease, Store
from memograd.store._commit import Batch, Commit, GoneError
from memograd.store._files import DIGESTS, DamagedError, Files
from memograd.store._host import Leases, check_locks, network_of
from memograd.store._index import Index, NewerError, damaged
from memograd.store._lock import guard, new_lock
from memograd.store._memory import refuse
from memograd.store._rows import (
    FACTS,
    HITS,
    INFO,
    LAST,
    OVERHEAD,
    USED,
    Row,
    about_of,
    found_of,
    info_of,
    place_of,
    row_of,
    sound,
)
from memograd.store._units import parse_bytes, show_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from memograd.store._base import About, Info
    from memograd.store._host import Held

Result = TypeVar("Result")

# See NOTE [batches].
DELAY = 0.05
MOST_ROWS = 256
MOST_BYTES = 8 << 20
MOST_USES = 16384
USES_DELAY = 1.0
# What was gone or locked is tried again after so long; in between every call is a miss.
PAUSE = 1.0
INLINE = 32 << 10
_CHUNK = 500
_ORDERS = {
    "saved": f"{HITS} * seconds", "used": LAST, "nbytes": "nbytes", "hits": HITS, "seconds": "seconds",
    "created": "created",
}  # fmt: skip
_LIVE = "(expires IS NULL OR expires > ?)"
_FAULTS = (sqlite3.Error, OSError, NewerError, DamagedError, UnicodeDecodeError, MemoryError)


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
            forked=self._forget,
        )
        self._said: set[str] = set()
        self._lock = new_lock()
        self._forget()
        guard(self._lock, self)
        self._begin(network)
        _disks.add(self)

    # What a store does:

    def get(self, key: bytes) -> Entry | None:
        """Give the entry of a key, None if there is none, and count that as a use."""
        if self._again and time.monotonic() < self._again:
            return None
        try:
            return self._get(key)
        except _FAULTS as error:
            return self._once_more(error, lambda: self._get(key), None)

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
        if self._again and time.monotonic() < self._again:
            return False
        try:
            return put(key, entry, size)
        except _FAULTS as error:
            return self._once_more(error, lambda: put(key, entry, size), False)

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
        return self._safely(lambda: self._write(lambda commit: commit.delete(wanted, self._clock())), 0)

    def contains(self, key: bytes) -> bool:
        """Tell whether there is an entry, without counting that as a use."""
        now = self._clock()
        found = self._safely(lambda: self._find(place_of(key), now), None)
        return found is not None and found[0] == key and (found[1] is None or found[1] > now)

    def infos(self) -> Iterator[Info]:
        """Go through all entries, in any order. Entries that come or go meanwhile may be missed."""
        return self.scan()

    def scan(self, *, sort: str = "", limit: int | None = None) -> Iterator[Info]:
        """Go through entries, the greatest in `sort` first; without it at once, whatever their number."""
        if sort:
            _one_of("sort", sort, tuple(_ORDERS), who="scan")
        self.flush()
        yield from self._sorted(_ORDERS[sort], limit) if sort else self._unsorted(limit)

    def count(self) -> int:
        """Count the entries."""
        self.flush()
        return max(self._total("entries") - self._safely(lambda: self._index.one(_ENDED, (self._clock(),))[0], 0), 0)

    @property
    def nbytes(self) -> int:
        """Count the bytes that entries take: bodies, facts, and by estimate their places; equal files once."""
        self.flush()
        return self._total("nbytes")

    def clear(self) -> int:
        """Take every entry out; count them."""
        if self.readonly:
            return 0
        count = self.count()
        self._safely(lambda: self._write(lambda commit: commit.clear()), None)
        self._safely(self._index.shrink, None)
        return count

    def pin(self, key: bytes, *, pinned: bool = True) -> bool:
        """Keep an entry from being evicted, or no longer; tell whether there is one."""
        if self.readonly or not self.contains(key):
            return False
        return self._safely(lambda: self._write(lambda commit: commit.pin(place_of(key), bytes(key), pinned)), False)

    def lease(self, key: bytes) -> Lease | None:
        """Take the right to compute a key; None while another thread or process of this host has it."""
        try:
            return self._leases.lease(key)
        except OSError as error:
            # Two may then compute the same, and both be right.
            self._say(error)
            return _Nobodys()

    def flush(self) -> None:
        """Commit what waits to be committed."""
        if self._rows or self._uses:
            self._safely(self._flush, None)

    def close(self) -> None:
        """Commit what waits, and let go of files. What is asked of it later opens them again."""
        self.flush()
        self._safely(self._index.close, None)

    def __del__(self) -> None:
        with suppress(Exception):
            self.flush()

    def begin_anew(self) -> None:
        """Forget what waits: after a fork it is the parent's."""
        self._forget()

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
        except _FAULTS as error:
            if network and getattr(error, "errno", 0) in _NO_LOCKS:
                raise
            if self._recover(error):
                return
            self._say(error)
            if not self.readonly and os.access(self._index.path, os.R_OK) and not damaged(error):
                self._index.readonly = self.readonly = True  # who may not write may still read

    def _begun(self, instead_of: str) -> None:
        """Begin an index anew: what the files hold, nobody knows any more."""
        self._files.clear()
        if instead_of:
            self._say_once("older", f"{instead_of} was there; it was set aside, and what it held is computed again")

    def _forget(self) -> None:
        self._rows: dict[int, Row] = {}
        self._committing: dict[int, Row] = {}
        self._rows_bytes = 0
        self._committed = 0.0
        self._uses: dict[int, tuple[int, float]] = {}  # by place, how often, and when last
        self._used_since = 0.0
        self._leases_kept: list[Held] = []
        self._thread: threading.Thread | None = None
        self._nbytes = 0
        self._again = 0.0

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
            # Without a lock: of two threads that count one entry at once, the count of one may be lost.
            uses = self._uses
            if not uses:
                self._used_since = now
            uses[place] = uses.get(place, _UNUSED)[0] + 1, now
            if len(uses) >= MOST_USES or not 0.0 <= now - self._used_since < USES_DELAY:
                self.flush()
        return Entry(partial(self._about, place, there, expires), [body])

    def _find(self, place: int, now: float) -> tuple[Any, ...] | None:
        """Give what FIND gives of a row, if it is sound."""
        if self._rows or self._committing:
            row = self._rows.get(place) or self._committing.get(place)
            if row is not None:
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
            if (row := self._rows.get(place) or self._committing.get(place)) is not None:
                return row.created, row.facts, row.facts_checksum, row.seconds, row.parent, row.pinned
            return self._index.one(FACTS, (place,))

        return about_of(key, expires, self._safely(facts, None))

    def _discard(self, place: int, digest: str | None) -> None:
        """Take out a row that is damaged, or whose file is damaged or gone, with all other rows of that file."""
        if not self.readonly:
            self._write(lambda commit: commit.discard(place, digest))

    def _unsorted(self, limit: int | None) -> Iterator[Info]:
        last = -(1 << 63)
        left = limit
        while left is None or left > 0:
            some = _CHUNK if left is None else min(left, _CHUNK)
            rows = self._safely(lambda: self._index.rows(_PAGE, (last, self._clock(), some)), [])  # noqa: B023 - called at once
            yield from (info for row in rows if (info := info_of(row)))
            if len(rows) < some:
                return
            last = rows[-1][0]
            left = None if left is None else left - len(rows)

    def _sorted(self, order: str, limit: int | None) -> Iterator[Info]:
        sql = f"SELECT id FROM {USED} WHERE {_LIVE} ORDER BY {order} DESC LIMIT ?"  # noqa: S608 - of _ORDERS
        ids = [
            row[0]
            for row in self._safely(lambda: self._index.rows(sql, (self._clock(), -1 if limit is None else limit)), [])
        ]
        for at in range(0, len(ids), _CHUNK):
            some = ids[at : at + _CHUNK]
            marks = ", ".join("?" * len(some))
            sql = f"SELECT {INFO} FROM {USED} WHERE id IN ({marks})"  # noqa: S608 - marks alone
            rows = {row[0]: row for row in self._safely(lambda: self._index.rows(sql, tuple(some)), [])}  # noqa: B023
            yield from (info for each in some if each in rows and (info := info_of(rows[each])))

    def _total(self, name: str) -> int:
        found = self._safely(lambda: self._index.one(f"SELECT {name} FROM totals"), None)  # noqa: S608 - of two names
        return found[0] if found else 0

    # Writing. See NOTE [batches].

    def _put_row(self, key: bytes, entry: Entry, size: int) -> bool:
        body = b"".join(entry.body)
        row = row_of(key, entry.about, size=size, now=self._clock(), body=body)
        place = row.place
        with self._lock:
            self._rows[place] = row
            self._rows_bytes += row.nbytes
            full = len(self._rows) >= MOST_ROWS or self._rows_bytes > MOST_BYTES
            full = full or time.monotonic() - self._committed > DELAY
            if not full and self._nbytes + self._rows_bytes <= self.max_bytes and self._started():
                return True
        return place not in self._flush()

    def _put_file(self, key: bytes, entry: Entry, size: int) -> bool:
        digest = self._files.digest(entry.body)
        row = row_of(key, entry.about, size=size, now=self._clock(), digest=digest)
        if self._nbytes + size > self.max_bytes and not self._write(lambda commit: commit.free(row)):
            return refuse(key, "what the store holds saves more seconds per byte")
        if self._files.size(digest) == size:
            with suppress(GoneError):
                return not self._flush(Batch({row.place: row}))
        new = self._files.write(entry.body)
        try:
            lost = self._flush(Batch({row.place: row}, new=new))
        finally:
            new.discard()
        if not lost:
            self._files.settle(digest)
        return not lost

    def _flush(self, last: Batch | None = None) -> set[int]:
        """Commit what waits, then `last`; give the places of what was not taken."""
        with self._index.write_lock:
            with self._lock:
                uses, self._uses = self._uses, {}
                batch = Batch(self._rows, uses.copy())  # a thread that counts may still have it
                self._committing = self._rows
                self._rows, self._rows_bytes = {}, 0
                leases, self._leases_kept = self._leases_kept, []
            try:
                lost: set[int] = set()
                for each in (batch, last or Batch({})):
                    if each.rows or each.uses:
                        lost |= self._commit_again(lambda commit: commit.apply(each))  # noqa: B023 - called at once
                return lost
            finally:
                self._committing = {}
                self._committed = time.monotonic()
                for lease in leases:
                    lease.let_go()

    def _write(self, act: Callable[[Commit], Result]) -> Result:
        with self._index.write_lock:
            if self._rows or self._uses:
                self._flush()
            return self._commit_again(act)

    def _commit_again(self, act: Callable[[Commit], Result]) -> Result:
        try:
            return self._commit(act)
        except _FAULTS as error:
            if not self._recover(error):
                raise
            return self._commit(act)

    def _commit(self, act: Callable[[Commit], Result]) -> Result:
        evicted: list[tuple[bytes, str]] = []
        with self._index.writing() as connection:
            commit = Commit(connection, self._files, self.max_bytes, self._clock(), evicted)
            result = act(commit)
            self._nbytes = commit.close()
        for key, reason in evicted if listeners else ():
            tell(Evict(key, reason))
        return result

    def _started(self) -> bool:
        """Have a thread commit soon; tell whether there is one. With the lock held."""
        if self._thread is None:
            thread = threading.Thread(target=self._commit_soon, name="memograd-disk")
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending
                return False
            self._thread = thread
        return True

    def _commit_soon(self) -> None:
        # No daemon: a process that ends waits for its last rows.
        while True:
            time.sleep(DELAY)
            self.flush()
            with self._lock:
                if not self._rows:
                    self._thread = None
                    return

    def _keep(self, lease: Held) -> bool:
        """Keep a lease that is given back until the entry of its key is committed."""
        with self._lock:
            waits = place_of(lease.key) in self._rows or place_of(lease.key) in self._committing
            if waits:
                self._leases_kept.append(lease)
            return waits

    # Faults:

    def _safely(self, act: Callable[[], Result], otherwise: Result) -> Result:
        """Do something, a second time if what was in the way could be removed; say once what could not."""
        if self._again and time.monotonic() < self._again:
            return otherwise
        try:
            return act()
        except _FAULTS as error:
            return self._once_more(error, act, otherwise)

    def _once_more(self, error: BaseException, act: Callable[[], Result], otherwise: Result) -> Result:
        """Do what failed a second time if what was in the way can be removed."""
        try:
            if self._recover(error):
                return act()
        except _FAULTS as again:
            error = again
        self._say(error)
        if _lasting(error):
            self._again = time.monotonic() + PAUSE
        return otherwise

    def _recover(self, error: BaseException) -> bool:
        """Begin the index anew if it is damaged, open it again if it was exchanged; tell whether that was done."""
        try:
            if not self._index.readonly and self._index.hopeless(error):
                if self._index.set_aside():
                    self._say_once(
                        "damaged", f"its index is damaged ({error}) and was begun anew; what it held is computed again"
                    )
                return True
            if self._index.moved():
                if not self.readonly:
                    self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._index.reopen()
                return True
        except _FAULTS:
            pass
        return False

    def _say(self, error: BaseException) -> None:
        kind, what = _fault(error)
        self._say_once(kind, what)

    def _say_once(self, kind: str, what: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            warn(f"Disk({fspath(self.path)!r}): {what}")


_disks: WeakSet[Disk] = WeakSet()


@atexit.register
def _at_exit() -> None:
    for disk in list(_disks):
        disk.flush()


class _Nobodys(Lease):
    """What stands for a lease where none can be had."""

    @property
    def held(self) -> bool:
        """Tell that it is nobody's."""
        return False

    def release(self) -> None:
        """Do nothing."""


_UNUSED = 0, 0.0
# What stands for a row that cannot even be read.
_UNSOUND: tuple[Any, ...] = (None,) * 6
_ENDED = "SELECT count(*) FROM entries WHERE expires <= ?"
_PAGE = f"SELECT {INFO} FROM {USED} WHERE id > ? AND {_LIVE} ORDER BY id LIMIT ?"  # noqa: S608 - no input in it
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


def _fault(error: BaseException) -> tuple[str, str]:
    """Name the kind of a fault, and say it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    number = getattr(error, "errno", None)
    text = str(error)
    if code == 13 or number in _FULL or "is full" in text:
        return "full", f"there is no room on the disk ({text}); results are computed and not kept"
    if code in {3, 8, 14, 23} or number in _DENIED or "readonly" in text or "unable to open" in text:
        return "denied", f"it may not be written to, or not read ({text}); results are computed and not kept"
    if code in {5, 6} or "locked" in text:
        return "busy", f"another process keeps it locked ({text}); meanwhile results are computed and not kept"
    if isinstance(error, NewerError):
        return "newer", text
    return "failed", f"it cannot be used ({type(error).__name__}: {text}); results are computed and not kept"


def _lasting(error: BaseException) -> bool:
    """Tell whether a fault is likely to be met again at once."""
    return _fault(error)[0] != "full"


def default_directory() -> Path:
    """Give the directory of the user's cache, as the platform has it."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("memograd"))


def _one_of(name: str, value: str, words: Sequence[str], who: str = "Disk") -> None:
    if value not in words:
        raise ValueError(f"{who}() got {name}={value!r}, expected one of {', '.join(map(repr, words))}")
