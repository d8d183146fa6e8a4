"""The benchmark of stores runs, and writes what was asked for beside what it has measured."""

from __future__ import annotations

import pytest
from tests.bench.scripts import asked, numbers, written

PEERS = {"diskcache ÷ ours", "joblib ÷ ours"}
ASKED = {
    "load": [{"safetensors ÷ it"}, {"safetensors ÷ it"}, set(), set(), set(), {"it ÷ memo"}],
    "save": [{"safetensors ÷ put without hashing"}],
    "small": [{"diskcache ÷ ours", "SQLite ÷ ours"}] * 2 + [PEERS] * 6,
    "memory-hit": [{"a hit"}],
    "single-flight": [{"computed again", "of these by nobody's death", "wrong values"}] * 3,
    "kills": [{"wrong values", "failed or complained", "not repaired"}],
    "bits": [{"wrong values", "exceptions"}] * 3,
    "million": [{"1,000 entries"}, *[{"many ÷ few"}] * 4],
}
# What was asked for and is no matter of time holds at any size.
SAFE = {"wrong values", "failed or complained", "not repaired", "exceptions", "of these by nobody's death"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ASKED)
def test_a_figure_has_finite_numbers_and_says_whether_what_was_asked_for_is_met(name, tmp_path):
    _, result = written("store.py", tmp_path / "figures.json", "--only", name)
    lines = result["figures"][name]["lines"]
    assert [asked(line) for line in lines] == ASKED[name]
    for line in lines:
        assert numbers(line)
        assert all(0 <= cell["value"] < float("inf") for cell in numbers(line).values())
        assert all(line[column]["met"] for column in SAFE & line.keys())
