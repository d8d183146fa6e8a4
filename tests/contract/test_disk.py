"""The contract of stores, over a directory: in every way of keeping and loading."""

from __future__ import annotations

from itertools import count
from typing import ClassVar

import pytest

from memograd.store import Disk
from memograd.testing import StoreContract


class TestDisk(StoreContract):
    options: ClassVar = {}

    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path):
        self.roots = (tmp_path / str(n) for n in count())

    def make(self):
        return Disk(next(self.roots), **self.options)

    def second(self, store, *, readonly=False):
        return Disk(store.path, readonly=readonly, **self.options)


class TestAllInFiles(TestDisk):
    options: ClassVar = {"inline": 0, "digest": "blake3", "fsync": "off"}


class TestRead(TestDisk):
    options: ClassVar = {"inline": 64, "load": "read"}
