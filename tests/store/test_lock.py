"""Locks that survive a fork."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from memograd.store._lock import new_lock
from memograd.store._results import Results

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

PROGRAM = """
import os, threading, time, warnings
from memograd import Memo
warnings.simplefilter("ignore", DeprecationWarning)
memo = Memo()
f = memo(lambda n: n + 1)
f(1)
held, done = threading.Event(), threading.Event()

def hold():
    with memo._lock:
        held.set()
        done.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    os._exit(f(1) + f(2) + f(2) + len(memo.store) - 8)
ended = time.monotonic() + 10
status = (0, 1)
while status[0] == 0 and time.monotonic() < ended:
    status = os.waitpid(child, os.WNOHANG)
    time.sleep(0.01)
if status[0] == 0:
    os.kill(child, 9)
done.set()
thread.join()
print(status[0] == child, os.waitstatus_to_exitcode(status[1]))
"""


def test_a_child_forked_while_another_thread_uses_the_memo_computes_and_remembers():
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout.split() == ["True", "2"], ran.stderr


def test_a_store_that_another_thread_was_changing_begins_anew_in_the_child(monkeypatch):
    from memograd.store import _lock

    free, torn = new_lock(), new_lock()
    kept, lost = Results(1000, free), Results(1000, torn)
    monkeypatch.setattr(_lock, "_locks", {lock: _lock._locks[lock] for lock in (free, torn)})
    lost.nbytes = 99
    thread = threading.Thread(target=torn.acquire)
    thread.start()
    thread.join()
    kept.nbytes = 1
    _lock._in_the_child()
    assert (kept.nbytes, lost.nbytes, torn.acquire(blocking=False)) == (1, 0, True)
