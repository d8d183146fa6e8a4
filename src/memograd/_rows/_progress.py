"""How far a long fill has come: a bar of rich where that is installed and somebody looks at it."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self


class Bar:
    """A bar on standard error.

    Args:
        name: of what is filled.
        total: how many samples; None where nobody knows.
        shown: whether to show it; None where standard error is a terminal.
    """

    def __init__(self, name: str, total: int | None, *, shown: bool | None) -> None:
        self._stack = ExitStack()
        self._name, self._total = name, total
        self._shown = sys.stderr.isatty() if shown is None else shown
        self._advance: Callable[[int], None] = lambda _: None

    def __enter__(self) -> Self:
        if self._shown:
            self._advance = self._by_rich() or _Lines(self._name, self._total).advance
        return self

    def advance(self, samples: int) -> None:
        """Tell of samples that are done."""
        self._advance(samples)

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def _by_rich(self) -> Callable[[int], None] | None:
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        except ImportError:
            return None
        columns: Any = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        bar = self._stack.enter_context(Progress(*columns, console=Console(stderr=True)))
        task = bar.add_task(self._name, total=self._total)
        return lambda samples: bar.advance(task, samples)


class _Lines:
    """A line at each tenth, where there is no rich."""

    def __init__(self, name: str, total: int | None) -> None:
        self._name, self._total, self._done, self._said = name, total, 0, 0

    def advance(self, samples: int) -> None:
        self._done += samples
        tenth = 10 * self._done // self._total if self._total else 0
        if tenth > self._said:
            self._said = tenth
            sys.stderr.write(f"{self._name}: {self._done:,} of {self._total:,}\n")
