"""What the demo looks like: live bars in a terminal, plain lines elsewhere, tables at the end."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich import box
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rich.console import Console
    from rich.progress import Task
    from rich.progress_bar import ProgressBar

    from memograd._demo._fibonacci import Row
    from memograd._demo._race import Options, Tick
    from memograd._demo._summary import Epoch, Side, Summary

STYLES = {"plain": "bright_black", "memoized": "orange3"}
FIRST, LAST = 3, 12
BESIDE = 0.5  # of plain's time, for the two others


@contextmanager
def progress(console: Console, options: Options) -> Generator[Callable[[Tick], None]]:
    """Give a function that shows a tick: two live bars in a terminal, a line for every other tick elsewhere."""
    if not console.is_terminal:
        yield _Lines(console, options).show
        return
    with _bars(console) as bars:
        yield _Bars(bars, options).show


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("[{task.fields[style]}]{task.description:<9}"),
        _Bar(bar_width=28),
        TextColumn("epoch {task.fields[epoch]}"),
        TextColumn("loss [bold]{task.fields[loss]}"),
        TextColumn("{task.fields[speed]:>7} words/s"),
        TextColumn("{task.fields[seconds]:>8}"),
        console=console,
        refresh_per_second=4,
    )


class _Bar(BarColumn):
    def render(self, task: Task) -> ProgressBar:
        self.complete_style = self.finished_style = task.fields["style"]
        return super().render(task)


class _Bars:
    def __init__(self, bars: Progress, options: Options) -> None:
        self.bars = bars
        self.epochs = options.epochs
        self.seconds = dict.fromkeys(STYLES, 0.0)
        total = options.words * options.epochs
        self.tasks = {who: bars.add_task(who, total=total, **self._fields(who, None)) for who in STYLES}

    def show(self, tick: Tick) -> None:
        if tick.who not in self.tasks:
            return
        self.seconds[tick.who] += tick.seconds
        self.bars.update(self.tasks[tick.who], advance=tick.words, **self._fields(tick.who, tick))

    def _fields(self, who: str, tick: Tick | None) -> dict[str, Any]:
        return {
            "style": STYLES[who],
            "epoch": f"{tick.epoch if tick else 1}/{self.epochs}",
            "loss": f"{tick.loss:.3f}" if tick else "     ",
            "speed": f"{tick.words / tick.seconds:,.0f}" if tick else "",
            "seconds": _seconds(self.seconds[who]),
        }


class _Lines:
    def __init__(self, console: Console, options: Options) -> None:
        self.console = console
        self.epochs = options.epochs
        self.waiting: dict[str, Tick] = {}

    def show(self, tick: Tick) -> None:
        self.waiting[tick.who] = tick
        if self.waiting.keys() >= STYLES.keys():
            said = "   ".join(_said(self.waiting.pop(who)) for who in STYLES)
            self.console.print(f"epoch {tick.epoch}/{self.epochs}   {said}", highlight=False)


def _said(tick: Tick) -> str:
    return f"{tick.who} loss {tick.loss:.3f} {tick.words / tick.seconds:>7,.0f} words/s"


def _seconds(seconds: float) -> str:
    if seconds < 1:
        return f"{1e3 * seconds:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 100 else f"{seconds:.0f} s"


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def losses(summary: Summary) -> Table:
    """Make the table of losses by epoch; an epoch that was cut short says how far it came."""
    table = _table("epoch", "plain", "memoized", "largest difference of a batch")
    whole = summary.epochs[0].batches
    for row in summary.epochs:
        if row.epoch == FIRST + 1 and len(summary.epochs) > FIRST + LAST:
            table.add_row("...", "", "", "")
        if row.epoch <= FIRST or row.epoch > len(summary.epochs) - LAST:
            table.add_row(*_loss_cells(row, whole))
    return table


def _loss_cells(row: Epoch, whole: int) -> tuple[str, ...]:
    cut = "" if row.batches == whole else f" (cut short: {row.batches} of {whole} batches)"
    losses = f"{row.plain_loss:.4f}", f"{row.memoized_loss:.4f}"
    return (f"{row.epoch}{cut}", *losses, f"{row.largest_difference:.1e}")


def costs(summary: Summary, layout: str) -> Table:
    """Make the table of what it costs, side by side."""
    columns = [(f"plain, {layout}", _column(summary, summary.plain, 1.0))]
    if summary.unshared and summary.engine:
        columns.append(("engine, unshared", _column(summary, summary.unshared, summary.engine)))
    columns.append(("memoized", _column(summary, summary.memoized, summary.speed_up)))
    table = _table("", *(name for name, _ in columns))
    for row in zip(LINES, *(cells for _, cells in columns), strict=True):
        table.add_row(*row)
    return table


LINES = (
    "sequence steps in the data",
    "steps computed",
    "time per training step",
    "words per second",
    "speed-up",
)


def _column(summary: Summary, side: Side, speed_up: float) -> tuple[str, ...]:
    return (
        f"{summary.steps:,}",
        f"{summary.steps * side.computed / side.steps:,.0f}",
        _seconds(side.step_seconds),
        f"{side.words_per_second:,.0f}",
        f"{speed_up:.2f}x",
    )


def verdict(summary: Summary) -> str:
    """Say where the speed-up comes from."""
    ideal = f"{summary.ideal:.2f}x = steps in the data / distinct prefixes"
    if summary.engine is None or summary.sharing is None:
        return f"[bold orange3]{in_words(summary.speed_up)}[/]; the ideal of sharing alone is {ideal}"
    return (
        f"[bold orange3]{in_words(summary.speed_up)}[/]\n"
        f"  = [bold]{summary.sharing:.2f}x sharing[/], each prefix once; the ideal is {ideal}\n"
        f"  x [bold]{summary.engine:.2f}x engine[/], how steps are run, nothing shared"
    )


def in_words(speed_up: float) -> str:
    """Say a ratio of times.

    Example:
        >>> in_words(7.04), in_words(0.98), in_words(0.5)
        ('7.0 times as fast', 'just as fast', '2.0 times slower')
    """
    if 0.95 < speed_up < 1.05:
        return "just as fast"
    return f"{speed_up:.1f} times as fast" if speed_up > 1 else f"{1 / speed_up:.1f} times slower"


def choice(layouts: dict[str, float], layout: str, steps: int) -> str:
    """Say which layout plain PyTorch runs in, and about how long it all will take."""
    times = ", ".join(f"{_seconds(seconds)} {name}" for name, seconds in layouts.items())
    minutes = layouts[layout] * steps * (1 + BESIDE) / 60
    about = f"about {minutes:.0f} min; Ctrl-C shows what there is by then" if minutes > 1 else "a minute at most"
    return f"a training step of plain nn.LSTM takes {times}: [bold]{layout}[/] it is ({about})"


def fibonacci(rows: list[Row]) -> Table:
    """Make the table of calls."""
    table = _table("n", "F(n)", "naive calls", "dictionary", "@memo")
    for row in rows:
        table.add_row(f"{row.n}", f"{row.value:,}", row.naive_calls, f"{row.dictionary:,}", f"{row.memo:,}")
    return table
