"""Threads that begin together and all end."""

from __future__ import annotations

import sys
import threading
import time

TIMEOUT = 60


def together(*functions):
    """Run functions, each in a thread, from one moment on; give what they return, raise what one of them raises."""
    results, errors = [None] * len(functions), []
    start = threading.Barrier(len(functions))

    def run(index):
        try:
            start.wait(TIMEOUT)
            results[index] = functions[index]()
        except BaseException as error:  # noqa: BLE001 - it is raised by who waits for it
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert not any(thread.is_alive() for thread in threads), "a thread waits for ever"
    if errors:
        raise errors[0]
    return results


def leave_process_group():
    """Leave torch's process group. Its thread may be about to ask for the lock with which the end of it waits."""
    time.sleep(0.2)
    sys.modules["torch"].distributed.destroy_process_group()
