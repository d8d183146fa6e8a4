"""The contract of stores, over memory."""

from __future__ import annotations

from memograd.store import Memory
from memograd.testing import StoreContract


class TestMemory(StoreContract):
    def make(self):
        return Memory("1GiB")
