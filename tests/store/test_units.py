"""Sizes and times as people write them."""

from __future__ import annotations

import pytest

from memograd.store._units import SIZES, TIMES, parse_bytes, parse_seconds, read, show_bytes, show_seconds


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


@pytest.mark.parametrize(("size", "meant"), [(1, 1), ("2GiB", 2 << 30), (" 1.5 kB ", 1500)])
def test_bytes_are_numbers_or_text(size, meant):
    assert parse_bytes(size) == meant


@pytest.mark.parametrize("size", [0, -1, "0", "-1", "", "MB", "1e9", "9" * 400])
def test_bytes_that_are_none_are_refused_with_what_to_write(size):
    with pytest.raises(ValueError, match=r'^limit got .*, expected bytes as an int above 0 .*; write limit="2GiB"$'):
        parse_bytes(size, "limit")


def test_no_bytes_at_all_are_a_size_where_that_makes_sense():
    assert parse_bytes("0", at_least=0) == parse_bytes(0, at_least=0) == 0
    with pytest.raises(ValueError, match=r"^memo\(\) got live=-1, expected 0 or more bytes as an int"):
        parse_bytes(-1, "live", who="memo", at_least=0)


@pytest.mark.parametrize("size", [None, True, 1.5, [1], b"2GiB"])
def test_bytes_of_another_type_are_refused(size):
    with pytest.raises(TypeError, match=r"max_bytes got .*, expected bytes"):
        parse_bytes(size)


@pytest.mark.parametrize(("length", "meant"), [(3600, 3600), (0.5, 0.5), ("7d", 604_800), ("250 ms", 0.25), ("9", 9)])
def test_a_length_of_time_is_a_number_or_text(length, meant):
    assert parse_seconds(length) == meant


@pytest.mark.parametrize("length", [0, -1, float("nan"), float("inf"), "0s", "7 parsec", "", "d"])
def test_a_length_of_time_that_is_none_is_refused_with_what_to_write(length):
    with pytest.raises(ValueError, match=r'^Redis\(\) got ttl=.*, expected seconds above 0 .*; write ttl="7d"$'):
        parse_seconds(length, who="Redis")


@pytest.mark.parametrize("length", [None, True, [7], b"7d"])
def test_a_length_of_time_of_another_type_is_refused(length):
    with pytest.raises(TypeError, match=r"timeout got .*, expected seconds above 0"):
        parse_seconds(length, "timeout")


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
