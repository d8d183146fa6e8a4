"""What goes wrong with a directory costs a computation and one warning; never a wrong value, never an exception."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import warnings
from hashlib import blake2b
from pathlib import Path

import pytest

from memograd._errors import MemogradWarning
from memograd.store import About, Disk, Entry, _disk
from memograd.store._disk import _connection, _faults, _files, _index
from memograd.store._disk._check import check
from memograd.testing import FakeClock

BIG = bytes(range(256)) * 400


def key(n):
    return blake2b(b"%d" % n, digest_size=16).digest()


def entry(n, nbytes=100):
    return Entry(About(seconds=1.0), [(b"%d " % n * nbytes)[:nbytes]])


def ask(store, n=0):
    """All that may be asked of a store; none of it raises."""
    store.contains(key(n))
    list(store.infos())
    list(store.scan(sort="used", limit=3))
    store.pin(key(99))
    store.delete(key(99))
    assert store.nbytes >= 0
    assert store.count() >= 0
    with store.lease(key(98)):
        return store.get(key(n))


def said(caught):
    return [str(each.message) for each in caught if issubclass(each.category, MemogradWarning)]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(_faults, "PAUSE", 0.02)
    monkeypatch.setattr(_connection, "PATIENCE", 0.1)


# No room.


def test_a_full_disk_refuses_files_with_one_warning(tmp_path, monkeypatch):
    store = Disk(tmp_path)
    store.put(key(0), entry(0))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "writev", full)
    with pytest.warns(MemogradWarning, match="no room on the disk .*results are computed and not kept") as caught:  # noqa: PT031
        assert store.put(key(1), Entry(About(), [BIG])) is False
        assert store.put(key(2), Entry(About(), [BIG])) is False
    assert len(said(caught)) == 1
    assert (store.get(key(0)) is not None, store.get(key(1))) == (True, None)
    monkeypatch.undo()
    assert store.put(key(1), Entry(About(), [BIG])) is True
    store.close()


def test_a_full_index_refuses_with_one_warning_and_gives_what_it_has(tmp_path):
    store = Disk(tmp_path)
    store.put(key(0), entry(0))
    store.flush()
    store._index._writer.execute("PRAGMA max_page_count = 1")  # SQLite's own SQLITE_FULL
    with pytest.warns(MemogradWarning, match="no room") as caught:  # noqa: PT031
        for n in range(1, 30):
            store.put(key(n), entry(n, 20_000))
        store.flush()
    assert len(said(caught)) == 1
    assert store.get(key(0)) is not None
    store.close()
    assert check(tmp_path).sound


def test_a_limit_on_the_size_of_files_is_no_exception(tmp_path):
    program = """
import resource, sys, warnings
from memograd.store import *
warnings.simplefilter("ignore")
store = Disk(sys.argv[1])
assert store.put(b"a", Entry(About(), [b"1"]))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
assert not store.put(b"b", Entry(About(), [bytes(1_000_000)]))
for n in range(100):
    store.put(b"%d" % n, Entry(About(), [bytes(30_000)]))
store.flush()
store.get(b"a"), store.count(), list(store.infos())
store.close()
"""
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True)
    check(tmp_path, fix=True)
    assert check(tmp_path).sound


# No permission. The tests may run as root, who may do everything: so a child becomes somebody else.

AS_NOBODY = """
import os, sys, warnings
from memograd.store import *
import memograd._errors, sqlite3, json
root = sys.argv[1]
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    store = Disk(root)
    found = store.get(b"here")
    large = store.get(b"large")
    assert store.put(b"new", Entry(About(), [b"x"])) is False
    assert store.put(b"new", Entry(About(), [bytes(100_000)])) is False
    assert store.get(b"new") is None
    assert store.delete(b"here") is False
    store.lease(b"new")
    count, listed = store.count(), len(list(store.infos()))
    store.close()
