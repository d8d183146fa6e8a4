"""A process that asks a remembered function for numbers, and leaves a file for each computation that it begins.

``python asker.py STORE FOLDER SEED KEYS SECONDS``: waits for a line on its input, so that all of them begin at once.
"""

from __future__ import annotations

import os
import random
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

from memograd import Memo

TOLD: dict[str, Any] = {}
NUMBERS = count()


def squared(n: int) -> int:
    """Leave a file, take a while, and compute."""
    (Path(TOLD["here"]) / f"{n}.{os.getpid()}.{next(NUMBERS)}").touch()
    time.sleep(TOLD["pause"])
    return n * n


def main(store: str, folder: str, seed: str, keys: str, seconds: str) -> None:
    """Ask for all keys, each asker in an order of its own; say how many answers are wrong."""
    TOLD.update(here=folder, pause=float(seconds))
    # By name: what it is told of the folder is no input, and each process has a counter of its own.
    ours = Memo(store)(squared, version="1")
    wanted = list(range(int(keys)))
    random.Random(int(seed)).shuffle(wanted)  # noqa: S311 - no secret
    print("ready", flush=True)
    sys.stdin.readline()
    print(sum(ours(n) != n * n for n in wanted), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
