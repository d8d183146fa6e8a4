"""The index: one SQLite file, private, its own version, begun anew when it is damaged or gone; and how it is asked."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading

import pytest

from memograd.store._disk._connection import NewerError, damaged
from memograd.store._disk._index import Index
from memograd.store._disk._rows import APPLICATION, FACTS, FIND, INSERT, VERSION
from memograd.store._evict import priority


@pytest.fixture
def path(tmp_path):
    return tmp_path / "index.sqlite"


def by_hand(path, *statements):
    connection = sqlite3.connect(path, isolation_level=None)
    for sql in statements:
        connection.execute(sql)
    connection.close()


def test_it_is_a_private_file_with_a_log_a_name_and_a_version(path):
    index = Index(path)
    index.open()
    assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}
    asked = [index.one(f"PRAGMA {name}")[0] for name in ("journal_mode", "application_id", "user_version", "mmap_size")]
    assert asked == ["wal", APPLICATION, VERSION, 0]
    index.close()


def test_without_shared_memory_there_is_no_log(path):
    index = Index(path, wal=False)
    assert index.open().execute("PRAGMA journal_mode").fetchone()[0] == "delete"
    with index.writing() as connection:
        connection.execute("UPDATE totals SET entries = 3")
    assert index.one("SELECT entries FROM totals") == (3,)
    index.close()


def test_a_newer_version_is_refused_by_name(path):
    Index(path).open()
    by_hand(path, f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(
        NewerError, match=f"version {VERSION + 1}, expected at most {VERSION}; install a later memograd"
    ):
        Index(path).open()


@pytest.mark.parametrize(
    "statement",
    [
        "PRAGMA user_version = 0",
        "PRAGMA application_id = 7",
        "CREATE TRIGGER evil AFTER INSERT ON entries BEGIN DELETE FROM entries; END",
        "DROP INDEX least",
        "CREATE VIEW other AS SELECT * FROM entries",
    ],
)
def test_what_is_not_an_index_of_ours_is_set_aside(path, statement):
    begun = []
    first = Index(path)
    first.open()
    first.close()
    by_hand(path, statement)
    index = Index(path, begun=begun.append)
    index.open()
    assert begun == ["an index of another version, or of something else,"]
    assert path.with_name("index.sqlite.damaged").exists()
    assert index.one("SELECT entries FROM totals") == (0,)
    index.close()


def test_a_transaction_is_all_or_nothing(path):
    index = Index(path)
    with pytest.raises(ZeroDivisionError), index.writing() as connection:  # noqa: PT012
        connection.execute("UPDATE totals SET entries = 5")
        raise ZeroDivisionError
    assert index.one("SELECT entries FROM totals") == (0,)
    index.close()


def test_damage_is_set_aside_once(path):
    one, other = Index(path), Index(path)
    one.open()
    other.open()
    assert one.set_aside() is True
    assert other.set_aside() is False
    with one.writing() as connection:
        connection.execute("UPDATE totals SET entries = 1")
    assert other.one("SELECT entries FROM totals") == (1,)
    one.close()
    other.close()


def test_a_log_never_meets_a_new_file(path):
    index = Index(path)
    with index.writing() as connection:
        connection.execute("UPDATE totals SET entries = 7")
    log = path.with_name("index.sqlite-wal").read_bytes()
    index.close()
    path.unlink()
    path.with_name("index.sqlite-wal").write_bytes(log)
    fresh = Index(path)
    assert fresh.one("SELECT entries FROM totals") == (0,)
    fresh.close()


def test_a_file_that_was_exchanged_is_opened_again(path):
    index = Index(path)
    index.open()
    path.unlink()
    assert index.moved()
    with index.writing() as connection:
        connection.execute("UPDATE totals SET entries = 2")
    assert not index.moved()
    assert path.exists()
    index.close()


def test_errors_of_damage_are_told_from_others(path):
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(sqlite3.DatabaseError) as caught:
        Index(path).open()
    assert damaged(caught.value)
    assert not damaged(sqlite3.OperationalError("database is locked"))
    assert not damaged(OSError())


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_waits_for_whoever_is_inside_and_the_child_opens_its_own(path):
    index = Index(path)
    before = index.open()
    inside, go_on = threading.Event(), threading.Event()

    def write():
        with index.writing() as connection:
            connection.execute("UPDATE totals SET entries = 9")
            inside.set()
            go_on.wait(0.2)

    thread = threading.Thread(target=write)
    thread.start()
    inside.wait()
    child = os.fork()
    if child == 0:
        os._exit(0 if index.one("SELECT entries FROM totals") == (9,) and index._reader is not before else 1)
    assert os.waitpid(child, 0)[1] == 0
    thread.join()
    assert index._reader is before
    index.close()


def plan(index, sql, *values):
    return " ".join(row[3] for row in index.rows(f"EXPLAIN QUERY PLAN {sql}", values))


@pytest.mark.slow
def test_among_a_million_entries_nothing_is_looked_for_by_going_through_them(path):
    from memograd.store._disk import _commit, _scan

    index = Index(path)
    with index.writing() as connection:
        rows = (
            (n * 7919, 300, 1.0, 0, 0.0, None, 0.0, b"", 0, b"%d" % n, None, 3, None, 0, b"abc", n % 1000 / 7)
            for n in range(1_000_000)
        )
        connection.executemany(INSERT, rows)
    assert "USING INDEX places" in plan(index, FIND, 1)
    assert "USING INDEX places" in plan(index, FACTS, 1)
    assert "USING INDEX least" in plan(index, _commit._LEAST)
    assert "USING INDEX ends" in plan(index, _commit._ENDED, 1.0)
    assert "ends" in plan(index, _scan.ENDED, 1.0)
    assert "USING INDEX files" in plan(index, _commit._BY_FILE, "x")
    assert "USING INDEX children" in plan(index, _commit._ORPHAN, 1.0, None, 0.0, b"k", 1)
    assert "USING COVERING INDEX places" in plan(index, _commit._USE, 1, 1, 0.0, 0.0)
    page = plan(index, _scan.PAGE, 0, 0.0, 20)
    assert "USING INTEGER PRIMARY KEY" in page
    assert "B-TREE" not in page
    assert "SCAN" not in "".join(plan(index, sql, *values) for sql, *values in [(FIND, 1), (_scan.PAGE, 0, 0.0, 20)])
    assert len(index.rows(_scan.PAGE, (0, 0.0, 20))) == 20
    assert index.one(FIND, (7919 * 5,))[0] == b"5"
    index.close()


def test_the_priority_in_sql_is_that_of_every_store(path):
    index = Index(path)
    assert index.open().execute("SELECT priority_of(1.5, 3, 2.0, 100)").fetchone()[0] == priority(1.5, 3, 2.0, 100)
    assert index.open().execute("SELECT priority_of('x', NULL, 2.0, 100)").fetchone()[0] == 0.0
    index.close()
