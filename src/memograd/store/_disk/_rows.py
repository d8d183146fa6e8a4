"""One entry as a row of the index, with checksums over all that was put; and back, trusting nothing.

There are two checksums, each with the key under it: one over what a `get` needs, and one over the facts, which are read
only when somebody asks for them. What changes later (uses, priority, pin, seconds from the nearest ancestor on) is
under neither: it decides what is evicted, and never what a call gives.
"""

from __future__ import annotations

import math
import struct
from typing import Any, NamedTuple

from msgspec.json import Decoder, Encoder
from xxhash import xxh3_64_intdigest

from memograd.store._base import About, Info

# "memo" in ASCII. The version counts changes of what follows; an index of another version is not read.
APPLICATION = 0x6D656D6F
VERSION = 1

# A row's place is 64 bits of its key's digest; two keys with one place are never both there. Rows are written one
# behind the other, whatever their keys, since large rows at random places would make each commit write as many pages.
# For the same reason uses are counted beside the rows: to count one in a row would write the row, with its body. The
# body is last, so that nothing lies behind what may fill pages.
SCHEMA = (
    """CREATE TABLE entries (
    id INTEGER PRIMARY KEY, priority REAL NOT NULL,
    place INTEGER NOT NULL, nbytes INTEGER NOT NULL, seconds REAL NOT NULL, pinned INTEGER NOT NULL, used REAL NOT NULL,
    parent BLOB, created REAL NOT NULL, facts BLOB NOT NULL, facts_checksum INTEGER NOT NULL,
    key BLOB NOT NULL, expires REAL, size INTEGER NOT NULL, digest TEXT, checksum INTEGER NOT NULL, body BLOB
)""",
    "CREATE UNIQUE INDEX places ON entries (place)",
    "CREATE INDEX least ON entries (priority) WHERE pinned = 0",
    "CREATE INDEX ends ON entries (expires) WHERE expires IS NOT NULL",
    "CREATE INDEX children ON entries (parent) WHERE parent IS NOT NULL",
    "CREATE INDEX files ON entries (digest) WHERE digest IS NOT NULL",
    """CREATE TABLE uses (
    at INTEGER PRIMARY KEY, hits INTEGER NOT NULL, last REAL NOT NULL, age REAL NOT NULL
)""",
    """CREATE TABLE totals (
    id INTEGER PRIMARY KEY, entries INTEGER NOT NULL, nbytes INTEGER NOT NULL, clock REAL NOT NULL
)""",
)


class Row(NamedTuple):
    """What is put of an entry."""

    place: int
    nbytes: int
    seconds: float
    pinned: int
    used: float
    parent: bytes | None
    created: float
    facts: bytes
    facts_checksum: int
    key: bytes
    expires: float | None
    size: int
    digest: str | None
    checksum: int
    body: bytes | None


FIELDS = ", ".join(Row._fields)
INSERT = f"""INSERT INTO entries ({FIELDS}, priority) VALUES (?{", ?" * len(Row._fields)})
ON CONFLICT (place) DO NOTHING"""  # noqa: S608 - no input in it, as in all that follow
_FOUND = slice(Row._fields.index("key"), None)
FIND = f"SELECT {', '.join(Row._fields[_FOUND])} FROM entries WHERE place = ?"  # noqa: S608
FACTS = "SELECT created, facts, facts_checksum, seconds, parent, pinned FROM entries WHERE place = ?"
USED = "entries LEFT JOIN uses ON at = place"
HITS = "coalesce(hits, 0)"
LAST = "max(used, coalesce(last, 0.0))"
INFO = (
    "entries.id, key, expires, created, facts, facts_checksum, seconds, parent, pinned, nbytes,"
    f" {HITS} AS hits, {LAST} AS used"
)
# What a row takes beside its body, by estimate: its numbers, and its places in the table and the indexes.
OVERHEAD = 200
_MIDDLE = 1 << 63
_HEAD = struct.Struct("<qqd")
_FACTS_HEAD = struct.Struct("<qd")
_NEVER = math.nan
_encode = Encoder().encode
_decode = Decoder(tuple[str, str, dict[str, str], tuple[str, ...]]).decode


