"""The Fibonacci example prints what its text says, run as a reader runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "fibonacci.py"


@pytest.fixture(scope="module")
def printed() -> str:
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


@pytest.mark.parametrize(
    ("n", "value", "naive", "dictionary", "memo"),
    [
        (6, 8, "25", 11, 7),
        (10, 55, "177", 19, 11),
        (30, 832040, "2,692,537", 59, 31),
        (50, 12586269025, "not run: 40,730,022,147", 99, 51),
    ],
)
def test_a_row_has_the_number_and_the_calls_of_each_way(printed, n, value, naive, dictionary, memo):
    assert re.search(rf"^ +{n} +{value} +{naive} +{dictionary} +{memo}$", printed, re.MULTILINE)


def test_the_number_that_plain_recursion_does_not_reach_is_there(printed):
    assert "fibonacci(100_000) has 20,899 digits" in printed
