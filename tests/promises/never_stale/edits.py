"""What all tests of edits share: a program of the user's that is run, edited and run again, and a call of it."""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING, Any

from memograd import Memo, fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable

    from memograd._call import Memoized

MODULES = ("program_under_edit", "helpers_under_edit", "deeper_under_edit")
ENTRY = "def entry(x): return f(x)"


def run(source: str, name: str = MODULES[0]) -> types.ModuleType:
    """Run source text in a module of the user's, as a cell of a notebook is run: what stands there is bound anew."""
    module = sys.modules.get(name) or types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(source, f"/nowhere/{name}.py", "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - the program under test
    return module


def forget() -> None:
    """Forget the modules of the program under edit."""
    for name in MODULES:
        sys.modules.pop(name, None)


def started(source: str) -> Memoized[..., Any]:
    """Run a program that defines `f`, and remember calls of a function that calls `f`."""
    run(source)
    return Memo(strict=True)(run(ENTRY).entry)


def edited(source: str, old: str, new: str) -> str:
    """Make one edit in one place."""
    assert source.count(old) == 1, (old, source)
    return source.replace(old, new)


def assert_another_call(remembered: Memoized[..., Any], edit: Callable[[], object], argument: object = 3) -> None:
    """Assert that an edit changes what the plain call gives, the key of the call, and what the call gives then."""
    plain = remembered.__wrapped__
    before, key = repr(plain(argument)), remembered.cache_key(argument)
    assert repr(remembered(argument)) == repr(remembered(argument)) == before
    assert remembered.cache_info()[:2] == (1, 1)
    assert remembered.cache_key(argument) == key
    edit()
    after = repr(plain(argument))
    assert after != before
    assert remembered.cache_key(argument) != key
    assert repr(remembered(argument)) == after


def assert_edit_makes_another_call(source: str, old: str, new: str) -> None:
    """Assert that one edit of a program that defines `f` changes a call of `f`."""
    assert_another_call(started(source), lambda: run(edited(source, old, new)))


def assert_edit_makes_another_function(source: str, old: str, new: str) -> None:
    """Assert that one edit of a program that defines `f` changes the fingerprint of `f`; to run it again does not."""
    before = fingerprint(run(source).f)
    assert fingerprint(run(source).f) == before
    assert fingerprint(run(edited(source, old, new)).f) != before


def assert_same_call(remembered: Memoized[..., Any], edit: Callable[[], object], argument: object = 3) -> None:
    """Assert that an edit changes neither the key of a call nor what it gives, and that the call is found again."""
    plain = remembered.__wrapped__
    before, key = repr(plain(argument)), remembered.cache_key(argument)
    assert repr(remembered(argument)) == before
    edit()
    assert repr(plain(argument)) == before
    assert remembered.cache_key(argument) == key
    assert repr(remembered(argument)) == before
    assert remembered.cache_info()[:2] == (1, 1)
