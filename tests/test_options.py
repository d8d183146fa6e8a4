"""What may be asked for of a function: words, sizes, bounds; and what is said of what cannot be."""

import subprocess
import sys

import pytest

from memograd import Memo, memo
from memograd._options import How, Options, bytes_of, options_of


@pytest.mark.parametrize(
    ("size", "number"),
    [
        (0, 0),
        (7, 7),
        ("7", 7),
        ("64MiB", 64 << 20),
        ("2GiB", 2 << 30),
        ("1.5 kB", 1500),
        ("2 GB", 2 * 10**9),
        ("1k", 1000),
    ],
)
def test_sizes_are_numbers_or_text(size, number):
    assert bytes_of("memo", "live", size) == number


@pytest.mark.parametrize("size", ["", "MiB", "-1", "1 XB", "64 MiBs", "1e3"])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(
        ValueError, match=r'memo\(\) got live=.*, expected 0 or more bytes as an int or text.*; write live="2GiB"'
    ):
        bytes_of("memo", "live", size)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"trust": "version"}, ValueError, "got trust='version', expected one of None, 'versions'"),
        ({"per": "class"}, ValueError, "got per='class', expected one of None, 'instance'"),
        ({"rng": "keep"}, ValueError, "got rng='keep', expected one of 'replay', 'freeze', 'refuse'"),
        ({"live": -1}, ValueError, "got live=-1, expected 0 or more bytes as an int"),
        ({"live": 1.5}, TypeError, "got live=1.5, expected 0 or more bytes as an int or text"),
        ({"max_byte": 3}, TypeError, "got max_byte=3, expected one of the options store, max_entries"),
        ({"version": 2}, TypeError, "got version=2, expected a str; write version='2'"),
        ({"tags": 3}, TypeError, "got tags=3, expected words; write tags="),
        ({"tags": ["a", 3]}, TypeError, "expected words; write tags="),
        ({"ttl": 0}, ValueError, "got ttl=0, expected seconds above 0"),
        ({"ttl": "7 parsec"}, ValueError, 'expected seconds above 0 or text such as "90s" or "7d"; write ttl="7d"'),
        ({"ttl": [7]}, TypeError, "got ttl=.*, expected seconds above 0"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        memo(**options)


def test_words_may_be_one_or_many():
    for tags in ("draft", ["draft"], ("draft",), {"draft"}):
        assert options_of({"tags": tags}, None, strict=False).tags == ("draft",)


def test_a_length_of_time_is_seconds_or_text():
    assert [options_of({"ttl": ttl}, None, strict=False).ttl for ttl in (None, 90, "1.5m")] == [None, 90.0, 90.0]


def test_what_is_asked_without_text_needs_no_regular_expressions():
    program = """
import sys
from memograd._options import options_of
sys.modules["memograd.store._units"] = None
options_of({"live": 1 << 20, "max_bytes": 1000}, None, strict=False)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_options_may_stand_beside_the_function():
    f = memo(lambda x: x, max_entries=3)
    assert f.cache_parameters()["maxsize"] == 3


def test_every_option_is_known_by_the_same_name():
    assert set(Options._fields) < set(How.__annotations__)


@pytest.mark.parametrize("f", [lambda: 1, lambda *args: 1, lambda **options: 1, lambda *, self: 1])
def test_an_instance_needs_a_first_parameter(f):
    with pytest.raises(TypeError, match="per='instance' for a function without a first parameter"):
        memo(f, per="instance")


def test_a_bound_of_the_memo_may_be_lifted_for_a_function():
    assert Memo(max_entries=3)(lambda x: x, max_entries=None).cache_parameters()["maxsize"] is None
