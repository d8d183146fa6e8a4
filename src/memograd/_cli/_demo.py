"""`memograd demo`: its options, and how it is played."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memograd._cli._group import INTERRUPTED, cli
from memograd._cli._options import number
from memograd._demo import missing

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., None]


LISTED = 104_334


EXAMPLES = """\b
Try:
  memograd demo --sorted                       neighbours in the list share more
  memograd demo --batch 16384                  so do larger batches
  memograd demo --words 104334 --epochs 1      every word once
  memograd demo --hidden 64 --batch 4096       done sooner
  memograd demo --json | python -m json.tool   the figures, for programs

Ctrl-C ends the training early and shows what there is.
"""


def picture(ctx: click.Context, param: click.Parameter, value: str) -> Path:
    """Read a path for a PNG; refuse one that could not be written, before minutes of training rather than after."""
    path = Path(value).expanduser()
    if path.suffix.lower() != ".png":
        said = f"got {value!r}, expected a file that ends in .png; for example {param.opts[0]} loss.png"
        raise click.BadParameter(said, ctx, param)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        said = f"got {value!r}, expected a file in a folder that exists and can be written to"
        raise click.BadParameter(f"{said}; for example {param.opts[0]} ~/loss.png", ctx, param)
    return path


@cli.command(epilog=EXAMPLES)
@number("--words", 32768, 1, LISTED, "Words to train on, drawn from the list.")
@number("--batch", 8192, 1, LISTED, "Words in a batch; more share more.")
@number("--epochs", 3, 1, 100_000, "Times that each word is seen.")
@number("--hidden", 256, 1, 65_536, "Units of the LSTM.")
@number("--seed", 0, 0, 2**63 - 1, "Of the weights, the words and the batches.")
@click.option("--sampled/--sorted", default=True, help="Shuffle the words, or keep neighbours in one batch.")
@click.option("--plot", metavar="PATH", default="memograd-demo.png", callback=picture, help="Where the picture goes.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON; all else goes to stderr.")
def demo(words: int, batch: int, epochs: int, hidden: int, seed: int, sampled: bool, plot: Path, as_json: bool) -> None:
    """Run two programs as people write them, and memoized, side by side.

    The first is the Fibonacci recursion: naive, with a dictionary passed along, and with @memo. A table shows how
    many calls each needs.

    The second is a language model. It learns to predict the next character of English words with an embedding, an
    LSTM and a linear head, and it is trained twice from the same weights on the same batches: by plain PyTorch, and
    with prefixes shared. "interact", "internal" and "international" begin alike; "inter" is computed once for them
    all, forward and backward. The losses are the same. The tables show what that takes and where the speed-up comes
    from; the picture shows loss against time.

    With the defaults it takes under 3 minutes on two CPU cores. CUDA is used when there.
    """
    if said := missing():
        raise click.ClickException(f"the demo {said}")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    options = {"words": words, "hidden": hidden, "batch": batch, "epochs": epochs, "seed": seed}
    try:
        sys.exit(run({**options, "order": "sampled" if sampled else "sorted"}, plot, as_json=as_json))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def run(options: dict[str, Any], plot: Path, *, as_json: bool) -> int:
    """Play the demo and return the exit status."""
    from rich.console import Console

    from memograd._demo import _play
    from memograd._demo._race import Options

    console = Console(stderr=as_json)
    if not console.is_terminal:
        console.width = 120
    report = _play.play(Options(**options), console, plot)
    if as_json:
        click.echo(json.dumps(_play.as_json(report)))
    return INTERRUPTED if report.interrupted else 0