kinds = [str(each.message) for each in caught]
assert all("not be written to" in kind for kind in kinds), kinds
print(found and bytes(found.body[0]), large and len(large.body[0]), count, listed, len(kinds))
"""


@pytest.fixture
def public():
    """A directory in which everybody may look, as pytest's own are not."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    yield root / "store"
    for path in [root / "store", *root.rglob("*")]:
        path.chmod(0o700)
    shutil.rmtree(root)


def as_nobody(root):
    done = subprocess.run([sys.executable, "-c", AS_NOBODY, root], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_directory_that_may_only_be_read_is_read(public):
    with Disk(public) as store:
        store.put(b"here", Entry(About(), [b"value"]))
        store.put(b"large", Entry(About(), [BIG]))
    for path in [public, *public.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert as_nobody(public) == "b'value' 102400 2 2 1"


def test_a_directory_that_may_not_be_entered_is_empty(public):
    with Disk(public) as store:
        store.put(b"here", Entry(About(), [b"value"]))
    public.chmod(0)
    assert as_nobody(public) == "None None 0 0 1"


def test_a_directory_that_cannot_be_made_is_empty(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(MemogradWarning) as caught:  # noqa: PT031
        store = Disk(tmp_path / "file" / "store")
        for n in range(3):
            assert store.put(key(n), entry(n, 100 + n * 50_000)) in {False, True}
            store.flush()
            time.sleep(0.03)
        assert ask(store) is None
        store.close()
    assert len(said(caught)) == len(set(said(caught)))


# What changes under a running process.


def test_an_index_that_is_deleted_is_begun_anew(tmp_path):
    store = Disk(tmp_path)
    store.put(key(0), entry(0))
    store.put(key(1), Entry(About(), [BIG]))
    for path in tmp_path.glob("index.sqlite*"):
        path.unlink()
    assert store.put(key(2), Entry(About(), [BIG]))
    assert store.put(key(3), entry(3))
    assert (ask(store), store.get(key(1))) == (None, None)
    assert store.count() == 2
    with Disk(tmp_path) as other:
        assert bytes(other.get(key(2)).body[0]) == BIG
    store.close()
    assert check(tmp_path).sound


def test_a_reader_notices_that_the_index_was_deleted(tmp_path, monkeypatch):
    store = Disk(tmp_path)
    store.put(key(0), entry(0))
    store.flush()
    monkeypatch.setattr(_index, "LOOK_EVERY", 0.0)
    for path in tmp_path.glob("index.sqlite*"):
        path.unlink()
    assert store.get(key(0)) is None
    store.close()


def test_a_directory_that_is_deleted_is_made_again(tmp_path):
    root = tmp_path / "store"
    store = Disk(root)
    store.put(key(0), Entry(About(), [BIG]))
    shutil.rmtree(root)
    assert store.put(key(1), entry(1))
    store.flush()
    assert store.put(key(2), Entry(About(), [BIG]))
    assert ask(store) is None
    assert store.count() == 2
    store.close()


def test_a_file_that_is_deleted_or_changed_is_a_miss_and_is_put_again(tmp_path):
    store = Disk(tmp_path)
    for do in (os.unlink, lambda path: path.write_bytes(BIG[::-1]), lambda path: os.truncate(path, 5000)):
        assert store.put(key(0), Entry(About(), [BIG]))
        assert store.put(key(1), Entry(About(), [BIG]))
        (file,) = tmp_path.glob("files/*/*.safetensors")
        file.chmod(0o600)
        do(file)
        _files._verified.clear()
        assert (store.get(key(0)), store.contains(key(1))) == (None, False)
        assert not file.exists()
    assert store.nbytes == 0
    store.close()


def test_an_index_that_is_overwritten_while_open_is_begun_anew_with_one_warning(tmp_path):
    store = Disk(tmp_path)
    for n in range(50):
        store.put(key(n), entry(n, 2000))
    store.close()
    path = tmp_path / "index.sqlite"
    path.write_bytes(path.read_bytes()[:4096] + os.urandom(path.stat().st_size - 4096))
    with pytest.warns(MemogradWarning, match="damaged .*was begun anew") as caught:  # noqa: PT031
        for n in range(50):
            assert store.get(key(n)) is None
        store.put(key(0), entry(0))
        assert ask(store) is not None
    assert len(said(caught)) == 1
    store.close()


def test_a_row_that_was_changed_by_hand_is_no_value(tmp_path):
    changes = ["body = x'00'", "key = x'00'", "expires = 1e18", "size = 7", "checksum = 7", "body = NULL",
               "digest = '../../../../etc/passwd', body = NULL"]  # fmt: skip
    for change in changes:
        with Disk(tmp_path) as store:
            store.put(key(0), entry(0))
        connection = sqlite3.connect(tmp_path / "index.sqlite", isolation_level=None)
        connection.execute(f"UPDATE entries SET {change}")  # noqa: S608 - the attack
        connection.close()
        with Disk(tmp_path) as store:
            assert store.get(key(0)) is None, change
            store.clear()


def test_facts_that_were_changed_by_hand_are_none_and_an_entry_still_ends(tmp_path):
    about = About(function="f", text="f(x)", parts={"x": "1"}, tags=("a",), seconds=2.0, created=3.0, expires=1e18)
    for change in ["facts = x'5b5d'", "facts = x''", "created = 5.0", "facts_checksum = 7"]:
        with Disk(tmp_path) as store:
            store.put(key(0), Entry(about, [b"x"]))
            store.flush()
            assert store.get(key(0)).about == about
        connection = sqlite3.connect(tmp_path / "index.sqlite", isolation_level=None)
        connection.execute(f"UPDATE entries SET {change}")  # noqa: S608 - the attack
        connection.close()
        with Disk(tmp_path) as store:
            assert store.get(key(0)) == Entry(About(expires=1e18), [b"x"]), change
            assert [info.about for info in store.infos()] == [About(expires=1e18)]
            assert check(tmp_path).found == {"row": 1}
            store.clear()


def test_a_row_whose_checksum_is_right_leads_to_no_file_outside(tmp_path):
    from memograd.store._disk import _rows

    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 100)
    with Disk(tmp_path / "store") as store:
        for n, digest in enumerate(["../../secret", "/" * 32, "..", ""]):
            row = _rows.row_of(key(n), About(), size=100, now=0.0, digest=digest)
            with store._index.writing() as connection:
                connection.execute(_rows.INSERT, (*row, 0.0))
            assert store.get(key(n)) is None
    assert secret.exists()


def test_facts_that_are_nested_deeply_are_none(tmp_path):
    from memograd.store._disk import _rows

    row = _rows.row_of(key(0), About(), size=1, now=0.0, body=b"x")
    deep = row._replace(facts=b"[" * 100_000)
    deep = deep._replace(facts_checksum=_rows.facts_checksum_of(key(0), deep.created, deep.facts))
    with Disk(tmp_path) as store:
        with store._index.writing() as connection:
            connection.execute(_rows.INSERT, (*deep, 0.0))
        assert [info.about for info in store.infos()] == [About()]
        assert store.get(key(0)) == Entry(About(), [b"x"])


def test_facts_that_no_text_or_number_can_be_are_taken_all_the_same(tmp_path):
    about = About(function="\ud800", text="\udfff\0", parts={"\ud800": "x"}, seconds=float("nan"), created=float("-inf"),  # noqa: E501
                  expires=float("inf"), tags=("\ud800",))  # fmt: skip
    with Disk(tmp_path) as store:
        store.put(key(0), Entry(about, [b"x"]))
        store.flush()
        assert bytes(store.get(key(0)).body[0]) == b"x"
        assert len(list(store.infos())) == 1


# Others, and time.


def test_a_stopped_process_that_holds_the_index_costs_patience_and_one_warning(tmp_path):
    store = Disk(tmp_path)
    store.put(key(0), entry(0))
    store.flush()
    program = "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], isolation_level=None)\n" \
        "c.execute('BEGIN IMMEDIATE'); print('held', flush=True); time.sleep(60)"  # fmt: skip  # noqa: ISC002
    run = [sys.executable, "-c", program, tmp_path / "index.sqlite"]
    with subprocess.Popen(run, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        other.send_signal(signal.SIGSTOP)
        store._index._writer.execute("PRAGMA busy_timeout = 100")
        with pytest.warns(MemogradWarning, match="another process keeps it locked") as caught:  # noqa: PT031
            for n in range(1, 4):
                assert store.put(key(n), Entry(About(), [BIG])) is False
            time.sleep(0.03)
            assert store.get(key(0)) is not None
        other.kill()
    assert len(said(caught)) == 1
    time.sleep(0.03)
    assert store.put(key(1), Entry(About(), [BIG])) is True
    store.close()


@pytest.mark.parametrize("now", [0.0, -1e9, 4e9, 1e18, float("inf")])
def test_a_clock_may_jump(tmp_path, now):
    clock = FakeClock(1.8e9)
    with Disk(tmp_path, max_bytes=5000, clock=clock) as store:
        store.put(key(0), Entry(About(created=9e9, expires=1.9e9), [b"x"]))
        clock.now = now
        for n in range(1, 9):
            store.put(key(n), entry(n, 1000))
        ask(store)
        assert store.nbytes <= 5000


def test_what_a_killed_process_has_half_written_is_swept_when_the_next_one_opens(tmp_path):
    with Disk(tmp_path):
        pass
    litter = tmp_path / "files" / "new" / "1-2-abc"
    litter.parent.mkdir(parents=True)
    litter.write_bytes(BIG)
    (tmp_path / "files.1-abc.old" / "00").mkdir(parents=True)
    with Disk(tmp_path):
        assert not litter.exists()
        assert not (tmp_path / "files.1-abc.old").exists()


def test_a_network_file_system_works_without_a_log_if_it_has_locks_and_is_refused_if_not(tmp_path, monkeypatch):
    monkeypatch.setattr(_disk, "network_of", lambda _: "nfs4")
    with Disk(tmp_path) as store:
        store.put(key(0), entry(0))
        store.flush()
        assert store._index.one("PRAGMA journal_mode") == ("delete",)
        with Disk(tmp_path) as other:
            assert other.get(key(0)) is not None

    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    from memograd.store._disk import _host

    monkeypatch.setattr(_host.fcntl, "lockf", none)
    with pytest.raises(OSError, match="no locks"):
        Disk(tmp_path / "other")


def test_a_newer_index_is_refused_by_name(tmp_path):
    Disk(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "index.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ValueError, match=r"version 99, expected at most 1; install a later memograd"):
        Disk(tmp_path)


def test_an_older_index_is_set_aside_with_one_warning(tmp_path):
    with Disk(tmp_path) as store:
        store.put(key(0), entry(0))
        store.put(key(1), Entry(About(), [BIG]))
    connection = sqlite3.connect(tmp_path / "index.sqlite")
    connection.execute("PRAGMA user_version = 0")
    connection.close()
    with pytest.warns(MemogradWarning, match="another version.*set aside") as caught:  # noqa: PT031
        store = Disk(tmp_path)
        assert ask(store) is None
    assert len(said(caught)) == 1
    assert list(tmp_path.glob("files/*/*.safetensors")) == []
    store.close()


def test_a_readonly_store_writes_nothing_at_all(tmp_path):
    root = tmp_path / "store"
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        nothing = Disk(root, readonly=True)
        assert ask_quietly(nothing) is None
    assert not root.exists()


def ask_quietly(store):
    return (list(store.infos()), store.put(key(0), entry(0)), store.clear(), store.delete(key(0)), store.get(key(0)))[
        -1
    ]
