"""bench/rows.py, in its smoke run."""

from __future__ import annotations

from tests.bench.scripts import asked, written


def test_the_smoke_run_has_every_line_and_says_what_was_asked_for(tmp_path):
    printed, result = written("rows.py", tmp_path / "figures.json")
    figures = {name: figure["lines"] for name, figure in result["figures"].items()}
    assert {name: len(lines) for name, lines in figures.items()} == {
        "share": 9,
        "nothing": 6,
        "recall": 6,
        "mutations": 17,
    }
    for name, what in {"share": "of the ideal", "nothing": "ours over plain", "recall": "ours over both"}.items():
        assert all(asked(line) == {what} for line in figures[name])
    assert "the numbers mean nothing" in printed


def test_nothing_that_changes_gives_a_wrong_result(tmp_path):
    _, result = written("rows.py", tmp_path / "figures.json", "--only", "mutations")
    lines = result["figures"]["mutations"]["lines"]
    assert all(line["wrong"]["value"] == 0 for line in lines)
    assert sum(line["rows known"]["value"] for line in lines) > 1000
