"""A store of a million entries beside one of a thousand: what is asked of it should not notice."""

from __future__ import annotations

import random
import tempfile
from contextlib import ExitStack
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from harness.figure import Figure, Line, Quantity, ms
from harness.timing import race

from memograd.store import About, Disk, Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.setting import Setting

FEW, MANY = 1_000, 1_000_000
GETS = 500
_UNAFFECTED = 2.0  # what lies deeper in a tree, and in a larger page cache, may take so many times longer


def lines(setting: Setting) -> Iterator[Line]:
    """Ask the same of both."""
    sizes = {"few": FEW // 10 if setting.quick else FEW, "many": FEW if setting.quick else MANY}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        disks = {name: stack.enter_context(Disk(Path(folder, name))) for name in sizes}
        for name, size in sizes.items():
            disks[name].put_many(_entries(size))
            assert disks[name].count() == size
        for what, ask in _asked().items():
            runs = {name: partial(ask, disks[name], size) for name, size in sizes.items()}
            times = race(runs, setting.rounds(9, 25), setting.device)
            yield {
                "": what,
                f"{sizes['few']:,} entries": ms(times.median("few")),
                f"{sizes['many']:,} entries": _many(what, 1000 * times.median("many")),
                "many ÷ few": _ratio(what, times.ratio(["many"], ["few"])),
            }


def _many(what: str, milliseconds: float) -> Quantity:
    return Quantity(milliseconds, "ms", at_most=200.0 if what.startswith("open") else None)


def _ratio(what: str, ratio: float) -> Quantity:
    return Quantity(ratio, "x", at_most=None if what.startswith("open") else _UNAFFECTED)


def _entries(size: int) -> Iterator[tuple[bytes, Entry]]:
    draw = random.Random(0)  # noqa: S311 - no secret
    for n in range(size):
        about = About("model.embed", f"embed(x={n})", {"x": str(n)}, seconds=draw.expovariate(1.0), created=float(n))
        yield _key(n), Entry(about, [b"%064d" % n])


def _key(n: int) -> bytes:
    return blake2b(b"%d" % n, digest_size=16).digest()


def _asked() -> dict[str, Callable[[Disk, int], object]]:
    return {
        "open, and close": lambda disk, _: Disk(disk.path).close(),
        "list 20": lambda disk, _: _listed(list(disk.scan(limit=20))),
        "list the 20 that saved most": lambda disk, _: _listed(list(disk.scan(sort="saved", limit=20))),
        f"get {GETS}": _got,
        f"put {GETS} more": _put,
    }


def _listed(found: list[object]) -> None:
    assert len(found) == 20


def _got(disk: Disk, size: int) -> None:
    draw = random.Random(0)  # noqa: S311 - no secret
    for _ in range(GETS):
        n = draw.randrange(size)
        entry = disk.get(_key(n))
        assert entry is not None
        assert entry.body[0] == b"%064d" % n


def _put(disk: Disk, size: int) -> None:
    # The same ones each time, in the place of what was put the last time: the store does not grow.
    for n in range(size, size + GETS):
        disk.put(_key(n), Entry(About("model.embed", seconds=0.5), [b"%064d" % n]))
    disk.flush()


MILLION = Figure(
    "a million entries", "in the page cache; a get counts a use, and uses are committed now and then", lines
)
