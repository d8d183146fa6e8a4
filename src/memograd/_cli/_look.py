"""The commands that look into a store and change nothing, but for `check --fix`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from memograd._cli._group import cli
from memograd._cli._options import FILTER, FILTERS, JSON, SORT, STORE, STORES, number
from memograd._cli._stores import arrays, by_index, directory, guarded, one, opened, output, place, there
from memograd.store._fields import SORTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from memograd._report._filter import Test
    from memograd.store import Store

    Command = Callable[..., None]


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
        rows = by_index(store)
    names = ("entries", "size", "hits", "seconds", "saved")
    if as_json:
        by_function = {name: {each: getattr(total, each) for each in names} for name, total in functions.items()}
        data = {"store": place(spec), **{each: getattr(whole, each) for each in names}, "functions": by_function}
        data["arrays"] = [{"dataset": each.dataset, "size": each.nbytes, "used": each.used} for each in rows]
        click.echo(json.dumps(data))
        return
    from memograd._report import _tables

    entries, size, hits, took, saved = _tables.counted(whole)
    click.echo(f"{place(spec)}: {entries} entries, {size}; {hits} hits have saved {saved}; to compute them took {took}")
    if functions:
        output().print(_tables.functions(functions))
    if rows:
        click.echo(arrays(rows))


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
        from memograd.store._disk._check import check as look

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
