"""Digests of 128 bits. Long data are digested as a tree over fixed chunks, on all cores, alike on any number."""

from __future__ import annotations

import os
import threading
from functools import cache
from typing import TYPE_CHECKING, cast

from xxhash import xxh3_128_digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from memograd.fingerprint._form import Buffer, Hash, Source

CHUNK = 1 << 24
LONGEST = 48
ALGORITHMS = ("xxh3", "blake3", "blake2b")


class Digest:
    """What a value is, in 128 bits. Equal for equal content of equal type, in every process and on every machine.

    Attributes:
        algorithm: `xxh3`, `blake3` or `blake2b`.
    """

    __slots__ = ("_raw", "algorithm")

    def __init__(self, algorithm: str, raw: bytes) -> None:
        self.algorithm = algorithm
        self._raw = raw

    @property
    def hex(self) -> str:
        """The digest as 32 hexadecimal digits."""
        return self._raw.hex()

    def __bytes__(self) -> bytes:
        return self._raw

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and self._raw == other._raw and self.algorithm == other.algorithm

    def __hash__(self) -> int:
        return hash(self._raw)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    def __repr__(self) -> str:
        return f"<Digest {self}>"


@cache
def hash_of(algorithm: str) -> Hash:
    """Find the function that digests bytes. Raises `ValueError` for a name that is none of ours."""
    if algorithm == "xxh3":
        return xxh3_128_digest
    if algorithm == "blake2b":
        # hashlib's own, without the OpenSSL that hashlib loads for its other algorithms.
        from _blake2 import blake2b

        return lambda data: blake2b(data, digest_size=16).digest()
    if algorithm == "blake3":
        return _blake3()
    raise ValueError(f"digest is {algorithm!r}, expected one of {', '.join(ALGORITHMS)}")


def _blake3() -> Hash:
    try:
        from blake3 import blake3  # pyright: ignore[reportMissingImports, reportUnknownVariableType]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("digest='blake3' needs a package that is not here: pip install blake3") from error
    make = cast("type[_Blake3]", blake3)
    return lambda data: make(memoryview(data).cast("B")).digest(length=16)


class _Blake3:
    def __init__(self, data: memoryview) -> None: ...
    def digest(self, length: int) -> bytes: ...


def digested(data: Buffer | Source, hash: Hash) -> bytes:  # noqa: A002 - it is what it is
    """Write bytes: short ones as they are, up to a chunk by their digest, and more by that of their chunks' digests.

    `=`, `#` and `%` in front tell the three apart, so no data are written as others are whose digests they hold.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        return data.digested(hash)
    size = data.nbytes if isinstance(data, memoryview) else len(data)
    if size <= LONGEST:
        return b"=" + data
    if size <= CHUNK:
        return b"#" + hash(data)
    return together(_leaves(memoryview(data).cast("B"), hash), hash)


def together(leaves: Iterable[bytes], hash: Hash) -> bytes:  # noqa: A002 - it is what it is
    """Write the digests of chunks as one."""
    return b"%" + hash(b"".join(leaves))


def _leaves(data: memoryview, hash: Hash) -> list[bytes]:  # noqa: A002 - it is what it is
    """Digest every chunk, each core every so many-th. A thread that cannot be started leaves its work to this one."""
    chunks = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
    leaves = [b""] * len(chunks)
    step = min(_cores(), len(chunks))

    def work(first: int) -> None:
        for place in range(first, len(chunks), step):
            leaves[place] = hash(chunks[place])

    threads = _started([threading.Thread(target=work, args=(first,), daemon=True) for first in range(1, step)])
    work(0)
    for thread in threads:
        thread.join()
    return [leaf or hash(chunk) for leaf, chunk in zip(leaves, chunks, strict=True)]


def _started(threads: list[threading.Thread]) -> list[threading.Thread]:
    started: list[threading.Thread] = []
    for thread in threads:
        try:
            thread.start()
        except RuntimeError:
            break
        started.append(thread)
    return started


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
