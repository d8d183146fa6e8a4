"""The contract of stores, over the one that keeps nothing."""

from __future__ import annotations

from memograd.store import Null
from memograd.testing import StoreContract


class TestNull(StoreContract):
    keeps = False

    def make(self):
        return Null()
