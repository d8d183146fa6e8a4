"""The command line: `memograd demo`, and what there is to see and to do in a store."""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import memograd
from memograd._demo import missing
from memograd._errors import MemogradWarning
from memograd.store._fields import ALIASES, SORTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from memograd._report._filter import Test
    from memograd.store import Info, Store

    Demo = Callable[..., None]

LISTED = 104_334
INTERRUPTED = 130
EXAMPLES = """\b
Try:
  memograd demo --sorted                       neighbours in the list share more
  memograd demo --batch 16384                  so do larger batches
  memograd demo --words 104334 --epochs 1      every word once
  memograd demo --hidden 64 --batch 4096       done sooner
  memograd demo --json | python -m json.tool   the figures, for programs

Ctrl-C ends the training early and shows what there is.
"""
STORES = """\b
Stores:
  A store is a directory, redis://host:6379/0 or rediss://…; without --store it is
  MEMOGRAD_STORE, or else the directory that `memograd dir` prints.
"""
FILTERS = f"""\b
Filters:
  size>1MB and function~embed             larger than 1 MB, of functions whose name has "embed"
  not (used<7d or pinned)                 not read for a week
  seconds<10ms and hits=0                 cheap, and never read
  tags=draft or text~"lr=0.1"             by your tags, or by how the call looks

\b
  fields     size seconds saved hits (numbers), created used (how long ago), function tags text, pinned
             also: seconds_saved for saved, tag for tags
  operators  > < >= <= = != and, for text, ~ (contains); and or not ( )
  units      KB MB GB KiB MiB GiB; ms s m h d w

{STORES}"""


def whole(at_least: int, at_most: int) -> Callable[[click.Context, click.Parameter, str], int]:
    """Read a whole number within bounds, written as 8192, 8_192 or 8,192."""

    def read(ctx: click.Context, param: click.Parameter, value: str) -> int:
        digits = value.replace(",", "")
        number = int(digits) if re.fullmatch(r"\d+(_\d+)*", digits, re.ASCII) else at_least - 1
        if not at_least <= number <= at_most:
            said = f"got {value!r}, expected a whole number from {at_least:,} to {at_most:,}"
            raise click.BadParameter(f"{said}; for example {param.opts[0]} {param.default}", ctx, param)
        return number

    return read


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


def number(name: str, default: int, at_least: int, at_most: int, text: str) -> Callable[[Demo], Demo]:
    """Declare an option that takes a whole number."""
    return click.option(name, metavar="NUMBER", default=str(default), callback=whole(at_least, at_most), help=text)


