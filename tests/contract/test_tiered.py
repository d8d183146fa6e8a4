"""The contract of stores, over tiers of them."""

from __future__ import annotations

from itertools import count

import pytest

from memograd.store import Disk, Memory, Null, Tiered
from memograd.testing import StoreContract


class TestMemoryBeforeMemory(StoreContract):
    def make(self):
        return Tiered(Memory("500MiB"), Memory("1GiB"))


class TestASmallMemoryBeforeALargeOne(StoreContract):
    def make(self):
        return Tiered(Memory("20KiB"), Memory("1GiB"))


class TestNothingBeforeAndBehind(StoreContract):
    def make(self):
        return Tiered(Null(), Memory("1GiB"), Null())


class TestOneAlone(StoreContract):
    def make(self):
        return Tiered(Memory("1GiB"))


class TestMemoryBeforeDisk(StoreContract):
    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path):
        self.roots = (tmp_path / str(n) for n in count())

    def make(self):
        return Tiered(Memory("1MiB"), Disk(next(self.roots)))
