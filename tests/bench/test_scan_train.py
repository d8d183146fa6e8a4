"""The benchmark runs, compares like with like, and writes what it has measured."""

from __future__ import annotations

import pytest
from tests.bench.scripts import asked, numbers, run, written

ASKED = {
    "engine": {"÷ ideal", "products ÷ shared", "products ÷ unshared"},
    "words": {"speed-up", "trie"},
    "rl": {"speed-up", "÷ bound"},
    "nothing-shared": {"speed-up"},
    "memory": {"ours ÷ plain · ratio"},
    "trie": {"trie ÷ step"},
    "dense-grad": set(),
}


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """What a quick run of everything printed, and what it wrote."""
    return written("scan_train.py", tmp_path_factory.mktemp("bench") / "figures.json", "--device", "cpu")


@pytest.mark.slow
def test_every_figure_has_lines_and_says_whether_what_was_asked_for_is_met(quick):
    _, result = quick
    assert list(result["figures"]) == list(ASKED)
    for name, figure in result["figures"].items():
        for line in figure["lines"]:
            assert asked(line) == ASKED[name]


@pytest.mark.slow
def test_every_number_is_finite_and_none_is_negative(quick):
    _, result = quick
    lines = [line for figure in result["figures"].values() for line in figure["lines"]]
    values = [cell["value"] for line in lines for cell in numbers(line).values()]
    assert len(values) > 100
    assert all(0 <= value < float("inf") for value in values)


@pytest.mark.slow
def test_the_shapes_that_were_asked_about_are_there(quick):
    """Ratios of the synthetic tries are those asked for, and a speed-up is the ratio of the times beside it."""
    _, result = quick
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
    printed, result = quick
    assert result["machine"]["omp_wait_policy"] == "passive"
    assert f"torch {result['machine']['torch']}" in printed
    for figure in result["figures"].values():
        assert figure["title"] in printed


@pytest.mark.slow
def test_an_unknown_figure_is_refused_with_those_that_there_are():
    done = run("scan_train.py", "--only", "speed")
    assert done.returncode == 2
    assert "nothing-shared" in done.stderr
