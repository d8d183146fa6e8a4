"""`memograd`, the command; also `python -m memograd`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, or say what to install for it."""
    try:
        from memograd._cli import cli
    except ModuleNotFoundError as missing:
        if missing.name != "click":
            raise
        sys.exit("memograd: the command line needs click, which is not installed; write: pip install click")
    except KeyboardInterrupt:
        sys.exit(130)
    cli(prog_name="memograd")


if __name__ == "__main__":
    main()
