"""What is in `bench` can be imported as its scripts import it."""

from __future__ import annotations

import sys

import pytest
from tests.bench.scripts import BENCH


@pytest.fixture
def bench_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in ("harness", "figures")]:
        del sys.modules[name]
