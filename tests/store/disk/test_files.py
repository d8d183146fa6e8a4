"""Files named by what they hold: written once, verified once, never trusted."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from memograd.store._disk import _files
from memograd.store._disk._files import DamagedError, Files


def put(files, pieces):
    digest = files.digest(pieces)
    files.name(files.write(pieces), digest)
    files.settle(digest)
    return digest


@pytest.fixture(params=["map", "read"])
def files(request, tmp_path):
    return Files(tmp_path / "files", load=request.param)


BODY = bytes(range(256)) * 500


def test_what_was_written_is_loaded(files):
    digest = put(files, [BODY[:1000], memoryview(BODY)[1000:]])
    assert bytes(files.load(digest, len(BODY))) == BODY


def test_thousands_of_pieces_are_written(files):
    pieces = [BODY[at : at + 7] for at in range(0, len(BODY), 7)] + [b""]
    assert bytes(files.load(put(files, pieces), len(BODY))) == BODY


def test_the_digest_is_that_of_the_bytes_however_they_are_cut(tmp_path):
    for algorithm, length in (("xxh3", 32), ("blake3", 64)):
        files = Files(tmp_path, digest=algorithm)
        whole = files.digest([BODY])
        assert len(whole) == length
        assert whole == files.digest([BODY[:9], b"", memoryview(BODY)[9:].cast("B")])
        assert whole == files.digest([memoryview(BODY).cast("I")])


def test_a_file_that_is_not_there_is_none(files):
    assert files.load("0" * 32, 5) is None
    assert files.size("0" * 32) == -1


@pytest.mark.parametrize("name", ["../../etc/passwd", "0" * 31, "/" * 32, "0" * 32 + "\n", "0" * 31 + "G", ""])
def test_what_is_no_digest_leads_to_no_file(files, name):
    with pytest.raises(DamagedError):
        files.load(name, 5)
    assert files.size(name) == -1
    files.remove(name)


def assert_damage_is_noticed(files, digest, do):
    path = files.path(digest)
    path.chmod(0o600)
    do(path)
    with pytest.raises(DamagedError):
        files.load(digest, len(BODY))


def test_a_flipped_bit_is_noticed(files):
    def flip(path):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data)

    assert_damage_is_noticed(files, put(files, [BODY]), flip)


def test_a_file_of_another_size_is_noticed_before_it_is_mapped(files):
    assert_damage_is_noticed(files, put(files, [BODY]), lambda path: os.truncate(path, 10))


def test_a_link_or_a_pipe_is_not_followed_or_waited_for(files, tmp_path):
    digest = put(files, [BODY])
    path = files.path(digest)
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic"):
        files.load(digest, len(BODY))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DamagedError):
        files.load(digest, len(BODY))


def test_a_file_is_verified_once(files, monkeypatch):
    digest = put(files, [BODY])
    files.load(digest, len(BODY))
    asked = []
    monkeypatch.setattr(_files, "_digest", lambda *given: asked.append(given))
    files.load(digest, len(BODY))
    assert asked == []


def test_a_file_that_was_exchanged_is_verified_again(files):
    digest = put(files, [BODY])
    files.load(digest, len(BODY))
    other = files.path(digest).with_name("other")
    other.write_bytes(BODY[::-1])
    other.replace(files.path(digest))
    with pytest.raises(DamagedError):
        files.load(digest, len(BODY))


def test_who_changes_what_is_mapped_changes_his_own_copy(files):
    digest = put(files, [BODY])
    view = files.load(digest, len(BODY))
    view[:5] = b"other"
    assert bytes(files.load(digest, len(BODY))) == BODY
    assert files.path(digest).read_bytes() == BODY


def test_what_is_mapped_outlives_its_file(files):
    digest = put(files, [BODY])
    view = files.load(digest, len(BODY))
    files.remove(digest)
    assert bytes(view) == BODY


def test_with_many_mapped_the_rest_is_read(tmp_path, monkeypatch):
    import resource

    files = Files(tmp_path)
    digest = put(files, [BODY])
    monkeypatch.setattr(resource, "getrlimit", lambda _: (8, 8))
    views = [files.load(digest, len(BODY)) for _ in range(5)]
    assert type(views[-1].obj) is bytearray
    assert bytes(views[-1]) == BODY


def test_files_are_private(files):
    digest = put(files, [BODY])
    path = files.path(digest)
    modes = [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent, files.root)]
    assert modes == [0o600, 0o700, 0o700]


def test_half_written_files_of_the_dead_are_swept_and_of_the_living_are_not(files):
    mine = files.write([BODY])
    program = "import sys, os; from pathlib import Path; from memograd.store._disk._files import Files\n" \
        "Files(Path(sys.argv[1])).write([b'x' * 1000]); os._exit(0)"  # fmt: skip  # noqa: ISC002
    subprocess.run([sys.executable, "-c", program, files.root], check=True)
    assert len(list((files.root / "new").iterdir())) == 2
    assert files.litter() == files.litter(remove=True) == 1
    assert list((files.root / "new").iterdir()) == [mine.path]
    mine.discard()


def test_a_file_that_is_swept_before_its_writer_has_locked_it_is_made_again(files, monkeypatch):
    plain = os.open
    sweeps = [1]

    def opened(path, flags, *mode):
        descriptor = plain(path, flags, *mode)
        if flags & os.O_CREAT and sweeps:
            sweeps.pop()
            assert files.litter(remove=True) == 1
        return descriptor

    monkeypatch.setattr(os, "open", opened)
    assert bytes(files.load(put(files, [BODY]), len(BODY))) == BODY


def test_all_lists_files_and_what_is_none_of_ours(files):
    digest = put(files, [BODY])
    (files.root / "00").mkdir()
    stranger = files.root / "00" / "readme"
    stranger.write_text("hello")
    assert dict(files.all()) == {files.path(digest): digest, stranger: ""}
    files.clear()
    assert list(files.all()) == []


def test_a_write_that_fails_leaves_nothing(files, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "writev", full)
    with pytest.raises(OSError, match="No space"):
        files.write([BODY])
    assert list((files.root / "new").iterdir()) == []


def test_a_write_may_take_some_bytes_at_a_time(files, monkeypatch):
    plain = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, views: plain(fd, [views[0][:777]]))
    assert bytes(files.load(put(files, [BODY[:5000], BODY[5000:]]), len(BODY))) == BODY


def test_the_path_is_two_digits_then_the_digest(tmp_path):
    digest = put(Files(tmp_path), [BODY])
    assert list(tmp_path.glob("*/*.safetensors")) == [Path(tmp_path, digest[:2], f"{digest}.safetensors")]
