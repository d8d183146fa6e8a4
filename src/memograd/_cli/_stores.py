"""The store that a command is about: where it is, whether it is there, and what its failure means."""

from __future__ import annotations

import os
import re
import sys
import warnings
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memograd._cli._group import INTERRUPTED
from memograd._errors import MemogradWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from memograd.store import Info, Store
    from memograd.store._datasets import Folder

    Command = Callable[..., None]


def guarded(command: Command) -> Command:
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


def by_index(store: Store) -> list[Folder]:
    """List the rows of datasets that are beside a store's entries."""
    from memograd.store._datasets import folders, root_of

    root = root_of(store)
    return [] if root is None else folders(root[0])


def arrays(rows: Sequence[Folder]) -> str:
    """Count the rows of datasets in words."""
    from memograd.store._units import show_bytes

    names = sorted({folder.dataset if folder.dataset.isprintable() else repr(folder.dataset) for folder in rows})
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")
    states = f"{len(rows):,} {'state' if len(rows) == 1 else 'states'} of a model"
    return f"rows by index of {shown}: {states}, {show_bytes(sum(folder.nbytes for folder in rows))}"


def output() -> Any:
    """Give the terminal, or a page that is wide enough where there is none."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 160
    return console
