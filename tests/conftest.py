"""What all tests share: those marked gpu are skipped, and say so, where CUDA is missing; no other asks the clock."""

from __future__ import annotations

import gc
import os

import pytest
from hypothesis import settings

# What holds a change back must be the same each time that it is asked; at home each run looks elsewhere.
settings.register_profile("ci", derandomize=True)
if "CI" in os.environ:
    settings.load_profile("ci")

# Here, since tests of the promises import them too.
pytest.register_assert_rewrite("tests.scan.judge", "tests.scan.pairs", "tests.scan.programs")


def _cuda() -> bool:
    try:
        import torch
    except ModuleNotFoundError:
        return False
    return torch.cuda.is_available()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not _cuda():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch sees none here"))


@pytest.fixture(autouse=True, scope="module")
def _only_what_a_file_makes_is_collected() -> None:
    """Let tests that collect garbage look at their own: of all libraries and tests it takes seconds, each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def patient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let remembering take its time, but in tests marked `account`: on a busy machine no function steps aside."""
    if not request.node.get_closest_marker("account"):
        monkeypatch.setattr("memograd._pays.GRACE", float("inf"))
