"""The attacks of the tests, to be made more often here than a test has time for."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any


def attack(name: str) -> Any:
    """Give a module of `tests/attacks`. Raises `ImportError` where what tests need is not installed."""
    root = str(Path(__file__).parents[2])
    if root not in sys.path:
        sys.path.append(root)
    return import_module(f"tests.attacks.{name}")
