"""An entry as one string of bytes, which nobody has to be believed for: a header, the facts as JSON, the body.

| bytes | what |
|---|---|
| 0-3 | "mgrd" |
| 4 | version of this layout, 1 |
| 5 | 1 if pinned; the one byte that is changed in place, so no part of the digest |
| 6-9 | length of the facts |
| 10-17 | length of the body |
| 18-49 | BLAKE3 of all of this, and of the key: whoever shares a store may choose colliding inputs |
"""

from __future__ import annotations

import struct
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from memograd.store._base import About, Entry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memograd.store._base import Buffer

MAGIC, VERSION = b"mgrd", 1
PINNED = 5
_HEAD = struct.Struct(">4sBBIQ32s")
HEAD = _HEAD.size
# Facts are for people: a megabyte of them is somebody's attack.
LONGEST_ABOUT = 1 << 20
_ALL_CORES_FROM = 1 << 20
# Redis's own limit of a string, from which a longer one is refused by the server.
MAX_ENTRY = 512 << 20


class Damaged(Exception):  # noqa: N818 - control flow
    """It is no entry, or not this key's, or of a version that is not known."""


def seal(key: bytes, entry: Entry) -> list[Buffer]:
    """Write an entry: the header with the facts, and the pieces of the body as bytes."""
    about = _facts(entry.about)
    pieces = [_flat(piece) for piece in entry.body]
    nbytes = sum(piece.nbytes for piece in pieces)
    digest = _digest(key, about, nbytes, pieces)
    return [_HEAD.pack(MAGIC, VERSION, entry.about.pinned, len(about), nbytes, digest) + about, *pieces]


def length(data: bytes) -> int:
    """Read from its beginning how long an entry is. Raises `Damaged`."""
    return _lengths(data)[2]


def open_about(data: bytes) -> About:
    """Read the facts, unverified: for people, and to decide what to read. Raises `Damaged`."""
    pinned, about, _ = _lengths(data)
    return _about(data[HEAD : HEAD + about], pinned=pinned)


def about_ends(data: bytes) -> int:
    """Read where the facts end. Raises `Damaged`."""
    return HEAD + _lengths(data)[1]


def unseal(key: bytes, data: Buffer) -> Entry:
    """Read an entry, all of it verified. Raises `Damaged`."""
    pinned, about, total = _lengths(bytes(memoryview(data)[:HEAD]))
    view = memoryview(data)
    if view.nbytes != total:
        raise Damaged("of another length than it says")
    facts, body = bytes(view[HEAD : HEAD + about]), view[HEAD + about :]
    if _digest(key, facts, body.nbytes, [body]) != bytes(view[HEAD - 32 : HEAD]):
        raise Damaged("the digest is another's")
    return Entry(_about(facts, pinned=pinned), [body])


def expired(about: About) -> bool:
    """Tell whether an entry's time is over."""
    return about.expires is not None and about.expires <= time.time()


def _lengths(data: bytes) -> tuple[bool, int, int]:
    """Read whether it is pinned, the length of the facts, and of everything."""
    if len(data) < HEAD:
        raise Damaged("too short")
    magic, version, pinned, about, body, _ = _HEAD.unpack_from(data)
    if magic != MAGIC or version != VERSION or about > LONGEST_ABOUT:
        raise Damaged("of a layout that is not known")
    return bool(pinned), about, HEAD + about + body


def _about(facts: bytes, *, pinned: bool) -> About:
    import msgspec

    try:
        about = msgspec.json.decode(facts, type=About)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Damaged("its facts are none") from error
    return about if about.pinned is pinned else replace(about, pinned=pinned)


def _facts(about: About) -> bytes:
    import msgspec

    try:
        facts = msgspec.json.encode(about)
    except UnicodeEncodeError:
        return _facts(_printable(about))
    return facts if len(facts) <= LONGEST_ABOUT else _facts(replace(about, text=about.text[:1000], parts={}, tags=()))


def _printable(about: About) -> About:
    """Replace lone surrogates, which JSON has no way to write."""

    def plain(text: str) -> str:
        return text.encode("utf-8", "replace").decode()

    return replace(
        about,
        function=plain(about.function),
        text=plain(about.text),
        parts={plain(name): plain(part) for name, part in about.parts.items()},
        tags=tuple(map(plain, about.tags)),
    )


def _flat(piece: Buffer) -> memoryview:
    view = memoryview(piece)
    return view.cast("B") if view.c_contiguous and view.nbytes else memoryview(view.tobytes())


def _digest(key: bytes, about: bytes, nbytes: int, pieces: Sequence[memoryview]) -> bytes:
    from blake3 import blake3

    threads: Any = blake3.AUTO if nbytes >= _ALL_CORES_FROM else 1
    digest = blake3(struct.pack(">4sBIQB", MAGIC, VERSION, len(about), nbytes, len(key)) + key, max_threads=threads)
    digest.update(about)
    for piece in pieces:
        digest.update(piece)
    return digest.digest()
