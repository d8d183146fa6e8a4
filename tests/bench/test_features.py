"""bench/features.py, in its smoke run; and its mutation suite, which sees a stale row where there is one."""

from __future__ import annotations

import pytest
from tests.bench.scripts import asked, written

from memograd import Memo
from memograd._rows._subject import Wrapped


@pytest.mark.slow
def test_the_smoke_run_has_every_line_and_says_what_was_asked_for(tmp_path):
    printed, result = written("features.py", tmp_path / "figures.json")
    figures = {name: figure["lines"] for name, figure in result["figures"].items()}
    assert {name: len(lines) for name, lines in figures.items()} == {"finetune": 2, "gather": 1, "mutations": 6}
    for line in figures["finetune"]:
        assert asked(line) == {"speed-up", "ours ÷ head", "error ÷ plain's"}
        assert line["cold = warm"] == "bits"
        assert line["known"]["value"] == 100
    assert all(line["wrong"]["value"] == 0 for line in figures["mutations"])
    assert "the numbers mean nothing" in printed


@pytest.mark.parametrize("by_index", [True, False])
@pytest.mark.usefixtures("bench_importable")
def test_the_mutation_suite_sees_a_stale_row(by_index, monkeypatch, tmp_path):
    from figures.mutations import ROWS, Edit, _is_wrong

    edit = Edit("weights", lambda model: model.backbone[0].weight.neg_())
    memo = Memo(tmp_path) if by_index else Memo()
    named = {"dataset": "d", "count": ROWS} if by_index else {}
    assert not _is_wrong(edit, memo, named)
    first, key = [], Wrapped.key
    monkeypatch.setattr(Wrapped, "key", lambda *given: first.append(key(*given)) or first[0])
    assert _is_wrong(edit, Memo(tmp_path / "other") if by_index else Memo(), named)
