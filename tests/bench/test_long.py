"""The benchmark of long sequences runs, and writes what was asked for beside what it has measured."""

from __future__ import annotations

import pytest
from tests.bench.scripts import asked, numbers, written

ASKED = {
    "budget": {"kept", "time ÷ plain", "measured ÷ budget"},
    "adherence": {"worst: measured ÷ budget"},
    "plan": {"planning"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ASKED)
def test_a_figure_has_finite_numbers_and_says_whether_what_was_asked_for_is_met(name, tmp_path):
    _, result = written("long.py", tmp_path / "figures.json", "--only", name)
    for line in result["figures"][name]["lines"]:
        assert asked(line) == ASKED[name]
        assert numbers(line)
        assert all(0 <= cell["value"] < float("inf") for cell in numbers(line).values())
