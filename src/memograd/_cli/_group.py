"""The command itself, to which the others belong; and how it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

import memograd

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., None]


INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True})
@click.version_option(memograd.__version__, message="memograd %(version)s")
def cli() -> None:
    """memograd: nothing is computed twice.

    `demo` shows what that means. The other commands look into a store, a directory or a server, and tidy it up: `stats`
    and `ls` show what it holds, `show` and `explain` one entry, `check` looks for damage; `prune`, `clear` and `pin`
    decide what stays.
    """
