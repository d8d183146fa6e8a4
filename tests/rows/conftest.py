"""On a busy machine no wrapper steps aside, but in tests that are marked `account`."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def patient_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.node.get_closest_marker("account"):
        monkeypatch.setattr("memograd._rows._account.GRACE", float("inf"))
