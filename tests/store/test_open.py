"""Stores by their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from memograd import Memo
from memograd.store import Disk, Memory
from memograd.store._open import hidden, named, open_store


def test_a_path_is_a_directory_on_disk(tmp_path):
    for name in (tmp_path / "a", str(tmp_path / "b"), str(tmp_path / "with 2GiB?")):
        with open_store(name, max_bytes="3MB") as store:
            assert isinstance(store, Disk)
            assert str(store.path) == str(name)
            assert store.max_bytes == 3_000_000


def test_a_path_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with open_store("~/x") as store:
        assert store.path == tmp_path / "x"


def test_without_a_name_it_is_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with open_store() as store:
        assert tmp_path in store.path.parents


def test_memory_has_an_address_with_a_size():
    assert isinstance(open_store("memory://"), Memory)
    assert open_store("memory://2GiB").max_bytes == 2 << 30
    assert open_store("memory://", max_bytes=5000).max_bytes == 5000


def test_redis_has_an_address():
    store = open_store("redis://localhost:1/0", max_bytes="1GiB", readonly=True)
    assert (type(store).__name__, store.readonly, store.max_bytes) == ("Redis", True, 1 << 30)


@pytest.mark.parametrize("name", ["", "  ", "ftp://host/x", "http://host"])
def test_what_names_no_store_is_refused_with_what_to_write(name):
    with pytest.raises(ValueError, match=r'a store\'s name got .*, expected a directory.*write "~/.cache/lab"'):
        open_store(name)


def test_a_name_of_another_type_is_refused():
    for name in (3, b"lab", None.__class__, ["lab"]):
        with pytest.raises(TypeError, match=r"a store's name got .*, expected a directory"):
            open_store(name)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("2GiB", "max_bytes='2GiB'; a directory of that name as './2GiB'"), ("500 MB", "a size, expected a directory"),
        ("redis:/host", "write 'redis://host'"), ("redis:host:6379/0", "write 'redis://host:6379/0'"),
        ("Memory:1GiB", "write 'memory://1GiB'"), (Path("redis://host/0"), "write 'redis://host/0'"),
        ("localhost:6379", '"redis://host:6379/0", .* a directory with a colon as \'./…\''),
    ],
)  # fmt: skip
def test_a_slip_makes_no_directory_of_that_name(name, write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"a store's name got .*{write}"):
        Memo(name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["./2GiB", "./redis:x", "2024", Path("2GiB"), "C:/lab", "C:\\lab"])
def test_a_directory_may_have_any_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert named(name) == str(name)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("redis://user:secret@host:1/0", "redis://user:…@host:1/0"), ("rediss://:secret@host", "rediss://:…@host"),
        ("redis://u:se@cret@host", "redis://u:…@host"), ("redis://u:se:cret@host", "redis://u:…@host"),
        ("redis://u:se/cret@host", "redis://…@host"), ("redis://u:se?cret@host/0", "redis://…@host/0"),
        ("redis://host/0?password=secret", "redis://host/0"), ("redis://host?password=se@cret", "redis://…@cret"),
        ("redis:/u:secret@host", "redis:/u:…@host"), ("u:secret@host:6379", "u:…@host:6379"),
        ("unix:///var/run/redis.sock?password=secret", "unix:///var/run/redis.sock"), ("redis://host", "redis://host"),
        ("/data/of:me@home?", "/data/of:me@home?"), ("C:\\of:me@home", "C:\\of:me@home"),
    ],
)  # fmt: skip
def test_passwords_are_not_shown(name, shown):
    assert hidden(name) == shown


def test_errors_show_no_password():
    with pytest.raises(ValueError, match="got 'ftp://a:…@host'"):
        open_store("ftp://a:secret@host")
