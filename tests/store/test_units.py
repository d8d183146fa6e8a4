"""Sizes and times as people write them."""

from __future__ import annotations

import pytest

from memograd.store._units import SIZES, TIMES, read, show_bytes, show_seconds


@pytest.mark.parametrize(
    ("text", "meant"),
    [("10", 10), ("1KB", 1000), ("1 kB", 1000), ("1KiB", 1024), ("1k", 1000), ("2.5MB", 2_500_000), ("1_000", 1000),
     (".5GiB", 1 << 29)],
)  # fmt: skip
def test_a_size_is_read(text, meant):
    assert read(text, SIZES) == meant


@pytest.mark.parametrize(
    ("text", "meant"),
    [("3", 3), ("250ms", 0.25), ("2m", 120), ("1.5h", 5400), ("7d", 604_800), ("1w", 604_800)],
)
def test_a_time_is_read(text, meant):
    assert read(text, TIMES) == meant


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "1e9", "1,000", "1MB2", "nan", "inf", "٣MB", "1 M B"])
def test_what_is_no_size_is_none(text):
    assert read(text, SIZES) is None


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1_500_000, "1.43 MiB"), (5 << 30, "5 GiB"), (3 << 40, "3 TiB"),
     (9000 << 40, "9,000 TiB")],
)  # fmt: skip
def test_a_size_is_shown(nbytes, text):
    assert show_bytes(nbytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (2e-9, "2 ns"), (8.5e-5, "85 µs"), (0.5, "500 ms"), (0.9999, "1 s"), (1, "1 s"), (119, "119 s"),
        (600, "10 min"), (9000, "2.5 h"), (864_000, "10 d"), (4e8, "4,630 d"), (-5, "-5 s"),
    ],
)  # fmt: skip
def test_a_time_is_shown(seconds, text):
    assert show_seconds(seconds) == text
