"""The benchmark of fingerprints runs, and says of each row what was asked for."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from tests.bench.scripts import asked, numbers, written

ASKED = {
    ("tensor of 1 KiB", "bare xxh3"): {"ours"},
    ("tensor of 100 KiB", "bare xxh3"): {"ours"},
    ("its part of a key, 1 KiB", "bare xxh3"): set(),
    ("16 tensors of 4 KiB, parts of a key", "bare xxh3"): {"ours ÷ theirs"},
    ("a list of them", "bare xxh3"): set(),
    ("tensor of 1 MiB", "bare xxh3"): {"ours ÷ theirs"},
    ("tensor of 1 MiB", "reading it"): set(),
    ("module of 24 MiB", "bare xxh3"): set(),
}
WITH = {
    "blake3": {("tensor of 1 MiB, blake3", "blake3 itself"): {"ours ÷ theirs"}},
    "joblib": {("a list of them", "joblib.hash"): set(), ("tensor of 1 MiB", "joblib.hash of the array"): set()},
}


@pytest.mark.slow
def test_every_row_has_finite_numbers_and_says_whether_what_was_asked_for_is_met(tmp_path):
    _, result = written("fingerprint.py", tmp_path / "figures.json")
    lines = result["figures"]["content"]["lines"]
    expected = {**ASKED, **{row: columns for name in WITH if find_spec(name) for row, columns in WITH[name].items()}}
    assert {(line["of"], line["beside"]): asked(line) for line in lines} == expected
    assert len(lines) == len(expected)
    assert all(0 <= cell["value"] < float("inf") for line in lines for cell in numbers(line).values())
