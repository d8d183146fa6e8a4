"""Whether a directory is what a `Disk` left there: every row, every file, and nothing else; and what is not, made good.

It may be used meanwhile: what looks wrong is looked at again inside a commit before anything is removed.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from memograd.store._disk._commit import Commit
from memograd.store._disk._files import DamagedError, Files
from memograd.store._disk._host import Leases
from memograd.store._disk._index import Index
from memograd.store._disk._rows import FIELDS, Row, facts_sound, found_of, place_of, sound

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 200
_PAGE = f"SELECT id, {FIELDS} FROM entries WHERE id > ? ORDER BY id LIMIT {_CHUNK}"  # noqa: S608 - no input in it
_HOLDS = "SELECT 1 FROM entries WHERE digest = ? LIMIT 1"
_WORDS = {
    "index": ("the index is damaged", "it was begun anew"),
    "totals": ("the totals are not what the entries come to", "they were counted again"),
    "row": ("entries are damaged", "they were removed"),
    "missing": ("entries have lost their file", "they were removed"),
    "file": ("files are not what their name says", "they were removed, and their entries"),
    "orphan": ("files belong to no entry", "they were removed"),
    "strange": ("files are none of memograd's", "they were left alone"),
    "litter": ("files were left half written", "they were removed"),
    "aside": ("damaged indexes lie aside", "they were removed"),
    "unreadable": ("the directory cannot be read", "nothing could be done"),
}


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in a directory.

    Attributes:
        path: the directory.
        entries: how many entries were looked at.
        files: how many files were looked at.
        nbytes: the bytes that were read.
        found: how much of each kind of damage there is; empty if there is none.
        fixed: it was made good.
    """

    path: Path
    entries: int
    files: int
    nbytes: int
    found: dict[str, int]
    fixed: bool = False

    @property
    def sound(self) -> bool:
        """Tell whether nothing was found."""
        return not self.found

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.entries:,} entries, {self.files:,} files, {self.nbytes:,} bytes read"]
        for kind, count in self.found.items():
            what, done = _WORDS[kind]
            lines.append(f"  {count:,}: {what}" + (f"; {done}" if self.fixed else ""))
        if not self.found:
            lines.append("  nothing is damaged")
        elif not self.fixed:
            lines.append("  with fix, what is damaged is removed and computed again when it is asked for")
        return "\n".join(lines)


def check(path: str | os.PathLike[str], *, fix: bool = False) -> Report:
    """Look at every entry and every file of a directory.

    Args:
        path: the directory of a `Disk`.
        fix: remove what is damaged; what of it is needed is computed again.

    Raises:
        NewerError: it was written by a later version; a `ValueError`.
    """
    root = Path(os.fspath(path)).expanduser().absolute()
    if not (root / "index.sqlite").exists() and not (root / "files").exists():
        return Report(root, 0, 0, 0, {})
    found = _Check(root, fix=fix)
    try:
        found.run()
    except OSError:
        found.count("unreadable")
    finally:
        found.index.close()
    return Report(root, found.entries, found.files_seen, found.nbytes, found.found, fix)


