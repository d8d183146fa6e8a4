"""`check`: finds what is damaged, says it in words and counts, and makes it good."""

from __future__ import annotations

import sqlite3

import pytest

from memograd.store import About, Disk, Entry
from memograd.store._disk._check import check

BIG = bytes(range(256)) * 400


@pytest.fixture
def root(tmp_path):
    with Disk(tmp_path) as store:
        for n in range(10):
            store.put(b"%d" % n, Entry(About(seconds=1.0), [b"%d" % n * 100]))
        store.put(b"large", Entry(About(), [BIG]))
        store.put(b"equal", Entry(About(), [BIG]))
        store.put(b"other", Entry(About(), [BIG[::-1]]))
    return tmp_path


def sql(root, statement):
    connection = sqlite3.connect(root / "index.sqlite", isolation_level=None)
    connection.execute(statement)
    connection.close()


def files(root):
    return sorted(root.glob("files/*/*.safetensors"))


def test_what_is_sound_is_said_to_be(root):
    report = check(root)
    assert report.sound
    assert (report.entries, report.files) == (13, 2)
    assert "13 entries, 2 files" in str(report)
    assert "nothing is damaged" in str(report)


def test_what_is_not_there_is_sound(tmp_path):
    assert check(tmp_path / "none").sound
    assert not (tmp_path / "none").exists()


def flip(root):
    path = files(root)[0]
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)


def stranger(root):
    (root / "files" / "readme").write_text("hello")


def orphan(root):
    from memograd.store._disk._files import Files

    loose = Files(root / "files")
    loose.name(loose.write([b"loose" * 100]), loose.digest([b"loose" * 100]))


def litter(root):
    (root / "files" / "new" / "1-2-3").write_bytes(b"half")


@pytest.mark.parametrize(
    ("do", "found", "words"),
    [
        (lambda root: sql(root, "UPDATE entries SET body = x'00' WHERE key = x'31'"), {"row": 1, "totals": 0}, "1: entries are"),  # noqa: E501
        (lambda root: sql(root, "UPDATE totals SET entries = 99"), {"totals": 1}, "totals"),
        (lambda root: sql(root, "UPDATE entries SET facts = x'ff' WHERE key = x'31'"), {"row": 1}, "entries are damaged"),  # noqa: E501
        (flip, {"file": 1}, "not what their name says"),
        (lambda root: files(root)[0].unlink(), {"missing": 1}, "lost their file"),
        (orphan, {"orphan": 1}, "belong to no entry"),
        (litter, {"litter": 1}, "half written"),
        (lambda root: (root / "index.sqlite").write_bytes(b"x" * 9999), {"index": 1}, "index is damaged"),
        (lambda root: (root / "index.sqlite.damaged").write_bytes(b"x"), {"aside": 1}, "lie aside"),
    ],
)  # fmt: skip
def test_damage_is_found_said_and_made_good(root, do, found, words):
    do(root)
    report = check(root)
    (kind,) = [kind for kind, count in found.items() if count]
    assert report.found.get(kind, 0) >= 1
    assert words in str(report)
    assert "with fix" in str(report)
    fixed = check(root, fix=True)
    assert fixed.fixed
    assert fixed.found.get(kind, 0) >= 1
    assert check(root).sound, str(check(root))
    with Disk(root) as store:
        assert store.put(b"again", Entry(About(), [BIG]))
        assert bytes(store.get(b"again").body[0]) == BIG
    assert check(root).sound


def test_what_is_none_of_ours_is_said_and_left_alone(root):
    stranger(root)
    assert check(root, fix=True).found == {"strange": 1}
    assert (root / "files" / "readme").exists()


def test_without_fix_nothing_is_changed(root):
    flip(root)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and "-shm" not in path.name}
    check(root)
    assert before == {path: path.read_bytes() for path in before}


def test_a_store_in_use_is_checked(root):
    with Disk(root) as store:
        store.put(b"new", Entry(About(), [b"x"]))
        assert check(root).sound
        assert check(root, fix=True).sound
        store.put(b"newer", Entry(About(), [BIG + b"x"]))
        assert check(root).sound
        assert store.count() == 15
