"""The commands that decide what stays in a store: they say what would go, and ask."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from memograd._cli._group import cli
from memograd._cli._options import FILTER, FILTERS, STORE, STORES, YES, sized
from memograd._cli._stores import arrays, by_index, guarded, one, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from memograd._report._filter import Test
    from memograd.store import Info, Store
    from memograd.store._datasets import Folder

    Command = Callable[..., None]


def delete(store: Store, infos: list[Info], rows: Sequence[Folder] = (), *, yes: bool) -> None:
    """Say what would go, ask, and delete it."""
    from memograd._report._select import names
    from memograd.store._datasets import remove
    from memograd.store._units import show_bytes, show_seconds

    if not infos and not rows:
        click.echo("nothing to delete")
        return
    if rows:
        click.echo(arrays(rows))
    if infos:
        nbytes, seconds = sum(info.nbytes for info in infos), sum(info.about.seconds for info in infos)
        entries = f"{len(infos):,} {'entry' if len(infos) == 1 else 'entries'}"
        click.echo(f"{entries}, {show_bytes(nbytes)}, of {names(infos)}; to compute them took {show_seconds(seconds)}")
    if yes or agreed():
        for folder in rows:
            remove(folder.path)
        gone = store.delete_many([info.key for info in infos]) if infos else 0
        click.echo(f"deleted {gone + len(rows):,}")
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
    """Delete everything, rows by index too. It says what would go, and asks."""
    with opened(spec, readonly=False) as store:
        delete(store, list(store.infos()), by_index(store), yes=yes)


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
