"""The command line: `memograd demo`, and what there is to see and to do in a store."""

from memograd._cli import _demo, _look, _tidy
from memograd._cli._group import cli

__all__ = ["cli"]

# Each adds its commands when it is imported.
_COMMANDS = (_demo, _look, _tidy)
