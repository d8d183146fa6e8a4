"""A store that keeps nothing. The rest is in the contract."""

from __future__ import annotations

from memograd.store import About, Entry, Null


def test_nothing_is_kept_and_leases_work():
    store = Null()
    assert store.put(b"key", Entry(About(), [b"body"])) is False
    assert (store.get(b"key"), store.count(), store.nbytes) == (None, 0, 0)
    with store.lease(b"key") as lease:
        assert lease.held
        assert store.lease(b"key") is None
