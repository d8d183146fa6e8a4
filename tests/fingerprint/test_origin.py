"""Whose code something is."""

from __future__ import annotations

import importlib
import sys
import types
from importlib import import_module
from importlib.metadata import version

import pytest

from memograd.fingerprint import _origin
from memograd.fingerprint._origin import is_stdlib, library_of, reaches_itself_only

PYTHON = f"python {sys.version_info[0]}.{sys.version_info[1]}"


@pytest.mark.parametrize("module", ["math", "os.path", "builtins", "_thread", "collections.abc", "sys"])
def test_the_standard_library_is_known_by_pythons_version(module):
    assert library_of(module) == PYTHON
    assert is_stdlib(module)


@pytest.mark.parametrize("module", ["__main__", "__mp_main__", "", None, 1, "a_module_of_the_users", "a.b.c"])
def test_what_is_nobodys_library_is_the_users(module):
    assert library_of(module) is None
    assert not is_stdlib(module)


def test_a_package_is_known_by_its_distributions_version():
    assert library_of("pytest") == f"pytest {version('pytest')}"
    assert library_of("pytest.whatever") == f"pytest {version('pytest')}"


def test_a_package_whose_distribution_has_another_name_is_found():
    import_module("_pytest")
    assert library_of("_pytest") == f"_pytest pytest {version('pytest')}"


def test_memograd_itself_is_a_library():
    assert str(library_of("memograd._memo")).startswith("memograd ")


def test_a_package_that_is_not_imported_yet_is_known_as_it_will_be(monkeypatch):
    before = library_of("pytest")
    monkeypatch.setattr(_origin, "_libraries", {})
    monkeypatch.delitem(sys.modules, "pytest")
    assert library_of("pytest") == before
    assert _origin._libraries == {}


def test_a_module_that_lies_among_the_users_files_is_the_users(tmp_path, monkeypatch):
    (tmp_path / "mine_of_this_test.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert library_of("mine_of_this_test") is None


@pytest.mark.parametrize("loaded", [True, False])
def test_a_users_file_with_the_name_of_a_module_of_the_standard_library_is_the_users(tmp_path, monkeypatch, loaded):
    (tmp_path / "this.py").write_text("def f(): return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "this", raising=False)
    monkeypatch.setattr(_origin, "_libraries", {})
    if loaded:
        importlib.import_module("this")
    assert library_of("this") is None
    assert not is_stdlib("this")
    monkeypatch.delitem(sys.modules, "this", raising=False)


def test_a_module_that_lies_in_site_packages_is_a_library(tmp_path, monkeypatch):
    packages = tmp_path / "site-packages"
    packages.mkdir()
    monkeypatch.setattr(_origin, "_places", lambda: frozenset({packages}))
    module = types.ModuleType("theirs_of_this_test")
    module.__file__ = str(packages / "theirs_of_this_test.py")
    module.__version__ = "1.2"
    monkeypatch.setitem(sys.modules, "theirs_of_this_test", module)
    monkeypatch.setattr(_origin, "_libraries", {})
    assert library_of("theirs_of_this_test.sub") == "theirs_of_this_test 1.2"


def test_a_namespace_package_lies_where_its_first_part_does(tmp_path, monkeypatch):
    module = types.ModuleType("spaced_of_this_test")
    module.__path__ = [str(tmp_path / "spaced_of_this_test")]
    monkeypatch.setitem(sys.modules, "spaced_of_this_test", module)
    monkeypatch.setattr(_origin, "_libraries", {})
    assert library_of("spaced_of_this_test") is None


def test_a_module_of_the_standard_library_that_runs_what_it_is_told_to_is_loose():
    assert reaches_itself_only("math")
    assert not reaches_itself_only("importlib.util")
    assert not reaches_itself_only("pickle")
    assert not reaches_itself_only("pytest")


def test_versions_are_looked_up_once():
    library_of("pytest")
    before = _origin._version.cache_info().misses
    _origin._libraries.pop("pytest")
    library_of("pytest")
    assert _origin._version.cache_info().misses == before


def test_no_module_is_asked_for_what_it_would_compute(monkeypatch):
    asked = []
    module = types.ModuleType("asked_of_this_test")
    module.__getattr__ = lambda name: asked.append(name)
    monkeypatch.setitem(sys.modules, "asked_of_this_test", module)
    assert library_of("asked_of_this_test") is None
    assert asked == []
