"""The contract of stores, over a real Redis."""

from __future__ import annotations

from itertools import count

import pytest
from tests.servers import shared_server

from memograd.store import Redis
from memograd.testing import StoreContract

__all__ = ["shared_server"]
_numbers = count()


class TestRedis(StoreContract):
    @pytest.fixture(autouse=True)
    def _server(self, shared_server):
        self.url = shared_server.url

    def make(self):
        return Redis(self.url, namespace=f"lab{next(_numbers)}", timeout=10)

    def second(self, store, *, readonly=False):
        return Redis(self.url, namespace=store._server.namespace, readonly=readonly, timeout=10)


class TestABoundedRedis(TestRedis):
    def make(self):
        return Redis(self.url, namespace=f"lab{next(_numbers)}", timeout=10, max_bytes="60MB")


class TestARedisWhoseEntriesExpire(TestRedis):
    test_all_facts_are_kept = None  # when they expire is said by the store

    def make(self):
        return Redis(self.url, namespace=f"lab{next(_numbers)}", timeout=10, ttl=3600)
