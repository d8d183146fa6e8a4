"""The benchmark of calls runs, and writes what was asked for beside what it has measured."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from tests.bench.scripts import asked, numbers, written

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
    _, result = written("call.py", tmp_path / "figures.json", "--only", name)
    lines = result["figures"][name]["lines"]
    assert lines
    for line in lines:
        assert numbers(line)
        assert all(0 <= cell["value"] < float("inf") for cell in numbers(line).values())
        assert asked(line) == ASKED[name]


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
