"""Single bits that flip at random places of a store's files."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.attacks import attack
from harness.figure import Figure, Line, Quantity

from memograd.store._disk import _files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.setting import Setting

FLIPS = 10_000
_TARGETS = {"the index": "index.sqlite", "its log": "index.sqlite-wal", "the files": "files/*/*.safetensors"}


def lines(setting: Setting) -> Iterator[Line]:
    """Flip a bit in a copy of a store, and ask it for everything, as a process that has never seen it."""
    flips = 3 if setting.quick else FLIPS
    for number, (name, pattern) in enumerate(_TARGETS.items()):
        count, begun = flips // 3 + (number < flips % 3), time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            found = _flipped(Path(folder), pattern, count, random.Random(name))  # noqa: S311 - no secret
        asked = count * len(attack("test_bits").KEYS)
        yield {
            "a bit of": name,
            "flipped": Quantity(count, "n"),
            "wrong values": Quantity(found["wrong"], "n", at_most=0),
            "exceptions": Quantity(found["raised"], "n", at_most=0),
            "entries still read": Quantity(100 * found["read"] / asked, "%"),
            "took": Quantity(time.perf_counter() - begun, "s"),
        }


def _flipped(folder: Path, pattern: str, count: int, draw: random.Random) -> Counter[str]:
    bits, found = attack("test_bits"), Counter[str]()
    whole, root = _store(bits, folder, log="wal" in pattern), folder / "store"
    for _ in range(count):
        shutil.copytree(whole, root)
        bits.flip(draw.choice(sorted(root.glob(pattern))), draw)
        _files._verified.clear()  # as another process
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found["read"] += bits.ask_everything(root)
            except AssertionError:
                found["wrong"] += 1
            except Exception:  # noqa: BLE001 - counted, whatever it is
                found["raised"] += 1
        shutil.rmtree(root)
    return found


def _store(bits: Any, folder: Path, *, log: bool) -> Path:
    """Make the store to be copied; with its log, as a process leaves it that does not end."""
    store = bits.fill(folder / "whole")
    if log:
        shutil.copytree(folder / "whole", folder / "open")
    store.close()
    return folder / ("open" if log else "whole")


BITS = Figure("flipped bits", "one bit in each of so many copies; all that can be asked of a store is asked", lines)
