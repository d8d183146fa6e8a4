"""`memograd`, the command; also `python -m memograd`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, or say what to install for it."""
    try:
        from memograd._cli import cli
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        from memograd._demo import missing

        sys.exit(f"memograd: the command line {missing()}")
    except KeyboardInterrupt:
        sys.exit(130)
    cli(prog_name="memograd")


if __name__ == "__main__":
    main()
