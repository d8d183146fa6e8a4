"""How much memory this process may use."""

from __future__ import annotations

import subprocess
import sys

import pytest

from memograd import Memo
from memograd.store._limit import UNKNOWN, memory_limit
from memograd.store._results import Results


def write(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_without_groups_it_is_at_most_the_machines_memory(tmp_path):
    import os

    assert 0 < memory_limit(str(tmp_path)) <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_the_group_of_version_2_limits(tmp_path):
    write(tmp_path, "proc/self/cgroup", "0::/user/session\n")
    write(tmp_path, "sys/fs/cgroup/user/session/memory.max", "123456789\n")
    assert memory_limit(str(tmp_path)) == 123456789


def test_a_group_around_the_group_limits_too(tmp_path):
    write(tmp_path, "proc/self/cgroup", "0::/user/session\n")
    write(tmp_path, "sys/fs/cgroup/user/session/memory.max", "max\n")
    write(tmp_path, "sys/fs/cgroup/user/memory.max", "99000000\n")
    assert memory_limit(str(tmp_path)) == 99000000


def test_the_group_of_version_1_limits(tmp_path):
    write(tmp_path, "proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/docker/abc\n")
    write(tmp_path, "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "77000000\n")
    assert memory_limit(str(tmp_path)) == 77000000


@pytest.mark.parametrize("group", ["/kubepods/pod1/abc", "/../../abc", "/"])
def test_inside_a_container_the_mount_itself_is_the_group(tmp_path, group):
    write(tmp_path, "proc/self/cgroup", f"0::{group}\n")
    write(tmp_path, "sys/fs/cgroup/memory.max", "55000000\n")
    assert memory_limit(str(tmp_path)) == 55000000


def test_unlimited_and_unreadable_groups_are_no_limit(tmp_path):
    before = memory_limit(str(tmp_path))
    write(tmp_path, "proc/self/cgroup", "nonsense\n0::/a\n4:memory:/b\n")
    write(tmp_path, "sys/fs/cgroup/a/memory.max", "max\n")
    write(tmp_path, "sys/fs/cgroup/memory/b/memory.limit_in_bytes", "9223372036854771712\n")
    assert memory_limit(str(tmp_path)) == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no rlimits")
def test_the_limit_that_the_shell_sets_counts():
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))\n"
        "from memograd import memo; memo(lambda x: x)(1); print(memo.store.max_bytes)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 2**31 // 4


def test_the_default_memo_holds_at_most_a_quarter():
    assert Memo().store.max_bytes == memory_limit() // 4 == Results().max_bytes


def test_what_is_not_known_is_assumed_to_be_small(monkeypatch, tmp_path):
    monkeypatch.setattr("os.sysconf", None)
    monkeypatch.setattr("memograd.store._limit._rlimit", lambda: iter(()))
    monkeypatch.setattr("memograd.store._limit._machine", lambda: iter(()))
    assert memory_limit(str(tmp_path)) == UNKNOWN
