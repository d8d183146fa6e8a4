"""Processes that are killed at any moment, while others read and write the same store."""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from subprocess import PIPE, Popen
from typing import TYPE_CHECKING

from harness.attacks import attack
from harness.figure import Figure, Line, Quantity

from memograd.store import Disk
from memograd.store._disk._check import check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.setting import Setting

KILLS = 1000
WRITERS, READERS = 4, 2
_LONGEST = 0.3  # seconds between two kills; to begin takes as long, so that some are killed as they begin
_CHECK_EVERY = 20


def lines(setting: Setting) -> Iterator[Line]:
    """Kill one after the other and begin another in its place; now and then make good what they left."""
    kills = 3 if setting.quick else KILLS
    with tempfile.TemporaryDirectory() as folder:
        root, begun = Path(folder, "store"), time.perf_counter()
        found = _kill(root, kills, random.Random(0))  # noqa: S311 - no secret
        repaired = check(root, fix=True)
        found["not repaired"] = sum(check(root).found.values())
        with Disk(root) as disk:
            entries = disk.count()
    yield {
        "processes": f"{WRITERS} write, {READERS} read",
        "killed": Quantity(kills, "n"),
        "of these while they began": Quantity(found["begun"], "n"),
        "wrong values": Quantity(found["wrong"], "n", at_most=0),
        "failed or complained": Quantity(found["failed"], "n", at_most=0),
        "found by checks": Quantity(found["repaired"] + sum(repaired.found.values()), "n"),
        "not repaired": Quantity(found["not repaired"], "n", at_most=0),
        "entries left": Quantity(entries, "n"),
        "took": Quantity(time.perf_counter() - begun, "s"),
    }


def _kill(root: Path, kills: int, draw: random.Random) -> Counter[str]:
    found: Counter[str] = Counter()
    roles = ["write"] * WRITERS + ["read"] * READERS
    processes = [_start(role, root, seed) for seed, role in enumerate(roles)]
    try:
        for kill in range(kills):
            time.sleep(draw.random() * _LONGEST)
            victim = draw.randrange(len(roles))
            found.update(_ended(processes[victim]))
            processes[victim] = _start(roles[victim], root, kill + 10)
            if kill % _CHECK_EVERY == _CHECK_EVERY - 1:
                found["repaired"] += sum(check(root, fix=True).found.values())
        for process in processes:
            found["failed"] += process.stdout is None or process.stdout.readline() != "open\n"
    finally:
        last = [_ended(process) for process in processes]
    for each in last:
        found.update(wrong=each["wrong"], failed=each["failed"])
    return found


def _start(role: str, root: Path, seed: int) -> Popen[str]:
    return Popen(
        [sys.executable, "-c", attack("test_killed").WORKER, role, root, str(seed)], stdout=PIPE, stderr=PIPE, text=True
    )


def _ended(process: Popen[str]) -> Counter[str]:
    process.kill()
    said, complaints = process.communicate()
    return Counter(begun=not said, wrong=said.count("WRONG"), failed=bool(complaints))


KILLED = Figure("killed processes", "SIGKILL at any moment; every value follows from its key", lines)
