"""The demo from its first line to its last; an interrupt ends the training, not the story."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from memograd._demo import _fibonacci, _show
from memograd._demo._plot import plot
from memograd._demo._race import Options, Race, Tick
from memograd._demo._summary import Summary, summarize
from memograd._demo._words import word_list

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console


@dataclass(slots=True)
class Report:
    """What has happened so far."""

    options: Options
    fibonacci: list[_fibonacci.Row] = field(default_factory=list[_fibonacci.Row])
    layouts: dict[str, float] = field(default_factory=dict[str, float])
    ticks: list[Tick] = field(default_factory=list[Tick])
    plot: str | None = None
    interrupted: bool = False

    @property
    def layout(self) -> str:
        """The plain layout that was faster here, which is the one that the memoized program is compared with."""
        return min(self.layouts, key=lambda name: self.layouts[name])

    @property
    def summary(self) -> Summary | None:
        """The figures of the training so far."""
        return summarize(self.ticks)


def play(options: Options, console: Console, picture: Path) -> Report:
    """Show all of it on the console, save the picture, and return what happened."""
    report = Report(options)
    try:
        _count_calls(report, console)
        _train(report, console)
    except KeyboardInterrupt:
        report.interrupted = True
    _conclude(report, console, picture)
    return report


def _count_calls(report: Report, console: Console) -> None:
    console.print("\n[bold]1. Fibonacci: each number once[/]\n", highlight=False)
    report.fibonacci = _fibonacci.table()
    console.print(_show.fibonacci(report.fibonacci))


def _train(report: Report, console: Console) -> None:
    console.print("\n[bold]2. A character language model: each prefix once[/]\n", highlight=False)
    race = Race(report.options)
    console.print(_setting(race), highlight=False)
    with console.status("how fast is plain nn.LSTM, packed and padded?"):
        report.layouts = race.layouts()
    console.print(_show.choice(report.layouts, report.layout, race.steps) + "\n", highlight=False)
    with _show.progress(console, report.options) as show:
        for tick in race.run(report.layout):
            report.ticks.append(tick)
            show(tick)


def _setting(race: Race) -> str:
    options, device = race.options, race.device.type
    where = torch.cuda.get_device_name() if device == "cuda" else f"CPU, threads: {torch.get_num_threads()}"
    return (
        f"{options.words:,} of {len(word_list()):,} English words, {options.epochs} epoch"
        f"{'s' * (options.epochs != 1)}, {options.order} batches of "
        f"{options.batch:,}\nLSTM with {options.hidden} units; {where}; seed {options.seed}"
    )


def _conclude(report: Report, console: Console, picture: Path) -> None:
    summary = report.summary
    if report.interrupted:
        console.print("\n[bold]Interrupted.[/] " + ("What there is:" if summary else "Nothing was trained yet."))
    if summary is not None:
        _show_figures(report, summary, console)
        title = f"Same losses, {_show.in_words(summary.speed_up)}"
        plot(report.ticks, title, _subtitle(report.options, report.layout), picture)
        report.plot = str(picture.resolve())
        console.print(f"\nloss against time: {report.plot}", highlight=False, soft_wrap=True)


def _show_figures(report: Report, summary: Summary, console: Console) -> None:
    for shown in (_show.losses(summary), _show.costs(summary, report.layout), _show.verdict(summary)):
        console.print()
        console.print(shown, highlight=False)


def _subtitle(options: Options, layout: str) -> str:
    size = min(options.batch, options.words)
    return (
        f"{options.hidden} LSTM units on English words, {options.order} batches of {size:,}; plain: nn.LSTM, {layout}"
    )


def as_json(report: Report) -> dict[str, Any]:
    """Give the report as plain data: what `--json` prints."""
    summary = report.summary
    figures = None if summary is None else {**asdict(summary), "engine": summary.engine}
    return {
        "interrupted": report.interrupted,
        "options": asdict(report.options),
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "fibonacci": [asdict(row) for row in report.fibonacci],
        "layouts": report.layouts,
        "model": figures,
        "plot": report.plot,
    }
