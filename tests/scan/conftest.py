"""Hypothesis draws the same examples in every run, so that a red suite means a changed program."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the plain module say what it says about its own speed."""
    says = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(says)