def chosen_by(ctx: click.Context, param: click.Parameter, value: str | None) -> Test | None:
    """Read a filter."""
    from memograd._report._filter import FilterError, parse

    try:
        return None if value is None else parse(value)
    except FilterError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def sized(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Read a size."""
    from memograd.store._units import parse_bytes

    try:
        return None if value is None else parse_bytes(value, at_least=0)
    except ValueError:
        said = f"got {value!r}, expected bytes as a number or with a unit; for example {param.opts[0]} 2GiB"
        raise click.BadParameter(said, ctx, param) from None


SORT = (*SORTS, *(alias for alias, word in ALIASES.items() if word in SORTS))
STORE = click.option("--store", "spec", metavar="STORE", envvar="MEMOGRAD_STORE", help="A directory or an address.")
FILTER = click.option("--filter", "test", metavar="FILTER", callback=chosen_by, help="Which entries; see below.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print data, for programs.")
YES = click.option("--yes", is_flag=True, help="Do not ask.")


def guarded(command: Demo) -> Demo:
    """Let a store that fails, or Ctrl-C, end a command with a line and a status, not with a traceback.

    A program computes what its store does not have, and is warned; here the store is all there is, so that fails.
    """

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", MemogradWarning)
                command(*args, **kwargs)
        except (KeyboardInterrupt, click.Abort):
            sys.exit(INTERRUPTED)
        except MemogradWarning as warning:
            raise click.ClickException(str(warning)) from None
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as error:  # noqa: BLE001 - a store raises what its library raises
            raise click.ClickException(f"{type(error).__name__}: {error}") from None

    return run


def opened(spec: str | None, *, readonly: bool) -> Store:
    """Open a store that is there; one that is not is empty, and no command makes it."""
    from memograd.store import Null
    from memograd.store._open import open_store

    return open_store(spec, readonly=readonly) if there(spec) else Null()


def there(spec: str | None, *signs: str) -> bool:
    """Tell whether a store is there, or whether its directory has one of these; say so if not."""
    where = place(spec)
    if "://" in where:
        return True
    path = directory(spec)
    if path.exists() and not path.is_dir():
        raise click.ClickException(f"got {where}, a file, expected a directory or an address")
    if any((path / sign).exists() for sign in ("index.sqlite", *signs)):
        return True
    if (path / "array.json").exists():
        raise click.ClickException(f"{where} is an Array; it has no facts, so there is nothing to list or to choose by")
    click.echo(f"nothing is stored at {where}", err=True)
    return False


def place(spec: str | None) -> str:
    """Say where a store is, without opening it and without its password."""
    from memograd.store._open import hidden, named

    return str(directory(None)) if spec is None else hidden(named(spec))


def directory(spec: str | None) -> Path:
    """Give the directory of a store that has no address."""
    from memograd.store._disk import default_directory

    return default_directory() if spec is None else Path(spec).expanduser()


def one(store: Store, key: str) -> Info:
    """Find the one entry whose key begins so."""
    from memograd._report._select import matching

    found = matching(store, key) if re.fullmatch(r"(0x)?[0-9a-fA-F]+", key) else []
    if len(found) == 1:
        return found[0]
    if not found:
        raise click.ClickException(f"got {key!r}, expected the beginning of a key; `memograd ls` shows them")
    keys = ", ".join(info.key.hex()[:16] for info in found)
    raise click.ClickException(f"got {key!r}, with which {len(found)} or more keys begin: {keys}; write more of it")


def output() -> Any:
    """Give the terminal, or a page that is wide enough where there is none."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 160
    return console


def delete(store: Store, infos: list[Info], *, yes: bool) -> None:
    """Say what would go, ask, and delete it."""
    from memograd._report._select import names
    from memograd.store._units import show_bytes, show_seconds

    if not infos:
        click.echo("nothing to delete")
        return
    nbytes, seconds = sum(info.nbytes for info in infos), sum(info.about.seconds for info in infos)
    entries = f"{len(infos):,} {'entry' if len(infos) == 1 else 'entries'}"
    click.echo(f"{entries}, {show_bytes(nbytes)}, of {names(infos)}; to compute them took {show_seconds(seconds)}")
    if yes or agreed():
        gone = store.delete_many([info.key for info in infos])
        click.echo(f"deleted {gone:,}")
    else:
        click.echo("nothing was deleted")
        sys.exit(1)


def agreed() -> bool:
    """Ask; without a terminal, nobody agrees."""
    try:
        return click.confirm("Delete them?")
    except click.Abort:
        click.echo("\nno answer; write --yes to delete without being asked", err=True)
        return False


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True})
@click.version_option(memograd.__version__, message="memograd %(version)s")
def cli() -> None:
    """memograd: nothing is computed twice.

    `demo` shows what that means. The other commands look into a store, a directory or a server, and tidy it up: `stats`
    and `ls` show what it holds, `show` and `explain` one entry, `check` looks for damage; `prune`, `clear` and `pin`
    decide what stays.
    """


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


@cli.command("dir", epilog=STORES)
@STORE
@guarded
def dir_(spec: str | None) -> None:
    """Print where the store is."""
    click.echo(place(spec))


@cli.command(epilog=FILTERS)
@STORE
@FILTER
@JSON
@guarded
def stats(spec: str | None, test: Test | None, as_json: bool) -> None:
    """Show what a store holds, by function, and what it has saved."""
    from memograd._report._select import chosen, totals

    with opened(spec, readonly=True) as store:
        whole, functions = totals(chosen(store, test))
    names = ("entries", "size", "hits", "seconds", "saved")
    if as_json:
        by_function = {name: {each: getattr(total, each) for each in names} for name, total in functions.items()}
        data = {"store": place(spec), **{each: getattr(whole, each) for each in names}, "functions": by_function}
        click.echo(json.dumps(data))
        return
    from memograd._report import _tables

    entries, size, hits, took, saved = _tables.counted(whole)
    click.echo(f"{place(spec)}: {entries} entries, {size}; {hits} hits have saved {saved}; to compute them took {took}")
    if functions:
        output().print(_tables.functions(functions))


@cli.command(epilog=FILTERS)
@STORE
@FILTER
@click.option(
    "--sort", default="used", metavar="FIELD", type=click.Choice(SORT), help=f"The greatest first: {', '.join(SORTS)}."
)
@number("--limit", 20, 0, 10**9, "At most so many; 0 for all.")
@JSON
@guarded
def ls(spec: str | None, test: Test | None, sort: str, limit: int, as_json: bool) -> None:
    """List entries."""
    from memograd._report import _select

    with opened(spec, readonly=True) as store:
        infos = list(_select.chosen(store, test, sort, limit or None))
    if as_json:
        click.echo(json.dumps([_select.as_data(info) for info in infos]))
    elif infos:
        from memograd._report import _tables

        output().print(_tables.entries(infos))


