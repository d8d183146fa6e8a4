"""The contract of stores, over arrays: keys are integers, bodies are rows of one size, and there are no facts."""

from __future__ import annotations

import pytest

from memograd.store import Array
from memograd.testing import StoreContract


class TestArrayInMemory(StoreContract):
    keeps_about = False
    integer_keys = True
    fixed_nbytes = 48

    def make(self):
        return Array(None, shape=(1000, 12), dtype="float32")


class TestArrayOnDisk(StoreContract):
    keeps_about = False
    integer_keys = True
    fixed_nbytes = 48

    @pytest.fixture(autouse=True)
    def _somewhere(self, tmp_path):
        self.path = tmp_path / "array"

    def make(self):
        return Array(self.path, shape=(1000, 12), dtype="float32")

    def second(self, store, *, readonly=False):  # noqa: ARG002 - it is one of the folder
        return Array(self.path, shape=(1000, 12), dtype="float32", readonly=readonly)
