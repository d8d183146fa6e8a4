"""Stores by their names."""

from __future__ import annotations

import pytest

from memograd.store import Disk, Memory
from memograd.store._open import hidden, open_store


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
    with pytest.raises(TypeError):
        open_store(3)


def test_passwords_are_not_shown():
    assert hidden("redis://user:secret@host:1/0") == "redis://user:…@host:1/0"
    assert hidden("rediss://:secret@host") == "rediss://:…@host"
    with pytest.raises(ValueError, match="got 'ftp://a:…@host'"):
        open_store("ftp://a:secret@host")
