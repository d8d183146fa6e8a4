"""What `memograd demo` shows: two programs, each run as people write it and memoized, side by side."""

from __future__ import annotations

from importlib.util import find_spec

LIBRARIES = ("click", "rich", "matplotlib", "numpy", "torch", "threadpoolctl")


def missing() -> str | None:
    """Say which libraries of the demo are not installed and what to write; None where all are."""
    names = [name for name in LIBRARIES if find_spec(name) is None]
    return f"needs {', '.join(names)}, missing here; write: pip install {' '.join(names)}" if names else None
