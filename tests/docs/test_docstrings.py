"""The examples in docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import memograd

MODULES = [
    module.name for module in pkgutil.walk_packages(memograd.__path__, "memograd.") if "__main__" not in module.name
]


@pytest.mark.parametrize("name", ["memograd", *MODULES])
def test_the_examples_of_a_module_give_what_they_say(name):
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    found = [test for name in MODULES for test in finder.find(importlib.import_module(name)) if test.examples]
    assert len(found) >= 5
