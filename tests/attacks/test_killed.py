"""Processes that are killed at any instruction, while others read and write the same directory.

`MEMOGRAD_KILLS` says how often (60).
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time

import pytest

from memograd.store import Disk
from memograd.store._disk._check import check

KILLS = int(os.environ.get("MEMOGRAD_KILLS", "60"))

# Every value follows from its key, so that whoever reads one can tell whether it is right.
WORKER = """
import random, sys
from hashlib import blake2b
from memograd.store import About, Disk, Entry

def value(key):
    size = (10, 1000, 5000, 70_000)[key[0] % 4]
    return (blake2b(key).digest() * (size // 64 + 1))[:size]

role, root, seed = sys.argv[1:]
store = Disk(root, max_bytes="2MB", inline=4096)
draw = random.Random(int(seed))
sys.stdout.write("open\\n"); sys.stdout.flush()
while True:
    key = b"%c%04d" % (draw.randrange(4), draw.randrange(200))
    if role == "write":
        what = draw.random()
        if what < 0.9:
            store.put(key, Entry(About(seconds=draw.random(), parent=key[:1] + b"0001"), [value(key)]))
        elif what < 0.97:
            store.delete(key)
        else:
            store.flush()
    entry = store.get(key)
    if entry is not None and bytes(entry.body[0]) != value(key):
        sys.stdout.write("WRONG " + repr(key) + "\\n"); sys.stdout.flush()
"""


@pytest.fixture
def start():
    """Start a process that does not outlive the test."""
    begun = []

    def start(role, root, seed):
        run = [sys.executable, "-c", WORKER, role, root, str(seed)]
        begun.append(subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return begun[-1]

    yield start
    for process in begun:
        if process.returncode is None:
            process.kill()
            process.communicate()


def end(process):
    process.kill()
    said, complaints = process.communicate()
    assert said in {"open\n", ""}, said
    assert complaints == ""
    return said


@pytest.mark.slow
def test_kills_at_random_moments_cost_no_more_than_what_was_killed(tmp_path, start):
    """Four write and two read; one after another is killed and begun again, and now and then the directory checked."""
    draw = random.Random(0)
    root = tmp_path / "store"
    roles = ["write"] * 4 + ["read"] * 2
    processes = [start(role, root, seed) for seed, role in enumerate(roles)]
    opened = 0
    for kill in range(KILLS):
        time.sleep(draw.random() * 0.3)
        victim = draw.randrange(6)
        opened += end(processes[victim]) == "open\n"
        processes[victim] = start(roles[victim], root, kill + 10)
        if kill % 20 == 19:
            check(root, fix=True)
    for process in processes:
        assert process.stdout.readline() == "open\n"
        process.kill()
        assert process.communicate() == ("", "")
    assert opened > 0
    check(root, fix=True)
    again = check(root)
    assert again.sound, str(again)
    with Disk(root) as store:
        assert store.count() > 0
        assert store.nbytes <= 2_000_000


@pytest.mark.slow
def test_all_killed_at_once_leave_a_directory_that_opens(tmp_path, start):
    root = tmp_path / "store"
    for turn in range(5):
        processes = [start("write", root, turn * 10 + n) for n in range(4)]
        for process in processes:
            assert process.stdout.readline() == "open\n"
        time.sleep(0.1)
        for process in processes:
            process.kill()
        assert [process.communicate() for process in processes] == [("", "")] * 4
        with Disk(root, max_bytes="2MB") as store:
            assert store.count() > 0
    assert set(check(root, fix=True).found) <= {"orphan", "litter", "missing"}
    assert check(root).sound
