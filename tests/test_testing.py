"""What is public for users' tests."""

from __future__ import annotations

import time

import pytest

from memograd.store import Memory, Null
from memograd.testing import FakeClock, StoreContract


def test_a_fake_clock_stands_still_until_it_is_told():
    clock = FakeClock(10.0)
    assert (clock(), clock()) == (10.0, 10.0)
    clock.advance(0.5)
    assert clock() == 10.5


def test_a_fake_clock_does_not_run_backwards():
    clock = FakeClock()
    with pytest.raises(ValueError, match=r"advance\(\) got -1, expected 0 or more"):
        clock.advance(-1)
    assert clock() == 0


def test_the_contract_can_be_run_by_hand():
    names = StoreContract.run(lambda: Memory("1GiB"))
    assert len(names) > 30
    assert all(name.startswith("test_") for name in names)


def test_the_contract_says_what_a_store_must_say():
    with pytest.raises(AssertionError, match=r"def make\(self\): return MyStore\(\)"):
        StoreContract.run()


class Forgetful(Memory):
    def get(self, key):
        del key


class Aliasing(Memory):
    """Gives readers its own memory, which they may change."""

    def put(self, key, entry, **options):
        taken = super().put(key, entry, **options)
        self._held[key].body = memoryview(bytearray(self._held[key].body))
        return taken


class Generous(Memory):
    """Gives the same lease to all."""

    def lease(self, key):
        del key
        return super().lease(b"%d" % time.perf_counter_ns())


class Immortal(Memory):
    """Looks at no clock."""

    def __init__(self):
        super().__init__("1GiB", clock=lambda: 0.0)


class Cutting(Memory):
    """Knows the first 16 bytes of a key."""

    def put(self, key, entry, **options):
        return super().put(key[:16], entry, **options)

    def get(self, key):
        return super().get(key[:16])


@pytest.mark.parametrize(
    ("store", "failing"),
    [
        (lambda: Forgetful("1GiB"), "test_what_was_put_is_got: AssertionError: got other bytes than were put"),
        (lambda: Aliasing("1GiB"), "test_a_reader_may_change_what_it_got"),
        (lambda: Generous("1GiB"), "test_of_many_threads_that_ask_one_has_the_lease"),
        (lambda: Cutting("1GiB"), "test_keys_have_from_1_to_64_bytes"),
        (Immortal, "test_what_has_expired_is_not_there"),
        (Null, "test_it_contains_what_was_put"),
    ],
)
def test_the_contract_finds_a_store_that_breaks_it(store, failing, monkeypatch):
    monkeypatch.setattr("memograd.testing._ways.PATIENCE", 0.5)
    with pytest.raises(AssertionError, match=f"(?s)of .* failed\n.*{failing}"):
        StoreContract.run(store)
