"""A store that is pickled is one made with the same arguments: what it holds in memory does not travel."""

from __future__ import annotations

import pickle

import pytest

from memograd.store import About, Array, Disk, Entry, Memory, Null, Redis, Tiered

KEY, ENTRY = (0).to_bytes(8, "big"), Entry(About(), [b"body"])


def pickled(store):
    return pickle.loads(pickle.dumps(store))  # noqa: S301 - it is our own


@pytest.mark.parametrize(
    "store",
    [Memory("1MiB"), Null(), Tiered(Memory(), Null()), Redis("redis://localhost:1/0"), Array(None, shape=3)],
    ids=repr,
)
def test_what_is_in_memory_does_not_travel(store):
    assert type(pickled(store)) is type(store)
    assert repr(pickled(store)) == repr(store)


@pytest.mark.parametrize(
    "make",
    [Disk, lambda path: Tiered(Memory(), Disk(path)), lambda path: Array(path, shape=3, dtype="float32")],
    ids=["Disk", "Tiered", "Array"],
)
def test_what_lasts_is_found_by_who_unpickles_it(make, tmp_path):
    with make(tmp_path / "store") as store, pickled(store) as other:
        assert store.put(KEY, ENTRY)
        store.close()
        assert bytes(other.get(KEY).body[0]) == b"body"
