"""Leases on this host: one holder among threads and processes, and the dead hold nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from memograd.store._disk import _host
from memograd.store._disk._host import Leases, check_locks, network_of

HOLDER = """
import sys, time
from pathlib import Path
from memograd.store._disk._host import Leases
lease = Leases(Path(sys.argv[1])).lease(b"key")
print(lease is not None, flush=True)
time.sleep(60)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "leases"


@pytest.fixture
def leases(path):
    return Leases(path)


def holder(path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "True\n"
    return process


def ended(process):
    process.kill()
    process.wait()
    process.stdout.close()


def test_one_has_it_at_a_time(leases):
    lease = leases.lease(b"key")
    assert lease.held
    assert leases.lease(b"key") is None
    assert leases.lease(b"other").held
    lease.release()
    lease.release()
    assert not lease.held
    with leases.lease(b"key") as again:
        assert again.held
        lease.release()
        assert again.held


def test_two_stores_of_a_process_share_them(leases, path):
    with leases.lease(b"key"):
        assert Leases(path).lease(b"key") is None


def test_another_thread_does_not_get_it(leases):
    got = []
    with leases.lease(b"key"):
        thread = threading.Thread(target=lambda: got.append(leases.lease(b"key")))
        thread.start()
        thread.join()
    assert got == [None]


def test_another_process_has_it_until_it_is_killed_and_not_a_moment_longer(leases, path):
    process = holder(path)
    assert leases.lease(b"key") is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    lease = leases.lease(b"key")
    ended(process)
    assert lease.held


def test_another_open_and_close_of_a_store_does_not_lose_it(leases, path):
    with leases.lease(b"key"):
        for _ in range(3):
            Leases(path).lease(b"other").release()
        probe = subprocess.run([sys.executable, "-c", HOLDER.replace("60", "0"), path], capture_output=True, check=True)
        assert probe.stdout == b"False\n"


def in_child(do):
    child = os.fork()
    if child == 0:
        os._exit(int(do()))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_has_none_of_its_parents(leases):
    lease = leases.lease(b"key")
    assert in_child(lambda: not lease.held and leases.lease(b"key") is None and leases.lease(b"own").held) == 1
    assert lease.held
    assert leases.lease(b"own").held  # the child has ended


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_what_a_child_releases_stays_with_its_parent(leases):
    lease = leases.lease(b"key")
    assert in_child(lambda: lease.release() is None and leases.lease(b"key") is None) == 1
    assert lease.held


def test_a_file_that_was_removed_is_made_again(leases, path):
    first = leases.lease(b"key")
    path.unlink()
    second = leases.lease(b"key")
    assert second.held
    first.release()
    assert second.held
    assert path.exists()


def test_a_lease_may_be_kept_until_its_entry_is_there(path):
    kept = []
    leases = Leases(path, lambda lease: not kept.append(lease))
    lease = leases.lease(b"key")
    lease.release()
    assert not lease.held
    assert leases.lease(b"key") is None
    kept.pop().let_go()
    assert leases.lease(b"key").held


def test_one_process_at_a_time_is_alone(leases, path, monkeypatch):
    monkeypatch.setattr(_host, "PATIENCE", 0.05)
    program = HOLDER.replace('.lease(b"key")', ".alone()").replace("print", "lease.__enter__(); print")
    process = subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "True\n"
    with pytest.raises(TimeoutError), leases.alone():
        pass
    ended(process)
    with leases.alone():
        pass
    with leases.alone():
        pass


COMPUTES = """
import sys, time
from pathlib import Path
from memograd.store import About, Disk, Entry
store = Disk(sys.argv[1])
log = open(sys.argv[2], "ab", buffering=0)
for n in range(64):
    key = b"%016d" % (n * 7 % 64)
    while (entry := store.get(key)) is None:
        lease = store.lease(key)
        if lease is None:
            time.sleep(0.001)
            continue
        with lease:
            if store.get(key) is None:
                log.write(key + b"\\n")
                time.sleep(0.001)
                store.put(key, Entry(About(seconds=1.0), [key * 10]))
    assert bytes(entry.body[0]) == key * 10
store.close()
"""


@pytest.mark.slow
def test_sixteen_processes_compute_each_of_64_keys_once(tmp_path):
    run = [sys.executable, "-c", COMPUTES, tmp_path / "store", tmp_path / "log"]
    processes = [subprocess.Popen(run) for _ in range(16)]
    assert [process.wait() for process in processes] == [0] * 16
    computed = (tmp_path / "log").read_bytes().split()
    assert (len(computed), len(set(computed))) == (64, 64)


@pytest.mark.slow
def test_of_a_killed_holder_one_other_computes_again(tmp_path):
    run = [sys.executable, "-c", COMPUTES.replace("sleep(0.001)\n                store", "sleep(0.02)\n                store"),  # noqa: E501
           tmp_path / "store", tmp_path / "log"]  # fmt: skip
    processes = [subprocess.Popen(run) for _ in range(16)]
    while not (tmp_path / "log").exists() or (tmp_path / "log").stat().st_size < 17 * 5:
        time.sleep(0.01)
    for process in processes[:5]:
        process.kill()
        time.sleep(0.05)
    assert [process.wait() for process in processes] == [-9] * 5 + [0] * 11
    computed = (tmp_path / "log").read_bytes().split()
    assert len(set(computed)) == 64
    assert len(computed) <= 64 + 5


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
90 22 0:55 / /home/a\\040b rw shared:2 - nfs4 server:/home rw
91 22 0:56 / /data rw - xfs /dev/vdb rw
92 91 0:57 / /data/remote rw - fuse.sshfs host:/ rw
nonsense
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/tmp/x", ""), ("/home/a b/c", "nfs4"), ("/home/a bc", ""), ("/data/x", ""), ("/data/remote/x/y", "fuse.sshfs")],  # noqa: S108
)
def test_network_file_systems_are_known(tmp_path, path, kind):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert network_of(path, str(mounts)) == kind
    assert network_of(path, str(tmp_path / "none")) == ""


