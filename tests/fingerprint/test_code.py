"""What code is: every edit of what a function reaches changes it, no other does, and a guard sees what is changed."""

from __future__ import annotations

import functools
import gc
import hashlib
import math
import os
import random
import subprocess
import sys
import types
import weakref
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from time import process_time

import pytest
from tests.threads import together

from memograd import memo
from memograd._errors import NoIdentityError
from memograd.fingerprint._code import Reach, reach, reach_of

HELPERS = """
from helpers_of_helpers import deeper
import helpers_of_helpers as further
LEVEL = 1
TABLE = [1, 2]

def scale(x):
    return x * LEVEL

def through(x):
    return deeper(x)

def by_attribute(x):
    return further.deepest(x)

class Tool:
    size = 2
    def use(self, x):
        return x + self.size

def late(x):
    return x + 5
"""

DEEPER = """
DEPTH = 7

def deeper(x):
    return x - DEPTH

def deepest(x):
    return x - 70
"""

PROGRAM = '''
import enum
import functools
import math
from collections import namedtuple
from dataclasses import dataclass, field
from typing import NamedTuple
import helpers
from helpers import through as renamed

RATE = 0.5
NAMES = ("a", ("b", 1))
LIMITS = [1, 2]
SETTINGS = {"lr": 0.1, "steps": [1]}
UNUSED = 1

def plain(x):
    return x + 1

def with_defaults(x, by=2, *, of=3, among=[4]):
    return x * by + of

def outer(x):
    return inner(x)

def inner(x):
    return x - RATE

def make(step):
    grow = 10
    def closure(x):
        return x + step * grow
    return closure

stepped = make(3)

def decorated_by(f):
    @functools.wraps(f)
    def wrapper(*args):
        return f(*args) + 100
    return wrapper

@decorated_by
def decorated(x):
    return x + 20

@functools.lru_cache(maxsize=None)
def cached(x):
    return x + 30

def two(x, y):
    return x + 40 * y

halved = functools.partial(two, y=2)

class Base:
    offset = 50
    def shifted(self, x):
        return x + self.offset

class Thing(Base):
    __slots__ = ("a",)
    kinds = ["k"]
    def __init__(self, a):
        self.a = a
    def method(self, x):
        return self.shifted(x) + 60
    @staticmethod
    def static(x):
        return x + 61
    @classmethod
    def by_class(cls, x):
        return x + 62
    @property
    def value(self):
        return self.a + 63
    @functools.cached_property
    def lazily(self):
        return 64
    def __add__(self, other):
        return 65

class Meta(type):
    def __call__(cls, *args):
        return 66

class WithMeta(metaclass=Meta):
    pass

class Mode(enum.Enum):
    SLOW = 70
    FAST = 71
    def speed(self):
        return self.value * 72

@dataclass
class Point:
    x: int
    y: int = 80
    label: str = field(default="p", metadata={"unit": "m"})

class Pair(NamedTuple):
    first: int
    second: int = 85

Triple = namedtuple("Triple", "one two three", defaults=(86,))

class Config:
    width = 90

config = Config()
config.depth = 91
config_of_class = Thing(92)

def lazy(x):
    from helpers import late
    return late(x)

def lazily_whole(x):
    import helpers as h
    return h.scale(x)

def comprehended(xs):
    return [plain_in_comprehension(x) for x in xs if x > 95]

def plain_in_comprehension(x):
    return x + 96

async def waits(x):
    return x + 97

def generates(x):
    yield x + 98

def matches(x):
    match x:
        case [1, y]:
            return y
        case {"k": 99}:
            return 2
    return 3

def walrus(x):
    return (y := x + 100) * y

def default_lambda(x, key=lambda y: y + 101):
    return key(x)

def handles(x):
    try:
        return 1 / x
    except ZeroDivisionError:
        return 102

def nested_class(x):
    class Local:
        attribute = 103
        def get(self):
            return 104
    return Local().get()

OPERATIONS = (plain_of_tuple := lambda x: x + 105, 1)
bound = Thing(106).method

def f(x, first=1):
    """What it does."""
    # A comment.
    results = [plain(x), with_defaults(x), outer(x), stepped(x), decorated(x), cached(x), halved(x)]
    results += [helpers.scale(x), helpers.TABLE, renamed(x), helpers.by_attribute(x), helpers.Tool().use(x)]
    results += [NAMES, LIMITS, SETTINGS, Thing(x).method(x), WithMeta(), Mode.FAST, Point(x, 1), Pair(1), Triple(1, 2)]
    results += [Config.width, config.depth, config_of_class, lazy(x), lazily_whole(x), comprehended([x])]
    results += [waits, generates, matches, walrus, default_lambda, handles, nested_class, OPERATIONS[0](x), bound(x)]
    return [len(results), math.pi, sum(results[:0]), f, first, "end"]
'''


