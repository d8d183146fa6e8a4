"""Every test runs programs in modules of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.promises.never_stale.edits import forget

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _modules_of_their_own() -> Iterator[None]:
    forget()
    yield
    forget()