@cli.command(epilog=STORES)
@click.argument("key")
@STORE
@JSON
@guarded
def show(key: str, spec: str | None, as_json: bool) -> None:
    """Show an entry, by the beginning of its KEY: what is known of it, and what its body holds.

    The body is read as data: kinds, sizes and names. No value is made, and no code is run.
    """
    from memograd._report import _select
    from memograd._report._body import body_of

    with opened(spec, readonly=True) as store:
        info = one(store, key)
        entry = store.get(info.key)
        if entry is None:
            raise click.ClickException(f"{info.key.hex()} is damaged, or has just gone; `memograd check` looks")
        body = body_of(entry)
    if as_json:
        tensors, parts = ([each._asdict() for each in some] for some in (body.tensors, body.parts))
        described = {"format": body.format, "tensors": tensors, "parts": parts, "begin": body.begin.hex()}
        click.echo(json.dumps({**_select.as_data(info), "body": described}))
        return
    from memograd._report import _tables

    console = output()
    console.print(_tables.facts(info))
    console.print(f"\n{body.format}:")
    console.print(_tables.holds(body))


@cli.command(epilog=STORES)
@click.argument("key")
@STORE
@number("--limit", 3, 1, 1000, "At most so many neighbours.")
@JSON
@guarded
def explain(key: str, spec: str | None, limit: int, as_json: bool) -> None:
    """Show how the calls nearest to one differ from it, by the beginning of its KEY: why it was not a hit."""
    from memograd._report import _select

    with opened(spec, readonly=True) as store:
        info = one(store, key)
        found = _select.nearest(store, info, limit)
    if as_json:
        nearest = [{"key": other.key.hex(), "text": other.about.text, "differ": differ} for other, differ in found]
        click.echo(json.dumps({**_select.as_data(info), "nearest": nearest}))
        return
    from memograd._report import _tables

    console = output()
    console.print(_tables.plain(info.about.text or info.key.hex()), style="bold")
    if not found:
        console.print("no other call of this function is in the store")
    for other, differ in found:
        console.print(_tables.plain(f"\n{other.key.hex()[: _tables.SHORT]}  {other.about.text}".lstrip()))
        console.print(_tables.compared(differ) if differ else "no part of the keys that was noted differs")


@cli.command(epilog=STORES)
@STORE
@click.option("--fix", is_flag=True, help="Remove what is damaged; it is computed again when it is asked for.")
@guarded
def check(spec: str | None, fix: bool) -> None:
    """Read every entry and look for damage. The exit status is 1 where there is some and it was not fixed."""
    if not there(spec, "files"):
        return
    if "://" in place(spec):
        with opened(spec, readonly=not fix) as store:
            sound, said = read_all(store, fix=fix)
    else:
        from memograd.store._check import check as look

        report = look(directory(spec), fix=fix)
        sound, said = report.sound, str(report)
    click.echo(said)
    if not (sound or fix):
        sys.exit(1)


def read_all(store: Store, *, fix: bool) -> tuple[bool, str]:
    """Read every entry of a store; tell whether all are sound, in words too."""
    keys = [info.key for info in store.infos()]
    damaged = [key for key in keys if store.get(key) is None and any(info.key == key for info in store.infos())]
    if fix:
        store.delete_many(damaged)
    done = "; removed" if fix and damaged else ""
    return not damaged, f"{len(keys):,} entries were read, {len(damaged):,} are damaged{done}"


@cli.command(epilog=FILTERS)
@STORE
@FILTER
@click.option("--to", "room", metavar="SIZE", callback=sized, help="Down to so many bytes, such as 2GiB.")
@click.option("--pinned", is_flag=True, help="Entries that are pinned, too.")
@YES
@guarded
def prune(spec: str | None, test: Test | None, room: int | None, pinned: bool, yes: bool) -> None:
    """Delete entries that a filter chooses, or those that save the least seconds per byte until a size is reached.

    It says what would go, and asks.
    """
    from memograd._report._select import chosen, least_worth

    if (test is None) == (room is None):
        raise click.UsageError("expected one of --filter and --to; for example --filter 'used>30d' or --to 2GiB")
    with opened(spec, readonly=False) as store:
        infos = least_worth(store, room) if room is not None else list(chosen(store, test))
        delete(store, [info for info in infos if pinned or not info.about.pinned], yes=yes)


@cli.command(epilog=STORES)
@STORE
@YES
@guarded
def clear(spec: str | None, yes: bool) -> None:
    """Delete everything. It says what would go, and asks."""
    with opened(spec, readonly=False) as store:
        delete(store, list(store.infos()), yes=yes)


@cli.command(epilog=FILTERS)
@click.argument("keys", nargs=-1)
@STORE
@FILTER
@click.option("--undo", is_flag=True, help="Let them be evicted again.")
@guarded
def pin(keys: tuple[str, ...], spec: str | None, test: Test | None, undo: bool) -> None:
    """Keep entries from being evicted: by the beginnings of their KEYS, or by a filter."""
    from memograd._report._select import chosen

    if bool(keys) == (test is not None):
        raise click.UsageError("expected keys, or --filter; for example --filter 'tag=paper'")
    with opened(spec, readonly=False) as store:
        infos = [one(store, key) for key in keys] if keys else list(chosen(store, test))
        done = sum(store.pin(info.key, pinned=not undo) for info in infos)
    click.echo(f"{'unpinned' if undo else 'pinned'} {done:,}")