def test_a_file_system_without_locks_is_refused_by_words(path, monkeypatch):
    check_locks(path)

    def none(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(_host.fcntl, "lockf", none)
    with pytest.raises(
        OSError, match=r"no locks \(No locks available\).*write Disk\(\) for a directory of this machine"
    ):
        check_locks(path)


def lease_within(leases, seconds):
    until = time.monotonic() + seconds
    while (lease := leases.lease(b"key")) is None and time.monotonic() < until:
        time.sleep(0.01)
    return lease


def test_beside_a_process_that_is_stopped_one_other_computes(leases, path, monkeypatch):
    monkeypatch.setattr(_host, "STOPPED", 0.05)
    monkeypatch.setattr(_host, "LOOK_UP", 0.01)
    process = holder(path)
    try:
        assert lease_within(leases, 0.3) is None
        os.kill(process.pid, signal.SIGSTOP)
        heir = lease_within(leases, 20)
        assert heir.held
        assert leases.lease(b"key") is None
        heir.release()
        assert not heir.held
        assert leases.lease(b"key").held
    finally:
        ended(process)


BEGUN_INSIDE = """
import sys, time
from pathlib import Path
from memograd.store._disk import _host
_host.STANDING, _host.LOOK_UP = 0.2, 0.01
leases, until = _host.Leases(Path(sys.argv[1])), time.monotonic() + float(sys.argv[2])
while (lease := leases.lease(b"key")) is None and time.monotonic() < until:
    time.sleep(0.01)
print(lease is not None)
"""


def test_a_process_that_was_begun_inside_a_call_does_not_wait_for_it(leases, path):
    """Also one that a child of its has begun; but who only has the same lease for long is waited for."""
    grandchild = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BEGUN_INSIDE!r}, *sys.argv[1:]])"
    with leases.lease(b"key"):
        for program in (BEGUN_INSIDE, grandchild):
            run = [sys.executable, "-c", program, path, "20"]
            assert subprocess.run(run, capture_output=True, check=True).stdout == b"True\n"
    process = holder(path)
    run = [sys.executable, "-c", BEGUN_INSIDE, path, "0.6"]
    assert subprocess.run(run, capture_output=True, check=True).stdout == b"False\n"
    ended(process)
