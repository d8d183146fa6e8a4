"""A bar for what takes long: how far it is, and how long it will take. Needs rich, and a terminal."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_WAIT = 2.0  # seconds before a bar shows, unless it was asked for


@contextmanager
def progress(title: str, steps: int, asked: bool | None) -> Generator[Callable[[int], object]]:
    """Give a function that is told of steps that are done.

    Args:
        title: what is done.
        steps: how many there will be.
        asked: whether to show a bar; None for one on a terminal, if it takes longer than two seconds.
    """
    if asked is False or (asked is None and not sys.stderr.isatty()):
        yield int
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        yield int
        return
    columns = TextColumn(title), BarColumn(), MofNCompleteColumn(), TextColumn("steps, left"), TimeRemainingColumn()
    bar = Progress(*columns, console=Console(stderr=True), transient=asked is None)
    task, begun = bar.add_task(title, total=steps), time.monotonic()

    def tick(done: int) -> None:
        bar.advance(task, done)
        if not bar.live.is_started and (asked or time.monotonic() - begun > _WAIT):
            bar.start()

    try:
        yield tick
    finally:
        bar.stop()
