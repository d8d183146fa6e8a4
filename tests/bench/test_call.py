"""The benchmark of calls runs, and writes what was asked for beside what it has measured."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
ASKED = {
    "hit": {"memo ÷ lru"},
    "tensors": ({"memo ÷ bare"} if find_spec("xxhash") else set())
    | ({"joblib ÷ memo"} if find_spec("joblib") else set()),
    "weights": set(),
    "never": {"overhead later"},
    "thrice": {"memo ÷ 1 use"},
    "resident": {"grown by"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ASKED)
def test_a_figure_has_finite_numbers_and_says_whether_what_was_asked_for_is_met(name, tmp_path):
    file = tmp_path / "figures.json"
    command = [sys.executable, str(BENCH / "call.py"), "--quick", "--only", name, "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(file.read_text("utf-8"))
    lines = result["figures"][name]["lines"]
    assert lines
    for line in lines:
        numbers = {column: cell for column, cell in line.items() if isinstance(cell, dict)}
        assert numbers
        assert all(0 <= cell["value"] < float("inf") for cell in numbers.values())
        assert {column for column, cell in numbers.items() if "met" in cell} == ASKED[name]


@pytest.fixture
def bench_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in ("harness", "figures")]:
        del sys.modules[name]


def test_a_function_that_does_not_remember_is_not_timed(bench_importable):
    from harness.calls import remembered

    from memograd import Memo

    def fresh() -> object:
        return iter(())

    assert remembered(Memo()(len), "abc")("abc") == 3
    with pytest.warns(match="not remembered"), pytest.raises(AssertionError, match=r"fresh\(\) is not remembered"):
        remembered(Memo()(fresh))


def test_a_run_of_many_makes_that_many_calls(bench_importable):
    from harness.calls import many

    made = []
    many(made.append, (7,), 5)()
    assert made == [7] * 5
