"""The benchmark runs, compares like with like, and writes what it has measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
ASKED = {
    "engine": {"÷ ideal", "products ÷ shared", "products ÷ unshared"},
    "words": {"speed-up", "trie"},
    "rl": {"speed-up", "÷ bound"},
    "nothing-shared": {"speed-up"},
    "memory": {"ours ÷ plain · ratio"},
    "trie": {"trie ÷ step"},
    "dense-grad": set(),
}


def run(*arguments):
    command = [sys.executable, str(BENCH / "scan_train.py"), "--quick", "--device", "cpu", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """What a quick run of everything printed, and what it wrote."""
    file = tmp_path_factory.mktemp("bench") / "figures.json"
    done = run("--json", str(file))
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(file.read_text("utf-8"))


@pytest.mark.slow
def test_every_figure_has_lines_and_says_whether_what_was_asked_for_is_met(quick):
    _, (result,) = quick
    assert list(result["figures"]) == list(ASKED)
    for name, figure in result["figures"].items():
        for line in figure["lines"]:
            asked = {column for column, cell in line.items() if isinstance(cell, dict) and "asked" in cell}
            assert asked == ASKED[name]
            assert all(isinstance(line[column]["met"], bool) for column in asked)


@pytest.mark.slow
def test_every_number_is_finite_and_none_is_negative(quick):
    _, (result,) = quick
    cells = [cell for figure in result["figures"].values() for line in figure["lines"] for cell in line.values()]
    numbers = [cell["value"] for cell in cells if isinstance(cell, dict)]
    assert len(numbers) > 100
    assert all(0 <= number < float("inf") for number in numbers)


@pytest.mark.slow
def test_the_shapes_that_were_asked_about_are_there(quick):
    """Ratios of the synthetic tries are those asked for, and a speed-up is the ratio of the times beside it."""
    _, (result,) = quick
    lines = result["figures"]["engine"]["lines"]
    assert {line["cell"] for line in lines} == {"LSTM", "GRU"}
    ideals = [line["ideal"]["value"] for line in lines]
    assert ideals == pytest.approx([1.5, 2, 4, 8] * 2, rel=0.06)
    for line in lines:
        ratio = line["unshared"]["value"] / line["shared"]["value"]
        assert line["speed-up"]["value"] == pytest.approx(ratio)
        assert line["÷ ideal"]["value"] == pytest.approx(ratio / line["ideal"]["value"])


@pytest.mark.slow
def test_the_tables_show_the_machine_and_every_figure(quick):
    printed, (result,) = quick
    assert result["machine"]["omp_wait_policy"] == "passive"
    assert f"torch {result['machine']['torch']}" in printed
    for figure in result["figures"].values():
        assert figure["title"] in printed


@pytest.mark.slow
def test_an_unknown_figure_is_refused_with_those_that_there_are():
    done = run("--only", "speed")
    assert done.returncode == 2
    assert "nothing-shared" in done.stderr
