"""The public surface: what `memograd` says it has, it has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import memograd

ROOT = Path(__file__).parents[1]


def test_the_names_are_sorted_and_written_once():
    assert memograd.__all__ == sorted(set(memograd.__all__))


@pytest.mark.parametrize("name", memograd.__all__)
def test_every_name_leads_to_something_with_a_docstring(name):
    assert (getattr(memograd, name).__doc__ or "").strip()


def test_dir_shows_every_name():
    assert set(memograd.__all__) <= set(dir(memograd))


def test_a_name_that_is_not_there_is_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match="'nothing_of_this_name'"):
        memograd.nothing_of_this_name  # noqa: B018


def test_star_import_gives_the_names():
    space: dict[str, object] = {}
    exec("from memograd import *", space)  # noqa: S102 - the statement under test is only legal at module level
    assert set(memograd.__all__) <= set(space)


def test_the_version_has_three_numbers():
    assert re.fullmatch(r"\d+\.\d+\.\d+", memograd.__version__)


def test_every_direct_dependency_has_its_tested_version_in_the_constraints():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    needed = {re.split(r"[\[<>=]", need)[0] for needs in extras.values() for need in needs} - {"memograd"}
    pinned = set(re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert needed <= pinned
