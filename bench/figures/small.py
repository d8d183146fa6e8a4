"""Many small results: put and read back, by the store and by a function, beside its peers and bare SQLite."""

from __future__ import annotations

import itertools
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from harness.calls import installed
from harness.figure import Figure, Line, Quantity, us
from harness.timing import race

from memograd import Memo
from memograd.store import About, Disk, Entry
from memograd.store._disk._waiting import DELAY, MOST_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.setting import Setting
    from harness.timing import Times
    from torch import Tensor

RESULTS = 10_000
NBYTES = 1024
_JOBLIB = 20  # joblib is asked for so many times fewer
_PEERS = "diskcache", "joblib", "SQLite", "SQLite, 1 a commit"


def text(n: int) -> bytes:
    return n.to_bytes(8, "little") * (NBYTES // 8)


def floats(n: int) -> Tensor:
    return torch.full((NBYTES // 4,), float(n))


class Way(NamedTuple):
    """How a program keeps results.

    Attributes:
        put: those of some numbers.
        get: reads all of them.
        again: reads them where they were read before, None for what has no memory of its own.
    """

    put: Callable[[Sequence[int]], object]
    get: Callable[[Sequence[int]], object]
    again: Callable[[Sequence[int]], object] | None = None


def lines(setting: Setting) -> Iterator[Line]:
    """Race ours against the others: keys and bytes, then functions of a number."""
    results = RESULTS // 100 if setting.quick else RESULTS
    yield from _compared("store", _stores, results, setting)
    yield from _compared("function of bytes", lambda folder: _functions(folder, text), results, setting)
    yield from _compared("function of a tensor", lambda folder: _functions(folder, floats), results, setting)


def _compared(name: str, ways: Callable[[Path], dict[str, Way]], results: int, setting: Setting) -> Iterator[Line]:
    with tempfile.TemporaryDirectory() as folder:
        found, numbers = ways(Path(folder)), itertools.count()
        parts = {way: _JOBLIB if way == "joblib" else 1 for way in found}
        written: dict[str, list[int]] = {}

        def put(way: str) -> None:
            written[way] = [next(numbers) for _ in range(results // parts[way] or 1)]
            found[way].put(written[way])

        puts = race({way: lambda way=way: put(way) for way in found}, setting.rounds(5, 11), setting.device)
        gets = {way: lambda way=way: found[way].get(written[way]) for way in found}
        yield _line(f"{name}: put", puts, {way: len(written[way]) for way in found}, bare=name == "store")
        read = race(gets, setting.rounds(5, 11), setting.device)
        yield _line(f"{name}: get", read, {way: len(written[way]) for way in found}, bare=name == "store")
        if found["ours"].again is not None:
            gets["ours"] = lambda: found["ours"].again(written["ours"])
            read = race(gets, setting.rounds(5, 11), setting.device)
            yield _line(f"{name}: get again", read, {way: len(written[way]) for way in found}, bare=False)


def _line(name: str, times: Times, counts: dict[str, int], *, bare: bool) -> Line:
    line: Line = {"10,000 of 1 KB": name, "ours": us(times.median("ours") / counts["ours"])}
    for peer in _PEERS:
        line[peer] = us(times.median(peer) / counts[peer]) if peer in counts else ""
    for peer, least in (("diskcache", 3.0), ("joblib", 10.0), ("SQLite", 0.5 if bare else None)):
        if peer in counts:
            ratio = times.ratio([peer], ["ours"]) * counts["ours"] / counts[peer]
            line[f"{peer} ÷ ours"] = Quantity(ratio, "x", at_least=least)
        else:
            line[f"{peer} ÷ ours"] = ""
    return line


def _stores(folder: Path) -> dict[str, Way]:
    """Keep bytes under keys of 16 bytes."""
    disk = Disk(folder / "disk")

    def put(numbers: Sequence[int]) -> None:
        for n in numbers:
            disk.put(_key(n), Entry(About(seconds=1.0), [text(n)]))
        disk.flush()

    def get(numbers: Sequence[int]) -> None:
        for n in numbers:
            entry = disk.get(_key(n))
            assert entry is not None
            assert entry.body[0] == text(n)

    return {"ours": Way(put, get), **_diskcache(folder), **_sqlite(folder, _key, text)}


def _functions(folder: Path, f: Callable[[int], Any]) -> dict[str, Way]:
    """Remember a function of a number. What is read back was not in memory: each time the memory is a new one."""
    disk = Disk(folder / "disk")
    warm = _ours(disk, f)
    found = {
        "ours": Way(
            lambda numbers: _ask(_ours(disk, f), numbers, disk),
            lambda numbers: _hits(_ours(disk, f), numbers),
            lambda numbers: _hits(warm, numbers),
        )
    }
    if installed("diskcache"):
        import diskcache

        theirs = diskcache.Cache(str(folder / "diskcache")).memoize()(f)
        found["diskcache"] = Way(lambda numbers: _ask(theirs, numbers), lambda numbers: _ask(theirs, numbers))
    if installed("joblib"):
        import joblib

        cached = joblib.Memory(folder / "joblib", verbose=0).cache(f)
        found["joblib"] = Way(lambda numbers: _ask(cached, numbers), lambda numbers: _ask(cached, numbers))
    return found


def _ours(disk: Disk, f: Callable[[int], Any]) -> Any:
    return Memo(disk)(f, always=True)  # it is computed sooner than it is read


def _ask(f: Callable[[int], Any], numbers: Sequence[int], disk: Disk | None = None) -> None:
    for n in numbers:
        f(n)
    if disk is not None:
        disk.flush()


def _hits(ours: Any, numbers: Sequence[int]) -> None:
    before = ours.cache_info().hits
    _ask(ours, numbers)
    assert ours.cache_info().hits == before + len(numbers), "not read but computed"


def _diskcache(folder: Path) -> dict[str, Way]:
    if not installed("diskcache"):
        return {}
    import diskcache

    cache = diskcache.Cache(str(folder / "diskcache"))

    def put(numbers: Sequence[int]) -> None:
        for n in numbers:
            cache.set(_key(n), text(n))

    def get(numbers: Sequence[int]) -> None:
        for n in numbers:
            assert cache.get(_key(n)) == text(n)

    return {"diskcache": Way(put, get)}


def _sqlite(folder: Path, key: Callable[[int], bytes], value: Callable[[int], bytes]) -> dict[str, Way]:
    """Prepared statements (sqlite3 keeps them), with what `Disk` promises: committed together, and one by one."""
    found = {}
    for name, most in (("SQLite", MOST_ROWS), ("SQLite, 1 a commit", 1)):
        connection = sqlite3.connect(folder / f"{most}.sqlite", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("CREATE TABLE entries (id INTEGER PRIMARY KEY, key BLOB UNIQUE, body BLOB)")
        found[name] = Way(_inserts(connection, most, key, value), _selects(connection, key, value))
    return found


def _inserts(
    connection: sqlite3.Connection, most: int, key: Callable[[int], bytes], value: Callable[[int], bytes]
) -> Callable[[Sequence[int]], None]:
    def put(numbers: Sequence[int]) -> None:
        rows, since = [], time.monotonic()
        for n in numbers:
            rows.append((key(n), value(n)))
            if len(rows) >= most or time.monotonic() - since > DELAY:
                commit(rows)
                rows, since = [], time.monotonic()
        if rows:
            commit(rows)

    def commit(rows: list[tuple[bytes, bytes]]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT OR REPLACE INTO entries (key, body) VALUES (?, ?)", rows)
        connection.execute("COMMIT")

    return put


def _selects(
    connection: sqlite3.Connection, key: Callable[[int], bytes], value: Callable[[int], bytes]
) -> Callable[[Sequence[int]], None]:
    def get(numbers: Sequence[int]) -> None:
        for n in numbers:
            (body,) = connection.execute("SELECT body FROM entries WHERE key = ?", (key(n),)).fetchone()
            assert body == value(n)

    return get


def _key(n: int) -> bytes:
    return (n * 0x9E3779B97F4A7C15F39CC0605CEDC835 & (1 << 128) - 1).to_bytes(16, "little")


SMALL = Figure("many small results", "a result; in the page cache, SQLite commits as often as the store does", lines)
