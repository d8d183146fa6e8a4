"""Processes that ask for the same results at once, and some of them killed while they compute."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from harness import asker
from harness.figure import Figure, Line, Quantity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.setting import Setting

PROCESSES, KEYS, KILLED = 16, 64, 5
_PATIENCE = 120.0


def lines(setting: Setting) -> Iterator[Line]:
    """Let all of them live, then kill some holders of a lease."""
    processes, keys = (3, 6) if setting.quick else (PROCESSES, KEYS)
    yield _asked(processes, keys, 0, 0.05)
    yield _asked(processes, keys, 1 if setting.quick else KILLED, 0.2)
    yield _asked(processes, keys, 1 if setting.quick else KILLED, 0.01)


def _asked(processes: int, keys: int, killed: int, seconds: float) -> Line:
    with tempfile.TemporaryDirectory() as folder:
        marks = Path(folder, "marks")
        marks.mkdir()
        askers = [_start(Path(folder, "store"), marks, seed, keys, seconds) for seed in range(processes)]
        try:
            for each in askers:
                assert each.stdout.readline() == "ready\n", each.stderr.read()
            begun = time.perf_counter()
            for each in askers:
                each.stdin.write("\n")
                each.stdin.flush()
            dead = _kill(askers, marks, killed, random.Random(0))  # noqa: S311 - no secret
            wrong = sum(_answer(each) for each in askers if each.pid not in dead)
            took = time.perf_counter() - begun
        finally:
            for each in askers:
                each.kill()
                each.communicate()
        begun_by = [tuple(map(int, mark.name.split(".")[:2])) for mark in marks.iterdir()]
    computed, lost = Counter(key for key, _ in begun_by), Counter(key for key, pid in begun_by if pid in dead)
    assert len(computed) == keys
    again = sum(computed.values()) - keys
    needless = sum(max(count - 1 - lost[key], 0) for key, count in computed.items())
    return {
        "": f"{processes} processes, {keys} keys of {1000 * seconds:.0f} ms",
        "killed": Quantity(len(dead), "n"),
        "computed again": Quantity(again, "n", at_most=len(dead)),
        "of these by nobody's death": Quantity(needless, "n", at_most=0),
        "wrong values": Quantity(wrong, "n", at_most=0),
        "took": Quantity(took, "s"),
        "at best": Quantity(keys * seconds / processes, "s"),
    }


def _start(store: Path, marks: Path, seed: int, keys: int, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, asker.__file__, str(store), str(marks), str(seed), str(keys), str(seconds)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def _kill(askers: list[subprocess.Popen[str]], marks: Path, count: int, draw: random.Random) -> set[int]:
    """Kill processes that have begun to compute something a moment ago."""
    dead: set[int] = set()
    until = time.monotonic() + _PATIENCE
    while len(dead) < count and time.monotonic() < until:
        time.sleep(draw.random() * 0.02)
        begun = sorted(marks.iterdir(), key=lambda mark: mark.stat().st_mtime_ns)
        latest = {int(mark.name.split(".")[1]) for mark in begun[-len(askers) // 2 :]} - dead
        alive = [each for each in askers if each.pid in latest and each.poll() is None]
        if alive:
            victim = draw.choice(alive)
            victim.kill()
            dead.add(victim.pid)
    return dead


def _answer(each: subprocess.Popen[str]) -> int:
    said, complaints = each.communicate(timeout=_PATIENCE)
    assert not complaints, complaints
    return int(said)


SINGLE_FLIGHT = Figure(
    "single flight", "what sleeps is computing; each computation leaves a file when it begins", lines
)
