"""Never stale: code, and all that it reaches, may change while the program runs; every call gives what it gives now."""

from __future__ import annotations

import sys
import types

import pytest

from memograd import Memo, memo

PROGRAM = """
import enum, functools, os
from dataclasses import dataclass

RATE = 2
TABLE = [1]

def scale(x, by=3, *, of=4): return x * by * of
def make(step):
    def stepped(x): return x + step
    return stepped
stepped = make(5)
halved = functools.partial(scale, by=6)

class Base:
    offset = 7
    def shifted(self, x): return x + self.offset

class Thing(Base):
    @property
    def size(self): return 8
    @staticmethod
    def static(x): return x + 9

class Mode(enum.Enum):
    FAST = 10
    def speed(self): return self.value

@dataclass
class Point:
    x: int = 11

@functools.lru_cache(maxsize=None)
def cached(x): return x + 12

def f(x):
    thing = Thing()
    found = [scale(x), stepped(x), halved(x), thing.shifted(x), thing.size, Thing.static(x), Mode.FAST.speed()]
    found += [Point().x, cached(x), RATE, sum(TABLE), len(TABLE), os.environ.get("A_VARIABLE_OF_THIS_TEST")]
    return found
"""

CHANGES = [
    "RATE = 3",
    "TABLE.append(2)",
    "TABLE[0] = 5",
    "TABLE = [9]",
    "def scale(x, by=3, *, of=4): return -x",
    "scale.__code__ = (lambda x, by=3, *, of=4: x).__code__",
    "scale.__defaults__ = (30,)",
    "scale.__kwdefaults__ = {'of': 40}",
    "scale.__kwdefaults__['of'] = 41",
    "stepped = make(50)",
    "stepped.__closure__[0].cell_contents = 51",
    "halved = functools.partial(scale, by=60)",
    "halved.keywords['by'] = 61",
    "Base.offset = 70",
    "Base.shifted = lambda self, x: 71",
    "Thing.offset = 72",
    "Thing.size = property(lambda self: 80)",
    "Thing.static = staticmethod(lambda x: 90)",
    "Mode.speed = lambda self: 100",
    "Point.__init__ = lambda self: setattr(self, 'x', 110)",
    "@functools.lru_cache\ndef cached(x): return x + 120",
    "def len(x): return 130",
    "sum = max; TABLE.append(-1)",
    "os.environ['A_VARIABLE_OF_THIS_TEST'] = 'set'",
]


def run(source: str, name: str = "program_of_this_test") -> types.ModuleType:
    module = sys.modules.setdefault(name, types.ModuleType(name))
    exec(compile(source, f"<{name}>", "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - the program under test
    return module


@pytest.fixture(autouse=True)
def _no_module_stays(monkeypatch):
    monkeypatch.setenv("A_VARIABLE_OF_THIS_TEST", "unset")
    for name in ("program_of_this_test", "helpers_of_this_test"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))


@pytest.mark.parametrize("change", CHANGES)
def test_a_call_after_a_change_gives_what_the_plain_call_gives(change):
    program = run(PROGRAM)
    remembered = memo(program.f)
    assert remembered(1) == remembered(1) == program.f(1)
    assert remembered.cache_info().hits == 1
    before = program.f(1)
    run(change)
    assert program.f(1) != before
    assert remembered(1) == program.f(1)


def test_a_cell_that_is_run_again_finds_what_was_remembered():
    store: dict[object, object] = {}
    first = Memo(store=store)(run(PROGRAM).f)
    first(1)
    run("\n\n# run again\n" + PROGRAM)
    first(1)
    assert first.cache_info().hits == 1


def test_a_change_that_is_taken_back_finds_what_was_remembered():
    program = run(PROGRAM)
    remembered = memo(program.f)
    remembered(1)
    run("RATE = 3")
    remembered(1)
    run("RATE = 2")
    remembered(1)
    assert remembered.cache_info()[:2] == (1, 2)


def test_a_module_that_is_imported_within_the_body_is_followed():
    run("def g(x): return x + 1", "helpers_of_this_test")
    remembered = memo(run("def f(x):\n    from helpers_of_this_test import g\n    return g(x)").f)
    assert remembered(1) == 2
    run("def g(x): return x + 1000", "helpers_of_this_test")
    assert remembered(1) == 1001


def test_what_a_call_imports_for_the_first_time_is_no_part_of_what_was_known_before(tmp_path, monkeypatch):
    """The first call is made while nobody knows what will be imported: what it gives stands for no later call."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    remembered = memo(run("def f(x):\n    from lazily_of_this_test import g\n    return g(x)").f)
    file = tmp_path / "lazily_of_this_test.py"
    for constant in (1, 10_000):
        file.write_text(f"def g(x): return x + {constant}\n")
        monkeypatch.delitem(sys.modules, "lazily_of_this_test", raising=False)
        assert remembered(1) == 1 + constant
