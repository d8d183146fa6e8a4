"""What all tests share: where CUDA is missing, tests marked gpu are skipped, and say so."""

from __future__ import annotations

import pytest

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