@pytest.fixture(autouse=True)
def _modules_of_their_own(monkeypatch):
    for name in ("helpers", "helpers_of_helpers", "program", "another"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        del sys.modules[name]


def load(source: str, name: str = "program", **names: object) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__dict__.update(names)
    sys.modules[name] = module
    exec(compile(source, f"/nowhere/{name}.py", "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - it is the program under test
    return module


def programs(helpers: str = HELPERS, deeper: str = DEEPER, program: str = PROGRAM, name: str = "program"):
    load(deeper, "helpers_of_helpers")
    load(helpers, "helpers")
    return load(program, name)


def content(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [content(item) for item in value]
    if isinstance(value, dict):
        return [(key, content(item)) for key, item in value.items()]
    state = getattr(value, "__dict__", None) or {
        name: getattr(value, name, None) for name in getattr(value, "__slots__", ())
    }
    return (type(value).__name__, content(state)) if state else repr(value)


def state(found: Reach) -> object:
    return found.stream, [(one.path, content(one.value)) for one in found.captured]


def of(source: str, name: str = "f", **names: object) -> Reach:
    return reach(vars(load(source, **names))[name])


EDITS = [
    ("x + 1\n", "x + 2\n"),
    ("by=2", "by=3"),
    ("of=3", "of=4"),
    ("among=[4]", "among=[5]"),
    ("by=2, *, of=3", "of=3, *, by=2"),
    ("return inner(x)", "return inner(-x)"),
    ("x - RATE", "x + RATE"),
    ("RATE = 0.5", "RATE = 0.25"),
    ("RATE = 0.5", "RATE = '0.5'"),
    ('("b", 1)', '("b", 1.0)'),
    ('("b", 1)', '("b", True)'),
    ("LIMITS = [1, 2]", "LIMITS = [1, 3]"),
    ("LIMITS = [1, 2]", "LIMITS = (1, 2)"),
    ("0.1", "0.2"),
    ('"steps": [1]', '"steps": [2]'),
    ("step * grow", "step + grow"),
    ("grow = 10", "grow = 11"),
    ("make(3)", "make(4)"),
    ("f(*args) + 100", "f(*args) + 1000"),
    ("x + 20", "x + 21"),
    ("x + 30", "x + 31"),
    ("40 * y", "41 * y"),
    ("partial(two, y=2)", "partial(two, y=3)"),
    ("partial(two, y=2)", "partial(two, 2)"),
    ("offset = 50", "offset = 51"),
    ("x + self.offset", "x - self.offset"),
    ("class Thing(Base)", "class Thing(Base, Exception)"),
    ('kinds = ["k"]', 'kinds = ["l"]'),
    ('__slots__ = ("a",)', '__slots__ = ("a", "c")'),
    ("self.a = a", "self.a = -a"),
    ("+ 60", "+ 600"),
    ("+ 61", "+ 610"),
    ("+ 62", "+ 620"),
    ("+ 63", "+ 630"),
    ("return 64", "return 640"),
    ("return 65", "return 650"),
    ("return 66", "return 660"),
    ("@staticmethod\n    def static", "@classmethod\n    def static"),
    ("@property\n    def value", "def value"),
    ("FAST = 71", "FAST = 710"),
    ("SLOW = 70", "SLOW = 700"),
    ("SLOW = 70\n    FAST = 71", "FAST = 71\n    SLOW = 70"),
    ("Mode.FAST", "Mode.SLOW"),
    ("self.value * 72", "self.value * 720"),
    ("enum.Enum", "enum.IntEnum"),
    ("y: int = 80", "y: int = 800"),
    ("@dataclass\n", "@dataclass(frozen=True)\n"),
    ("@dataclass\n", "@dataclass(order=True)\n"),
    ('default="p"', 'default="q"'),
    ('"unit": "m"', '"unit": "s"'),
    ("second: int = 85", "second: int = 850"),
    ("first: int", "premier: int"),
    ('"one two three"', '"one three two"'),
    ("defaults=(86,)", "defaults=(860,)"),
    ("width = 90", "width = 900"),
    ("depth = 91", "depth = 910"),
    ("Thing(92)", "Thing(920)"),
    ("import late", "import scale as late"),
    ("h.scale(x)", "h.through(x)"),
    ("x > 95", "x > 950"),
    ("x + 96", "x + 960"),
    ("x + 97", "x + 970"),
    ("x + 98", "x + 980"),
    ("case [1, y]", "case [2, y]"),
    ('{"k": 99}', '{"k": 990}'),
    ("x + 100)", "x + 1000)"),
    ("y + 101", "y + 1010"),
    ("except ZeroDivisionError", "except ValueError"),
    ("return 102", "return 1020"),
    ("attribute = 103", "attribute = 1030"),
    ("return 104", "return 1040"),
    ("x + 105", "x + 1050"),
    ("Thing(106)", "Thing(1060)"),
    ("math.pi", "math.e"),
    ("import through as renamed", "import scale as renamed"),
    ("len(results)", "max(results)"),
    ('"end"', "'END'"),
    ("sum(results[:0])", "sum(results[:1])"),
    ("first=1", "first=2"),
    ("def f(x, first=1)", "def f(first, x=1)"),
    ("[plain(x), with_defaults(x),", "[with_defaults(x), plain(x),"),
    ("@decorated_by\n", ""),
    ("@functools.lru_cache(maxsize=None)\n", ""),
    ("config = Config()", "config = Base()"),
    ("def with_defaults", "def len(x):\n    return 1\n\ndef with_defaults"),
]
EDITS_OF_HELPERS = [
    ("x * LEVEL", "x / LEVEL"),
    ("LEVEL = 1", "LEVEL = 2"),
    ("[1, 2]", "[2, 1]"),
    ("return deeper(x)", "return -deeper(x)"),
    ("further.deepest", "further.deeper"),
    ("size = 2", "size = 3"),
    ("x + self.size", "x - self.size"),
    ("x + 5", "x + 6"),
]
EDITS_OF_DEEPER = [("DEPTH = 7", "DEPTH = 8"), ("x - DEPTH", "x + DEPTH"), ("x - 70", "x - 700")]


def edited(source: str, old: str, new: str) -> str:
    assert source.count(old) >= 1
    return source.replace(old, new, 1)


@pytest.fixture(scope="module")
def unedited() -> object:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("helpers", "helpers_of_helpers", "program"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        return state(reach(programs().f))


@pytest.mark.parametrize(("old", "new"), EDITS)
def test_an_edit_of_what_is_reached_changes_what_it_is(unedited, old, new):
    assert state(reach(programs(program=edited(PROGRAM, old, new)).f)) != unedited


@pytest.mark.parametrize(("old", "new"), EDITS_OF_HELPERS)
def test_an_edit_of_a_helper_in_another_module_changes_what_it_is(unedited, old, new):
    assert state(reach(programs(helpers=edited(HELPERS, old, new)).f)) != unedited


@pytest.mark.parametrize(("old", "new"), EDITS_OF_DEEPER)
def test_an_edit_of_a_helper_of_a_helper_changes_what_it_is(unedited, old, new):
    assert state(reach(programs(deeper=edited(DEEPER, old, new)).f)) != unedited


def test_there_are_at_least_eighty_edits_and_each_is_another():
    assert len(EDITS) + len(EDITS_OF_HELPERS) + len(EDITS_OF_DEEPER) >= 80
    assert len({edited(PROGRAM, *edit) for edit in EDITS}) == len(EDITS)


IDLE = [
    ("# A comment.", "# Another one."),
    ("    # A comment.\n", ""),
    ("# A comment.", "pass"),
    ('"""What it does."""', '"""Something else."""'),
    ('    """What it does."""\n', ""),
    ("def plain(x):\n", "def plain(x):\n    'New.'\n"),
    ("def plain(x):\n", "def plain(x):\n    pass\n"),
    ("def plain(x):\n", "def plain(x):\n\n\n    # why\n"),
    ("class Base:\n", "class Base:\n    'New.'\n"),
    ("class Meta(type):\n", "class Meta(type):\n    # New.\n"),
    ("class Mode(enum.Enum):\n", "class Mode(enum.Enum):\n    'New.'\n"),
    ("class Point:\n", "class Point:\n    'New.'\n"),
    ("class Pair(NamedTuple):\n", "class Pair(NamedTuple):\n    'New.'\n"),
    ("    class Local:\n", "    class Local:\n        'New.'\n"),
    ("        def get(self):\n", "        def get(self):\n            'New.'\n"),
    ("    def closure(x):\n", "    def closure(x):\n        'New.'\n"),
    ("x + 1\n", "(x + 1)\n"),
    ("x + 1\n", "x + (2 - 1)\n"),
    ("x + 1\n", "x \\\n        + 1\n"),
    ("return x * by + of", "return (\n        (x * by) + of\n    )"),
    ("RATE = 0.5", "RATE = 5e-1"),
    ("RATE = 0.5", "\n\nRATE = 0.5"),
    ("UNUSED = 1", "UNUSED = 2"),
    ("UNUSED = 1", ""),
    ("UNUSED = 1", "MORE = [1]"),
    ("UNUSED = 1", "def unused():\n    return 1"),
    ("import enum", "import os, enum"),
    ("def inner(x)", "def inner(x: float) -> float"),
    ("def outer(x):\n    return inner(x)", "def outer(x):\n    y: int\n    return inner(x)"),
    ("def f(x, first=1)", "def f(x: list[int], first: int = 1) -> object"),
    ("grow", "growth"),
    ("for x in xs if x > 95", "for item in xs if item > 95"),
    ("wrapper(*args)", "replacement(*args)"),
    ("def closure(x)", "def anything(x)"),
    ("(y := x + 100) * y", "(z := x + 100) * z"),
    ("case [1, y]:\n            return y", "case [1, last]:\n            return last"),
    ("results", "outcome"),
    ('("a",)', '["a"]'),
    ("def f(x", "def unused_before(x):\n    return LIMITS\n\ndef f(x"),
    ("from dataclasses", "if True:\n    pass\nfrom dataclasses"),
]
# What stands in several places, and what changes with it.
EVERYWHERE = {"grow", "results"}
WITH = {
    "for x in xs if x > 95": ("plain_in_comprehension(x) for", "plain_in_comprehension(item) for"),
    "wrapper(*args)": ("return wrapper", "return replacement"),
    "def closure(x)": ("return closure", "return anything"),
}


def idly(old: str, new: str) -> str:
    assert old in PROGRAM
    program = PROGRAM.replace(old, new, -1 if old in EVERYWHERE else 1)
    return program.replace(*WITH.get(old, ("", "")))


@pytest.mark.parametrize(("old", "new"), IDLE)
def test_an_edit_that_changes_no_code_changes_nothing(unedited, old, new):
    assert state(reach(programs(program=idly(old, new)).f)) == unedited


def test_the_same_program_under_another_name_is_the_same(unedited):
    for name in ("__main__", "__mp_main__", "another", "a.b.c"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, name, types.ModuleType(name))
            assert state(reach(programs(name=name).f)) == unedited


def test_a_notebook_that_defines_it_again_gets_the_same(unedited):
    """A cell that is run again defines other objects under the same names."""
    program = programs()
    source = "<ipython-input-7>"
    exec(compile("\n" * 40 + PROGRAM, source, "exec", dont_inherit=True), program.__dict__)  # noqa: S102 - it is the program under test
    assert state(reach(program.f)) == unedited


def test_a_program_in_no_module_at_all_is_the_same(unedited):
    programs()
    space: dict[str, object] = {}
    exec(compile(PROGRAM, "<string>", "exec", dont_inherit=True), space)  # noqa: S102 - it is the program under test
    assert state(reach(space["f"])) == unedited


PRINTS = """
import sys, hashlib
sys.path.insert(0, {folder!r})
import test_code
from memograd.fingerprint._code import reach
found = test_code.state(reach(test_code.programs(name={name!r}).f))
print(hashlib.sha256(repr(found).encode()).hexdigest())
"""


def test_other_processes_with_other_hash_seeds_and_names_get_the_same(unedited):
    folder = str(Path(__file__).parent)
    expected = hashlib.sha256(repr(unedited).encode()).hexdigest()
    for seed, name in (("1", "program"), ("2", "__mp_main__")):
        program = PRINTS.format(folder=folder, name=name)
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=False,
        )
        assert done.stdout.strip() == expected, done.stderr


CHANGES = [
    "RATE = 2",
    "del RATE",
    "def inner(x): return x",
    "inner.__code__ = plain.__code__",
    "with_defaults.__defaults__ = (9,)",
    "with_defaults.__kwdefaults__ = dict(of=1)",
    "with_defaults.__kwdefaults__['of'] = 1",
    "with_defaults.__kwdefaults__.update(of=1)",
    "LIMITS = [1, 2]",
    "stepped.__closure__[0].cell_contents = 1",
    "stepped.__closure__[1].cell_contents = 1",
    "decorated.__wrapped__.__code__ = plain.__code__",
    "cached.__wrapped__.__code__ = plain.__code__",
    "halved.keywords['y'] = 5",
    "Base.offset = 1",
    "Base.shifted = lambda self, x: x",
    "Base.shifted.__code__ = (lambda self, x: x).__code__",
    "Thing.shifted = lambda self, x: x",
    "del Thing.__add__",
    "Thing.__bases__ = (Config, Base)",
    "Thing.static = staticmethod(plain)",
    "Meta.__call__ = lambda cls: 1",
    "Mode.speed = lambda self: 1",
    "Point.__init__ = lambda self, x, y: None",
    "Config.width = 1",
    "Config.new = 1",
    "config = Config()",
    "helpers.scale = plain",
    "helpers.scale.__code__ = plain.__code__",
    "helpers.LEVEL = 3",
    "helpers.TABLE = [1, 2]",
    "helpers.further = helpers",
    "helpers.further.deepest = plain",
    "helpers.further.DEPTH = 1",
    "helpers.deeper = plain",
    "helpers.late = plain",
    "helpers.Tool.size = 3",
    "len = max",
    "def sum(x): return 1",
    "math = helpers",
    "renamed = plain",
    "Mode = Config",
    "default_lambda.__defaults__[0].__code__ = plain.__code__",
    "OPERATIONS[0].__code__ = plain.__code__",
    "bound = Thing(1).method",
    "f.__code__ = plain.__code__",
    "f.__defaults__ = (2,)",
    "comprehended.__code__ = plain.__code__",
]


def changed(change):
    """A function of a program that has been changed at run time, and what it reached before."""
    program = programs()
    f = program.f
    before = reach(f)
    assert before.guard()
    exec(f"import sys\n{change}", program.__dict__)  # noqa: S102 - it is the program under test
    return f, before


@pytest.mark.parametrize("change", CHANGES)
def test_a_guard_sees_a_change_at_run_time(change):
    f, before = changed(change)
    assert not before.guard()
    assert reach(f).guard()


IDLE_CHANGES = [
    "UNUSED = 2",
    "new = 1",
    "del UNUSED",
    "LIMITS.append(3)",
    "SETTINGS['lr'] = 5",
    "config.depth = 5",
    "helpers.new = 1",
    "f.__name__ = 'g'",
    "f.__doc__ = 'new'",
    "f.__annotations__ = {}",
    "plain.attribute = 1",
    "RATE = RATE",
    "Config = Config",
    "f(1)",
    "f(1), f(2)",
    "helpers.through = plain",
    "plain.__kwdefaults__ = {'no_parameter': 1}",
]


@pytest.mark.parametrize("change", IDLE_CHANGES)
def test_a_guard_sees_nothing_where_nothing_that_is_reached_is_bound_anew(change):
    _, before = changed(change)
    assert before.guard()


def test_a_method_of_an_instance_that_is_replaced_by_its_class_is_seen():
    program = load("class A:\n    def g(self): return 1\na = A()\ndef f(): return a.g()")
    before = reach(program.f)
    program.A.g = lambda self: 2
    assert not before.guard()
    assert reach(program.f).stream != before.stream


def test_an_absent_global_that_appears_is_seen():
    program = load("def f(): return later")
    before = reach(program.f)
    assert before.open
    assert before.guard()
    program.later = 1
    assert not before.guard()


def test_an_absent_builtin_that_appears_is_seen(monkeypatch):
    before = of("def f(): return a_builtin_of_this_test")
    assert before.guard()
    monkeypatch.setattr("builtins.a_builtin_of_this_test", 1, raising=False)
    assert not before.guard()


def test_a_builtin_that_is_shadowed_in_a_helpers_module_is_seen():
    helpers = load("def g(x): return len(x)", "helpers")
    before = of("import helpers\ndef f(x): return helpers.g(x)")
    assert before.guard()
    helpers.len = max
    assert not before.guard()


def test_an_empty_cell_that_is_filled_is_seen():
    f = load("def make():\n    def f(): return later\n    if 0: later = 1\n    return f\nf = make()").f
    before = reach(f)
    assert before.guard()
    assert before.open
    f.__closure__[0].cell_contents = 1
    assert not before.guard()
    assert reach(f).stream != before.stream


def test_a_module_that_is_imported_later_is_seen():
    program = load("def f(x):\n    from helpers import g\n    return g(x)")
    before = reach(program.f)
    assert before.guard()
    load("def g(x): return x", "helpers")
    assert not before.guard()
    one = reach(program.f)
    load("def g(x): return -x", "helpers")
    assert not one.guard()
    assert reach(program.f).stream != one.stream


@pytest.mark.parametrize(
    "names", ["guard", "_", "_0", "_1", "Exception", "True_", "_00", "define", "self", "é", "x" * 300]
)
def test_a_global_of_any_name_is_guarded(names):
    program = load(f"{names} = 1\ndef f(): return {names}")
    before = reach(program.f)
    assert before.guard()
    setattr(program, names, 2)
    assert not before.guard()


def test_a_model_that_becomes_none_is_seen_even_when_it_is_gone():
    """A value that was held weakly reads as None: that is not the None that the name stands for now."""
    program = load("class M: pass\nmodel = M()\ndef f(): return model")
    before = reach(program.f)
    assert before.guard()
    program.model = None
    gc.collect()
    assert not before.guard()


def test_a_reach_keeps_no_model_alive():
    source = "class M: pass\nmodel = M()\ndef make(m):\n    def g(): return m\n    return g\n"
    program = load(source + "closed = make(M())\ndef f(): return model, closed()")
    seen = [weakref.ref(program.model), weakref.ref(program.closed.__closure__[0].cell_contents)]
    found = reach_of(program.f)
    assert {type(one.value).__name__ for one in found.captured} == {"M"}
    del program.model, program.closed
    gc.collect()
    assert [one() for one in seen] == [None, None]
    assert not found.guard()


def test_a_closure_that_nobody_holds_is_gone_though_it_was_followed():
    make = load("def make(m):\n    def g(n): return g(n - 1) if n else m\n    return g").make
    f = make([1])
    gone = weakref.ref(f)
    assert reach_of(f) is reach_of(f)
    del f
    gc.collect()
    assert gone() is None


EFFECTS = {
    "a global": ("n = 0\ndef f(x):\n    global n\n    n += 1\n    return x", "n"),
    "a global that is deleted": ("n = 0\ndef f(x):\n    global n\n    n = 1\n    del n\n    return x", "n"),
    "a global of a helper": ("n = 0\ndef g():\n    global n\n    n += 1\ndef f(x):\n    g()\n    return x, n", "n"),
    "a variable of a closure": (
        "def make(n=0):\n    def f(x):\n        nonlocal n\n        n += 1\n        return n\n    return f\nf = make()",
        "f:n",
    ),
    "an attribute of a module": ("import helpers\ndef f(x):\n    helpers.n = x\n    return helpers.n", "helpers.n"),
    "an attribute that is added to": ("import helpers\ndef f(x):\n    helpers.n += x\n    return 1", "helpers.n"),
    "an attribute of a class": ("class A:\n    n = 0\ndef f(x):\n    A.n += 1\n    return x", "A.n"),
    "an attribute of a function": ("def f(x):\n    f.n = f.n + 1\n    return x\nf.n = 0", "f.n"),
    "a counter of a function": ("def g(x):\n    g.n += 1\n    return x\ng.n = 0\ndef f(x): return g(x)", "g.n"),
}


@pytest.mark.parametrize(("source", "path"), EFFECTS.values(), ids=EFFECTS)
def test_what_the_code_itself_binds_anew_is_an_effect_and_no_input(source, path):
    load("n = 0", "helpers")
    f = load(source).f
    before = reach(f)
    assert before.effects == (path,)
    with suppress(NameError):
        f(1)
    assert before.guard()
    assert reach(f).stream == before.stream


def test_a_name_that_is_only_read_is_no_effect():
    found = of("n = 0\ndef f(x):\n    n = x\n    return n\ndef g():\n    global n\n    n = 1")
    assert found.effects == ()


def test_a_container_that_is_known_to_be_an_effect_is_left_out():
    program = load("log = []\nkeep = []\ndef f(x):\n    log.append(x)\n    return keep")
    found = reach(program.f, frozenset({"log"}))
    assert [one.path for one in found.captured] == ["keep"]
    assert found.effects == ("log",)


def test_two_values_have_two_paths():
    """A path that is said to be an effect stands for one value."""
    load("table = [1]\ndef g(): return table", "helpers")
    load("table = [2]\ndef h(): return table", "another")
    found = of("import helpers, another\ntable = [3]\ndef f(): return table, helpers.g(), another.h()")
    assert sorted(one.path for one in found.captured) == ["another.table", "helpers.table", "table"]


def test_variables_of_two_closures_have_two_paths():
    source = "def make(t):\n    def g(): return t\n    return g\na, b = make([1]), make([2])\ndef f(): return a(), b()"
    assert len({one.path for one in of(source).captured}) == 2


CLOSED = [
    "def f(n): return n if n < 2 else f(n - 1) + f(n - 2)",
    "def f(x): return (x * 2 + 1) ** 3 // 4",
    "import math\ndef f(x): return math.sin(x) + math.pi",
    "from math import sin\ndef f(x): return sin(x)",
    "def f(x): return x + 'text'",
    "def f(x): return len(str(x)) + sum(range(x))",
    "K = 3\ndef g(x): return x * K\ndef f(x): return g(x) + max(g(1), 2)",
    "def f(xs): return [x + 1 for x in xs]",
    "def f(n): return sum(x for x in range(n))",
    "LIMITS = (1, 2)\ndef f(x): return LIMITS[0] + x",
    "import helpers\nfrom helpers import g\ndef f(x): return g(x)",
    "def make(k):\n    def g(x): return x * k\n    return g\ng = make(2)\ndef f(x): return g(x)",
]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="what is called cannot be told there: all that call are open")
@pytest.mark.parametrize("source", CLOSED)
def test_what_reaches_nothing_else_is_closed(source):
    load("def g(x): return x + 1", "helpers")
    assert not of(source).open


OPEN = [
    "def f(x): return x.method()",
    "def f(g): return g(1)",
    "def f(x): return x.attribute",
    "def f(x): return eval(x)",
    "def f(x): return getattr(x, 'a')",
    "def f(x): return __import__(x)",
    "def g(x): return g\ndef f(x): return g(x)(x)",
    "LATER = []\ndef f(x): return LATER[0] + x",
    "OPERATIONS = [len]\ndef f(x): return OPERATIONS[0](x)",
    "OPERATIONS = {'a': [len]}\ndef f(x): return OPERATIONS['a'][0](x)",
    "def f(x):\n    import torch\n    return 1",
    "def f(x):\n    import a_module_that_is_not_there\n    return 1",
    "def f(x):\n    from importlib import import_module\n    return 1",
    "import importlib\ndef f(x): return importlib.import_module(x)",
    "import sys\ndef f(x): return sys.modules",
    "import pickle\ndef f(x): return pickle.loads(x)",
    "import torch\ndef f(x): return torch.relu(x)",
    "import torch\nw = torch.ones(1)\ndef f(x): return w + x",
    "import torch\nws = [torch.ones(1)]\ndef f(x): return ws[0] + x",
    "import numpy as np\ndef f(x): return np.add(x, x)",
    "from numpy import add\ndef f(x): return add(x, x)",
    "def f(x): return not_there(x)",
    "class A: pass\na = A()\ndef f(x): return a + x",
    "def g(h): return h(1)\ndef f(x): return g(x)",
    "def f(x):\n    return (lambda g: g(x))(x)",
    "def f(x):\n    match x:\n        case int(real=1): return 1",
]


@pytest.mark.parametrize("source", OPEN)
def test_what_cannot_be_told_is_open(source):
    assert of(source).open


def test_a_guard_tells_what_it_was_made_with():
    program = load("K = 1\ndef f(): return K")
    tell = reach(program.f).guards.check().built("this one")
    assert tell() == "this one"
    program.K = 2
    assert tell() is None


MEMOIZED = "def g(x): return x + {0}\ng = wrap(g)\ndef f(x): return g(x)"


def test_a_memoized_helper_is_what_it_remembers():
    memoized, plain = (of(MEMOIZED.format(1), wrap=wrap) for wrap in (memo, lambda f: f))
    assert memoized.stream == plain.stream
    assert of(MEMOIZED.format(2), wrap=memo).stream != plain.stream
    assert (
        reach(load(MEMOIZED.format(1), wrap=memo).g).stream
        == reach(load(MEMOIZED.format(1), wrap=lambda f: f).g).stream
    )


WRAPPERS = {
    "lru_cache": functools.lru_cache,
    "singledispatch": functools.singledispatch,
    "partial": functools.partial,
    "a library's wrapper": lambda f: import_module("torch").no_grad()(f),
    "a library's wrapper that hides what it wraps": lambda f: _hidden(f),
    "staticmethod": staticmethod,
    "a bound method": lambda f: types.MethodType(f, 1),
    "a partial of a partial": lambda f: functools.partial(functools.partial(f, 1), 2),
    "a tuple": lambda f: (f, 1),
    "a tuple in a tuple": lambda f: ((f,), 1),
}


def _hidden(f):
    from contextlib import ContextDecorator

    class Nothing(ContextDecorator):
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    made = Nothing()(f)
    del made.__wrapped__
    made.__module__ = "contextlib"
    return made


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_what_a_wrapper_wraps_is_followed(wrap):
    source = "def g(*x): return {0}\ng = wrap(g)\ndef f(x): return g"
    one, other = (of(source.format(constant), wrap=wrap).stream for constant in (1, 2))
    assert one != other
    assert one == of(source.format(1), wrap=wrap).stream


def test_functions_that_call_each_other_end():
    source = "def f(n): return g(n - 1)\ndef g(n): return h(n)\ndef h(n): return f(n) + g({0})"
    assert of(source.format(1)).stream == of(source.format(1)).stream
    assert of(source.format(1)).stream != of(source.format(2)).stream


def test_a_chain_of_three_thousand_functions_is_followed_to_its_end():
    source = "\n".join(f"def f{index}(x): return f{index + 1}(x)" for index in range(3000))
    one, other = (of(f"{source}\ndef f3000(x): return {constant}", "f0") for constant in (1, 2))
    assert one.stream != other.stream
    assert one.guard()


def test_values_within_values_are_followed_to_any_depth():
    source = "def g(x): return x\nfor _ in range(5000): g = wrap(g)\ndef f(x): return g"
    for wrap in (lambda f: (f,), functools.lru_cache, staticmethod):
        assert of(source, wrap=wrap).guard()


def test_equal_constants_are_the_same_whether_or_not_they_are_one_object():
    one = of("A = (1, 'b')\nB = A\ndef f(): return A, B")
    two = of("A = tuple([1, 'b'])\nB = tuple([1, 'b'])\ndef f(): return A, B")
    assert one.stream == two.stream


def test_two_names_for_one_list_are_told_from_two_equal_lists():
    assert state(of("A = [1]\nB = A\ndef f(): return A, B")) != state(of("A = [1]\nB = [1]\ndef f(): return A, B"))


def test_a_module_that_is_given_on_as_a_whole_is_looked_into_as_a_whole():
    program = "import helpers\ndef f(x): return getattr(helpers, x)()"
    streams = set()
    for constant in (1, 2):
        helpers = load(f"def g(): return {constant}", "helpers")
        found = of(program)
        streams.add(found.stream)
        assert found.guard()
        helpers.g = len
        assert not found.guard()
    assert len(streams) == 2


@pytest.mark.parametrize("body", ["eval(x)", "globals()[x]", "exec(x)"])
def test_code_that_asks_for_any_global_depends_on_all(body):
    program = load(f"def g(): return 1\ndef f(x): return {body}")
    found = reach(program.f)
    program.g = len
    assert not found.guard()


def test_an_import_within_the_body_binds_a_name_that_is_followed():
    bodies = [
        "import helpers\n    return helpers.g(x)",
        "import helpers as h\n    return h.g(x)",
        "from helpers import g\n    return g(x)",
        "from helpers import g as q\n    return q(x)",
        "import helpers.inner\n    return helpers.g(x)",
        "import helpers.inner as i\n    return i.g(x)",
        "from helpers import inner\n    return inner.g(x)",
        "from helpers import other, inner\n    return inner.g(x)",
        "from helpers.inner import g\n    return g(x)",
        "import helpers\n    return (lambda: helpers.g(x))()",
        "global helpers\n    import helpers\n    return helpers.g(x)",
        "from . import inner\n    return inner.g(x)",
        "from .inner import g\n    return g(x)",
        "import helpers; return helpers.g(x)",
        "import helpers.inner.most as m\n    return m.g(x)",
    ]
    for body in bodies:
        streams = set()
        for constant in (1, 2):
            inner = load(f"def g(x): return x + {constant}", "helpers.inner")
            inner.most = load(f"def g(x): return x + {constant}", "helpers.inner.most")
            load(f"def g(x): return x + {constant}\nother = 1", "helpers").inner = inner
            streams.add(of(f"def f(x):\n    {body}", "f", __package__="helpers").stream)
        assert len(streams) == 2, body
    del sys.modules["helpers.inner"], sys.modules["helpers.inner.most"]


def test_a_librarys_module_is_known_by_its_version(monkeypatch):
    from memograd.fingerprint import _origin

    source = "import torch\nimport torch.nn.functional as F\ndef f(x): return F.relu(torch.sin(x))"
    before = of(source)
    assert b"torch" in before.stream
    assert before.guard()
    monkeypatch.setitem(_origin._libraries, "torch", "torch 99.0")
    assert of(source).stream != before.stream


def test_a_users_function_that_was_put_into_a_library_is_followed(monkeypatch):
    functional = import_module("torch.nn.functional")
    found = of("import torch.nn.functional as F\ndef f(x): return F.relu(x)")
    monkeypatch.setattr(functional, "relu", load("def relu(x): return 1", "another").relu)
    assert not found.guard()
    assert of("import torch.nn.functional as F\ndef f(x): return F.relu(x)").stream != found.stream


def test_a_training_step_captures_its_model_and_nothing_of_torch():
    import_module("torch")
    source = (
        "import torch\nfrom torch import nn, float32\nimport torch.nn.functional as F\nimport numpy as np\n"
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.a = nn.Linear(2, 2)\n"
        "    def forward(self, x): return F.relu(self.a(x)) * {0}\n"
        "model = Net()\n"
        "def f(x):\n    with torch.no_grad():\n"
        "        return model(torch.as_tensor(np.add(x, np.pi), dtype=torch.float32)).to(float32)"
    )
    found = of(source.format(1))
    assert [one.path for one in found.captured] == ["model"]
    assert found.open
    assert found.guard()
    assert found.stream == of(source.format(1)).stream != of(source.format(2)).stream


CAPTURED = {
    "a lock": "import threading\nvalue = threading.Lock()",
    "a logger": "import logging\nvalue = logging.getLogger('x')",
    "a tensor": "import torch\nvalue = torch.ones(2)",
    "an array": "import numpy\nvalue = numpy.ones(2)",
    "an instance": "class A: pass\nvalue = A()",
    "a list": "value = [1]",
    "a tuple of a list": "value = ([1],)",
    "a deque": "import collections\nvalue = collections.deque([1])",
    "a generator": "value = (x for x in [1])",
    "an instance with slots": "class A: __slots__ = ('a',)\nvalue = A()",
    "an instance that lies about its class": (
        "class A:\n    @property\n    def __class__(self): raise ValueError\nvalue = A()"
    ),
    "an instance whose attributes raise": (
        "class A:\n    def __getattribute__(self, name): raise ValueError\nvalue = A()"
    ),
    "an instance that equals nothing": "class A:\n    def __eq__(self, other): raise ValueError\nvalue = A()",
    "a random state": "import random\nvalue = random.Random(1)",
}


@pytest.mark.parametrize("source", CAPTURED.values(), ids=CAPTURED)
def test_what_may_change_in_place_is_captured(source):
    program = load(f"{source}\ndef f(): return value")
    found = reach(program.f)
    (captured,) = found.captured
    expected = program.value[0] if type(program.value) is tuple else program.value
    assert captured.value is expected
    assert captured.path.startswith("value")
    assert found.guard()


FIXED = {
    "a method of random": "import random\ndef f(): return random.random()",
    "a function of random": "from random import random\ndef f(): return random()",
    "a bound method of random": "from random import uniform\ndef f(): return uniform(1, 2)",
    "a method of numpy's random": "import numpy as np\ndef f(): return np.random.rand(1)",
    "a ufunc": "from numpy import add\ndef f(): return add(1, 2)",
    "a dtype": "from torch import float32\ndef f(): return float32",
    "a function of torch": "from torch import relu\ndef f(): return relu",
    "a sentinel": "value = object()\ndef f(x=value): return x is value",
    "typing": "from typing import *\nT = TypeVar('T')\nA = Optional[List[int]]\ndef f(): return T, A, Any, Union",
    "a generic class": (
        "from typing import *\nT = TypeVar('T')\nclass A(Generic[T]):\n    def g(self): pass\ndef f(): return A"
    ),
    "a protocol": (
        "from typing import *\n@runtime_checkable\nclass A(Protocol):\n    def g(self): pass\ndef f(): return A"
    ),
    "an abstract class": (
        "import abc\nclass A(abc.ABC):\n    @abc.abstractmethod\n    def g(self): pass\ndef f(): return A"
    ),
    "a flag": "import enum\nclass A(enum.Flag):\n    X = 1\n    Y = 2\nboth = A.X | A.Y\ndef f(): return both, A.X",
    "a pattern": "import re\nvalue = re.compile('a+')\ndef f(): return value",
    "slots": "class A:\n    __slots__ = ['a']\ndef f(): return A",
    "a frozenset": "value = frozenset({1, 'a'})\ndef f(): return value",
    "a named tuple": "from collections import namedtuple\nA = namedtuple('A', 'x y')\ndef f(): return A(1, 2)",
    "a singleton": "def f(): return NotImplemented, Ellipsis, __debug__, __name__",
    "a method of a string": "join = ', '.join\ndef f(): return join",
    "a range": "value = range(3)\ndef f(): return value",
    "a module of the standard library": "import math\ndef f(): return math",
}


@pytest.mark.parametrize("source", FIXED.values(), ids=FIXED)
def test_what_never_changes_is_written_down_and_not_looked_at_again(source):
    found = of(source)
    assert found.captured == ()
    assert found.guard()
    assert found.stream == of(source).stream


def test_a_class_that_is_made_at_run_time_is_followed():
    """Its module is often that of the library that made it."""
    source = "import dataclasses\nA = dataclasses.make_dataclass('A', [('x', int, {0})])\ndef f(): return A()"
    assert of(source.format(1)).stream != of(source.format(2)).stream


def test_a_class_can_be_followed_by_itself():
    source = "class A:\n    def g(self): return {0}"
    one, other = load(source.format(1)).A, load(source.format(2)).A
    assert reach_of(one).stream != reach_of(other).stream
    assert reach_of(one) is reach_of(one)
    found = reach_of(one)
    one.g = other.g
    assert reach_of(one) is not found


def test_many_classes_are_not_kept_for_ever():
    gone = weakref.ref(load("class A:\n    def g(self): return super().g()").A)
    reach_of(gone())
    for _ in range(300):
        reach_of(type("B", (), {}))
    sys.modules.pop("program")
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("body", ["os.environ['V']", "os.environ.get('V')", "os.getenv('V')"])
def test_the_environment_is_read_at_every_call(body, monkeypatch):
    found = of(f"import os\ndef f(): return {body}")
    monkeypatch.setenv("A_VARIABLE_OF_THIS_TEST", "1")
    before = [content(one.value) for one in found.captured]
    monkeypatch.setenv("A_VARIABLE_OF_THIS_TEST", "2")
    assert [content(one.value) for one in found.captured] != before


def test_a_users_compiled_function_is_known_by_its_file(tmp_path, monkeypatch):
    from memograd.fingerprint import _origin

    file = tmp_path / f"compiled{_origin.EXTENSION_SUFFIXES[0]}"
    module = load("", "another")
    module.__file__ = str(file)
    streams = set()
    for data in (b"one", b"two"):
        file.write_bytes(data)
        _origin.binary_of.cache_clear()
        streams.add(_origin.binary_of("another"))
    assert len(streams) == 2
    assert "" not in streams


@pytest.mark.parametrize("getter", ["itemgetter(0)", "attrgetter('a.b')", "methodcaller('m', 1, k=2)"])
def test_a_getter_is_known_by_its_arguments(getter):
    source = "import operator\nget = operator.{0}\ndef f(x): return get(x)"
    found = of(source.format(getter))
    assert found.captured == ()
    assert found.stream == of(source.format(getter)).stream != of(source.format("itemgetter(9)")).stream


def test_a_model_in_the_closure_of_a_librarys_wrapper_is_captured():
    torch = import_module("torch")
    model = torch.nn.Linear(2, 2)
    found = of("def f(x): return mapped(x)", mapped=torch.func.vmap(model))
    assert any(one.value is model for one in found.captured)


def test_a_global_without_a_proper_name_does_no_harm():
    program = load("def f(x): return eval(x)")
    program.__dict__[1] = 2
    assert reach(program.f).guard()


def test_code_that_cannot_be_read_has_no_identity():
    f = load("def f(): return 'constant'").f
    f.__code__ = f.__code__.replace(co_consts=(None, object()))
    with pytest.raises(NoIdentityError, match="could not be read"):
        reach(f)


def test_two_functions_of_one_code_differ_by_their_closures():
    make = load("def make(k):\n    def f(x): return x + k\n    return f").make
    assert reach(make(1)).stream == reach(make(1)).stream != reach(make(2)).stream


def test_which_of_two_variables_an_inner_function_reads_is_seen():
    source = "def make(a, b):\n    def f(): return {0}\n    return f\nf = make([1], [2])"
    assert state(of(source.format("a, b"))) != state(of(source.format("b, a")))


def test_an_attribute_of_a_function_is_followed():
    source = "def g(x): return x * g.factor\ng.factor = {0}\ndef f(x): return g(x)"
    program = load(source.format(1))
    found = reach(program.f)
    assert found.stream != of(source.format(2)).stream
    program.g.factor = 3
    assert not found.guard()


def test_a_module_that_computes_its_attributes_is_not_asked_for_them():
    load("asked = []\ndef __getattr__(name):\n    asked.append(name)\n    return 1", "helpers")
    found = of("import helpers\ndef f(): return helpers.whatever")
    assert sys.modules["helpers"].asked == []
    assert found.open
    assert found.guard()


def test_following_runs_no_code_of_the_users():
    source = (
        "ran = []\nclass A:\n    def __getattr__(self, name): ran.append(name); raise AttributeError(name)\n"
        "    def __eq__(self, other): ran.append('eq'); return True\n"
        "    def __hash__(self): ran.append('hash'); return 1\n"
        "    def __repr__(self): ran.append('repr'); return ''\n"
        "    def __bool__(self): ran.append('bool'); return True\n"
        "    def __call__(self): ran.append('call')\n    def __len__(self): ran.append('len'); return 1\n"
        "    def __get__(self, *args): ran.append('get')\n"
        "value = A()\nclass B:\n    held = value\ndef f(x=value): return value, B, value.b, [value]"
    )
    program = load(source)
    assert reach(program.f).guard()
    assert program.ran == []


def test_following_leaves_random_streams_alone():
    before = random.getstate()
    of("import random\ndef f(): return random.random(), random.Random(1)")
    assert random.getstate() == before


def test_threads_follow_one_function_at_once():
    f = programs().f
    found = together(*[lambda: state(reach_of(f))] * 8)
    assert all(one == found[0] for one in found)


def test_a_typical_function_is_followed_in_less_than_a_hundred_milliseconds():
    """It takes some 16 ms for fifty functions and classes, on a machine that does nothing else."""
    f = programs().f
    reach(f)
    began = process_time()
    reach(f)
    assert process_time() - began < 0.1


def test_constants_of_the_standard_library_are_read():
    assert math.pi == 3.141592653589793
    assert of("import math\ndef f(): return math.pi").stream != of("import math\ndef f(): return math.tau").stream


def test_what_is_asked_of_another_object_asks_nothing_of_functions():
    """A guard that looked at all functions for the sake of `model.eval()` would make every hit slower."""
    program = load("def g(x): return x\ndef f(x, model):\n    model.eval()\n    model.name\n    return g(x)")
    found = reach(program.f)
    program.g.note = 1
    assert found.guard()
    assert reach(program.f).stream == found.stream
    assert "__dict__" not in found.guards.check().condition


def test_a_function_may_count_itself_where_code_asks_for_attributes():
    source = "def g(x):\n    g.n += 1\n    return x\ng.n = 0\ndef f(x): return g(x) + getattr(x, 'real')"
    f = load(source).f
    before = reach(f)
    assert before.effects == ("g.n",)
    f(1)
    assert before.guard()
    assert reach(f).stream == before.stream