class _Check:
    """One look at a directory, and what it has found so far."""

    def __init__(self, root: Path, *, fix: bool) -> None:
        self.root = root
        self.fix = fix
        self.aside = {*_aside(root)}
        self.found: dict[str, int] = {}
        self.entries = self.files_seen = self.nbytes = 0
        # Read, not mapped, and with a memory of its own: what was verified before is verified again.
        self.files = Files(root / "files", load="read", remember=False)
        alone = Leases(root / "leases").alone
        self.index = Index(root / "index.sqlite", alone=alone, begun=lambda _: self.files.clear(), readonly=not fix)

    def count(self, kind: str, much: int = 1) -> None:
        """Count damage."""
        if much:
            self.found[kind] = self.found.get(kind, 0) + much

    def run(self) -> None:
        """Look at everything."""
        try:
            self._integrity()
            self._rows()
            self._totals()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            self.count("index")
            if self.fix and self.index.hopeless(error):
                self.index.set_aside()
        self._files()
        self._around()

    def _integrity(self) -> None:
        bad = [row[0] for row in self.index.rows("PRAGMA integrity_check(10)") if row[0] != "ok"]
        if bad:
            raise sqlite3.DatabaseError(f"malformed: {bad[0]}")
        if self.fix:
            with self.index.writing():
                pass  # one flipped bit says that the file is not to be written to

    def _rows(self) -> None:
        last = -(1 << 63)
        while rows := self.index.rows(_PAGE, (last,)):
            last = rows[-1][0]
            for ident, *fields in rows:
                row = Row._make(fields)
                self.entries += 1
                self.nbytes += len(row.body or b"")
                if not (sound(*found_of(row)) and facts_sound(row)) or place_of(row.key) != row.place:
                    self.count("row")
                    self._remove(ident, None)
                elif row.digest is not None:
                    self._file_of(row, ident)

    def _file_of(self, row: Row, ident: int) -> None:
        assert row.digest is not None
        try:
            body = self.files.load(row.digest, row.size)
        except DamagedError:
            self.count("file")
            self._remove(ident, row.digest)
            return
        self.nbytes += row.size
        if body is None and self._still(ident):
            self.count("missing")
            self._remove(ident, row.digest)

    def _still(self, ident: int) -> bool:
        return self.index.one("SELECT 1 FROM entries WHERE id = ?", (ident,)) is not None

    def _totals(self) -> None:
        found = self.index.one(_TOTALS)
        if found is None:
            raise sqlite3.DatabaseError("malformed: it has no totals")
        entries, nbytes, at_all, counted = found
        if (entries, nbytes) != (at_all, counted):
            self.count("totals")
            if self.fix:
                with self.index.writing() as connection:
                    _, _, entries, nbytes = connection.execute(_TOTALS).fetchone()
                    connection.execute("UPDATE totals SET entries = ?, nbytes = ?, clock = 0.0", (entries, nbytes))

    def _remove(self, ident: int, digest: str | None) -> None:
        if self.fix:
            with self.index.writing() as connection:
                commit = Commit(connection, self.files, 0, 0.0, [])
                commit.remove(ident, digest)
                commit.close()

    def _files(self) -> None:
        for path, digest in self.files.all():
            self.files_seen += 1
            if not digest:
                self.count("strange")
            elif not self._held(digest):
                self._orphan(path, digest)

    def _held(self, digest: str) -> bool:
        try:
            return self.index.one(_HOLDS, (digest,)) is not None
        except sqlite3.Error:
            return True

    def _orphan(self, path: Path, digest: str) -> None:
        # Files get their names inside the commit that puts their row: in another commit, none has its row yet to come.
        if not self.fix:
            self.count("orphan", path.exists())
            return
        with self.index.writing() as connection:
            if connection.execute(_HOLDS, (digest,)).fetchone() is None and path.exists():
                self.count("orphan")
                path.unlink(missing_ok=True)

    def _around(self) -> None:
        self.count("litter", self.files.litter(remove=self.fix))
        aside = {*_aside(self.root)}
        self.count("aside", sum(path.name.endswith("sqlite.damaged") for path in self.aside))
        if aside - self.aside and "index" not in self.found:
            self.count("index")  # it could not even be opened
        for path in aside if self.fix else ():
            path.unlink(missing_ok=True)


_TOTALS = """SELECT totals.entries, totals.nbytes, (SELECT count(*) FROM entries),
    (SELECT coalesce(sum(nbytes), 0) FROM entries)
    - (SELECT coalesce(sum(size * (times - 1)), 0)
       FROM (SELECT max(size) AS size, count(*) AS times FROM entries WHERE digest IS NOT NULL GROUP BY digest))
    FROM totals"""


def _aside(root: Path) -> Iterator[Path]:
    return root.glob("index.sqlite*.damaged")