def found_of(row: Row) -> tuple[Any, ...]:
    """Give what FIND gives of a row, what a `get` needs: its end."""
    values: tuple[Any, ...] = row
    return values[_FOUND]


def place_of(key: bytes) -> int:
    """Give the place of a key in the index."""
    return xxh3_64_intdigest(key) - _MIDDLE


def row_of(
    key: bytes, about: About, *, size: int, now: float, digest: str | None = None, body: bytes | None = None
) -> Row:
    """Make the row of an entry whose body is in the row, or in a file."""
    key = bytes(key)
    facts = _facts_of(about)
    created, expires = _finite(about.created), about.expires
    if expires is not None:
        expires = None if math.isnan(expires) else float(expires)
    return Row._make((
        place_of(key), size + len(key) + len(facts) + OVERHEAD, _finite(about.seconds), int(about.pinned), now,
        about.parent, created, facts, facts_checksum_of(key, created, facts),
        key, expires, size, digest, checksum_of(key, expires, size, digest, body), body,
    ))  # fmt: skip


def checksum_of(key: bytes, expires: float | None, size: int, digest: str | None, body: bytes | None) -> int:
    """Sum up what a `get` needs; with lengths, so that no piece can pass for a part of another."""
    end = _NEVER if expires is None else expires
    if digest is None:
        return xxh3_64_intdigest(_HEAD.pack(len(key), size, end) + key + (body or b"")) - _MIDDLE
    return xxh3_64_intdigest(_HEAD.pack(~len(key), size, end) + key + digest.encode()) - _MIDDLE


def facts_checksum_of(key: bytes, created: float, facts: bytes) -> int:
    """Sum up the facts."""
    return xxh3_64_intdigest(_FACTS_HEAD.pack(len(key), created) + key + facts) - _MIDDLE


def sound(key: bytes, expires: float | None, size: int, digest: str | None, checksum: int, body: bytes | None) -> bool:
    """Tell whether what a `get` needs is what was put."""
    try:
        return (
            checksum == checksum_of(key, expires, size, digest, body)
            and (digest is None) != (body is None)
            and size >= 0
        )
    except (TypeError, AttributeError, ValueError, struct.error):
        return False


def facts_sound(row: Row) -> bool:
    """Tell whether the facts of a row are what was put."""
    try:
        return row.facts_checksum == facts_checksum_of(row.key, row.created, row.facts)
    except (TypeError, ValueError, struct.error):
        return False


def about_of(key: bytes, expires: float | None, found: tuple[Any, ...] | None) -> About:
    """Give the facts of a row of FACTS. What is damaged, or gone by now, has none but its end."""
    if found is None:
        return About(expires=expires)
    created, facts, checksum, seconds, parent, pinned = found
    try:
        if checksum == facts_checksum_of(key, created, facts):
            function, text, parts, tags = _decode(facts)
            parent = parent if type(parent) is bytes else None
            return About(function, text, parts, _number(seconds), created, expires, parent, tags, bool(pinned))
    except (TypeError, ValueError, struct.error, RecursionError):
        pass
    return About(expires=expires)


def info_of(row: tuple[Any, ...]) -> Info | None:
    """Give the facts of a row of INFO, None if it is damaged."""
    _, key, expires, *found, nbytes, hits, used = row
    try:
        about = about_of(key, None if expires is None else float(expires), tuple(found))
        return Info(bytes(key), about, int(nbytes), int(hits), float(used))
    except (TypeError, ValueError):
        return None


def _facts_of(about: About) -> bytes:
    facts = about.function, about.text, about.parts, about.tags
    try:
        return _encode(facts)
    except UnicodeEncodeError:  # half of a surrogate pair
        parts = {_clean(name): _clean(part) for name, part in about.parts.items()}
        return _encode((_clean(about.function), _clean(about.text), parts, [*map(_clean, about.tags)]))


def _clean(text: str) -> str:
    """Replace what is no Unicode, which cannot be written."""
    return text.encode("utf-8", "replace").decode()


def _number(value: Any) -> float:
    """Read a number of a row that may be damaged."""
    return _finite(value) if type(value) is float else 0.0


def _finite(number: float) -> float:
    return float(number) if 0.0 <= number < math.inf else 0.0
