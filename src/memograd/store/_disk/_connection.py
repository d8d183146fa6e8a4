"""One connection to the file of an index: how it is set, and whether what it opens is an index of this version."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from memograd.store._disk._rows import APPLICATION, SCHEMA, VERSION
from memograd.store._evict import priority

if TYPE_CHECKING:
    from pathlib import Path

# How long another process may keep us from writing.
PATIENCE = 5.0
# Without a limit the log keeps for ever the size that it once had.
_SETTINGS = (
    "mmap_size = 0", "trusted_schema = OFF", "cell_size_check = ON", "synchronous = NORMAL",
    "cache_size = -16384",
    f"journal_size_limit = {64 << 20}",
)  # fmt: skip
_STRICT = " STRICT" if sqlite3.sqlite_version_info >= (3, 37) else ""
_SCHEMA = tuple(sql + _STRICT if sql.startswith("CREATE TABLE") else sql for sql in SCHEMA)
_DAMAGED = (
    "malformed",
    "not a database",
    "no such table",
    "no such column",
    "no such index",
    "unsupported file format",
)


class NewerError(ValueError):
    """An index was written by a later version of memograd."""


class NotOursError(sqlite3.DatabaseError):
    """A file is a database, and no index of this version."""


def open_as(path: Path, options: str, *, wal: bool, readonly: bool) -> sqlite3.Connection:
    """Open a file that is an index of this version, or is empty and becomes one.

    Raises:
        NewerError: it is of a later version.
        NotOursError: it is something else.
        sqlite3.Error: it cannot be opened.
    """
    connection = connect(path, options)
    try:
        if _prepare(connection, path, wal=wal, readonly=readonly):
            return connection
    except BaseException:
        connection.close()
        raise
    connection.close()
    raise NotOursError("not a database of memograd, of this version")


def connect(path: Path, options: str) -> sqlite3.Connection:
    """Open a file, whatever it is. Raises `sqlite3.Error`."""
    uri = f"file:{quote(os.fspath(path))}?{options}"
    connection = sqlite3.connect(uri, uri=True, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
    # No mapping: a page behind the end of a truncated file would kill the process. No code from the schema.
    try:
        for setting in _SETTINGS:
            connection.execute(f"PRAGMA {setting}")
        connection.create_function("priority_of", 4, _priority_of, deterministic=True)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, *, wal: bool, readonly: bool) -> bool:
    """Look what a file is, and make the tables of a new one; tell whether it is an index of this version."""
    application, version = pragma(connection, "application_id"), pragma(connection, "user_version")
    tables = {str(sql) for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
    if application == APPLICATION and version > VERSION:
        raise NewerError(
            f"Disk() got {str(path.parent)!r}, whose index has version {version}, expected at most {VERSION};"
            " install a later memograd, or write Disk('another directory')"
        )
    if (application, version, tables) == (0, 0, set()) and not readonly:
        _make(connection, wal=wal)
        return True
    if not readonly:
        connection.execute(f"PRAGMA journal_mode = {'WAL' if wal else 'DELETE'}")
    # Tables, and triggers, that are not ours may do anything.
    return (application, version) == (APPLICATION, VERSION) and {_plain(sql) for sql in tables} == {
        *map(_plain, SCHEMA)
    }


def _make(connection: sqlite3.Connection, *, wal: bool) -> None:
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute(f"PRAGMA journal_mode = {'WAL' if wal else 'DELETE'}")
    connection.execute("BEGIN IMMEDIATE")
    for sql in _SCHEMA:
        connection.execute(sql)
    connection.execute("INSERT INTO totals VALUES (1, 0, 0, 0.0)")
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def pragma(connection: sqlite3.Connection, name: str) -> Any:
    """Ask for a setting."""
    found = connection.execute(f"PRAGMA {name}").fetchone()
    if found is None:
        raise sqlite3.DatabaseError(f"malformed: it has no {name}")
    return found[0]


def damaged(error: BaseException) -> bool:
    """Tell whether an error says that the file is damaged."""
    # The second: what SQLite says of a damaged schema has pieces of it in it, which may be no text.
    if isinstance(error, (sqlite3.IntegrityError, UnicodeDecodeError)):
        return True
    if not isinstance(error, sqlite3.Error):
        return False
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in {11, 26} or any(words in str(error) for words in _DAMAGED)


def _plain(sql: str) -> str:
    return sql.removesuffix(_STRICT) if _STRICT else sql.removesuffix(" STRICT")


def lenient(text: bytes) -> str:
    """Read text that may be none."""
    return text.decode("utf-8", "replace")


def _priority_of(clock: object, uses: object, seconds: object, nbytes: object) -> float:
    """Rank an entry whose row may be damaged."""
    try:
        return priority(float(clock), int(uses), float(seconds), int(nbytes))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return 0.0
