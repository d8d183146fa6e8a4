"""Random rows of a large file: the `Array` store against fancy indexing of a `numpy.memmap`, both from warm pages."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from harness.figure import Figure, Line, Quantity, ms, noise
from harness.timing import race

from memograd.store import Array

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.setting import Setting

WIDTH, ASKED = 768, 4_096


def lines(setting: Setting) -> Iterator[Line]:
    """Race gathers."""
    rows = 10_000 if setting.quick else 10_000_000_000 // (4 * WIDTH)
    with tempfile.TemporaryDirectory() as folder:
        array = Array(Path(folder), shape=(rows, WIDTH), dtype="float32")
        numbers = np.random.default_rng(0)
        for begin in range(0, rows, 65_536):
            size = min(65_536, rows - begin)
            array.put_rows(np.arange(begin, begin + size), numbers.random((size, WIDTH), np.float32))
        plain = np.memmap(Path(folder) / "rows.raw", np.float32, "r", shape=(rows, WIDTH))
        at = numbers.integers(0, rows, ASKED)
        assert np.array_equal(array.rows(at), plain[at])
        times = race(
            {"plain": lambda: plain[at], "ours": lambda: array.rows(at)}, setting.rounds(15, 41), setting.device
        )
        yield {
            "file": Quantity(rows * WIDTH * 4 / 1e6, "MB"),
            "rows": Quantity(ASKED, "n"),
            "memmap[at]": ms(times.median("plain")),
            "array.rows(at)": ms(times.median("ours")),
            "speed": Quantity(times.ratio(["plain"], ["ours"]), at_least=0.7),
            "±": noise(times.noise(["plain"], ["ours"])),
        }


GATHER = Figure(
    f"{ASKED:,} random rows of {WIDTH} float32, warm", "speed: of numpy's fancy indexing of the same file", lines
)
