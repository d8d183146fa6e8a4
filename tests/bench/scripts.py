"""The benchmarks' scripts, run as from a shell."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench"


def run(script, *arguments):
    """Run a script at tiny sizes."""
    command = [sys.executable, str(BENCH / script), "--quick", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


def written(script, file, *arguments):
    """Give what a script printed, and what it wrote about the only device."""
    done = run(script, *arguments, "--json", str(file))
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(file.read_text("utf-8"))
    return done.stdout, result


def numbers(line):
    return {column: cell for column, cell in line.items() if isinstance(cell, dict)}


def asked(line):
    """The columns of which something was asked, all of which say whether it is met."""
    columns = {column for column, cell in numbers(line).items() if "asked" in cell}
    assert all(isinstance(line[column]["met"], bool) for column in columns)
    return columns
