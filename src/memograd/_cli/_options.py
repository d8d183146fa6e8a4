"""What may be written behind a command, and how it is read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from memograd.store._fields import ALIASES, SORTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from memograd._report._filter import Test

    Command = Callable[..., None]


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


def number(name: str, default: int, at_least: int, at_most: int, text: str) -> Callable[[Command], Command]:
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
