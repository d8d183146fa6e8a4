"""What code reads is changed while the program runs, in place or bound anew, and the next call is another call."""

from __future__ import annotations

import tempfile

import pytest
from tests.promises.never_stale.edits import assert_another_call, run, started

# A program, and a statement that is run in it afterwards: what was bound is changed in place, or bound anew.
CHANGED = {
    "an append to a list": ("T = [1]\ndef f(x): return sum(T)", "T.append(2)"),
    "an item of a list in a dictionary": ("T = {'a': [1]}\ndef f(x): return T['a'][0]", "T['a'][0] = 2"),
    "a list in a tuple": ("T = ([1],)\ndef f(x): return T[0][0]", "T[0][0] = 2"),
    "a list that another name stands for": ("T = [1]\nU = T\ndef f(x): return sum(T)", "U.append(2)"),
    "an element of an array": ("import numpy as np\nA = np.ones(2)\ndef f(x): return A.sum()", "A[0] = 5"),
    "an element of a tensor": ("import torch\nA = torch.ones(2)\ndef f(x): return A.sum().item()", "A[0] = 5"),
    "the data of a tensor": ("import torch\nA = torch.ones(2)\ndef f(x): return A.sum().item()", "A.data += 5"),
    "a weight": (
        "import torch\nM = torch.nn.Linear(1, 1)\ndef f(x): return M(torch.ones(1)).item()",
        "M.weight.data += 1",
    ),
    "a model's mode": (
        "import torch\nM = torch.nn.Dropout(1.0)\ndef f(x): return M(torch.ones(1)).item()",
        "M.eval()",
    ),
    "an attribute of an object": ("class A: pass\na = A()\na.n = 1\ndef f(x): return a.n", "a.n = 2"),
    "a list of an object": ("class A: pass\na = A()\na.n = [1]\ndef f(x): return a.n[0]", "a.n[0] = 2"),
    "the class of an object": ("class A: n = 1\nclass B: n = 2\na = A()\ndef f(x): return a.n", "a.__class__ = B"),
    "an object in a set": ("class A: n = 1\nT = {A()}\ndef f(x): return [a.n for a in T]", "for a in T: a.n = 2"),
    "what a mapping shows": (
        "import types\nT = {'a': 1}\nP = types.MappingProxyType(T)\ndef f(x): return P['a']",
        "T['a'] = 2",
    ),
    "an attribute of a class": ("class A: n = 1\ndef f(x): return A.n", "A.n = 2"),
    "an attribute of the class of an object": ("class A: n = 1\na = A()\ndef f(x): return a.n", "A.n = 2"),
    "a list of a class": ("class A: n = [1]\na = A()\ndef f(x): return a.n[0]", "A.n[0] = 2"),
    "a method": ("class A:\n    def g(self): return 1\ndef f(x): return A().g()", "A.g = lambda self: 2"),
    "a method's code": (
        "class A:\n    def g(self): return 1\ndef f(x): return A().g()",
        "A.g.__code__ = (lambda self: 2).__code__",
    ),
    "a base class": ("class A: n = 1\nclass B: n = 2\nclass C(A): pass\ndef f(x): return C.n", "C.__bases__ = (B,)"),
    "a default": ("def f(x, y=1): return y", "f.__defaults__ = (2,)"),
    "a default that is a list": ("def f(x, y=[1]): return y[0]", "f.__defaults__[0][0] = 2"),
    "a helper's code": ("def g(x): return 1\ndef f(x): return g(x)", "g.__code__ = (lambda x: 2).__code__"),
    "an attribute of a function": ("def g(x): return g.n\ng.n = 1\ndef f(x): return g(x)", "g.n = 2"),
    "an attribute of a function by its name": (
        "def g(x): return x\ng.n = 1\ndef f(x): return getattr(g, 'n')",
        "g.n = 2",
    ),
    "an attribute of a function in its dictionary": (
        "def g(x): return x\ng.n = 1\ndef f(x): return vars(g)['n']",
        "g.n = 2",
    ),
    "an attribute of a function of another name": (
        "def g(x): return x\ng.n = 1\ndef f(x):\n    h = g\n    return h.n",
        "g.n = 2",
    ),
    "an attribute of a default": ("def g(x): return x\ng.n = 1\ndef f(x, h=g): return h.n", "g.n = 2"),
    "an attribute of a function in a tuple": (
        "def g(x): return x\ng.n = 1\nT = (g,)\ndef f(x): return T[0].n",
        "g.n = 2",
    ),
    "a list that a function holds": (
        "def g(x): return x\ng.n = [1]\ndef f(x):\n    h = g\n    return len(h.n)",
        "g.n.append(2)",
    ),
    "an attribute of a method": (
        "class A:\n    def g(self): return 1\n    g.n = 1\ndef f(x): return A.g.n",
        "A.g.n = 2",
    ),
    "an attribute of a method of an object": (
        (
            "class A:\n    def g(self): pass\n    g.n = 1\n    def h(self): return self.g.n\n"
            "a = A()\ndef f(x): return a.h()"
        ),
        "A.g.n = 2",
    ),
    "an attribute that a function has not got yet": (
        "def g(x): return x\nT = (g,)\ndef f(x): return getattr(T[0], 'n', 1)",
        "g.n = 2",
    ),
    "an attribute whose lack is handled": (
        "def g(x): return x\ndef f(x):\n    h = g\n    try: return h.n\n    except AttributeError: return 1",
        "g.n = 2",
    ),
    "an attribute of a partial": (
        "import functools\ng = functools.partial(max, 1)\ng.n = 1\ndef f(x): return g.n",
        "g.n = 2",
    ),
    "an attribute of what functools keeps": (
        "import functools\n@functools.lru_cache\ndef g(x): return x\ng.n = 1\ndef f(x): return g.n",
        "g.n = 2",
    ),
    "an attribute of what is remembered": (
        "import memograd\n@memograd.memo\ndef g(x): return x\ng.n = 1\ndef f(x):\n    h = g\n    return h.n",
        "g.n = 2",
    ),
    "an attribute that a getter gets": (
        "import operator\ndef g(x): return x\ng.n = 1\nn = operator.attrgetter('n')\ndef f(x): return n(g)",
        "g.n = 2",
    ),
    "how a module computes its attributes": (
        (
            "import sys, types\nh = types.ModuleType('helpers_under_edit')\nsys.modules[h.__name__] = h\n"
            "h.__getattr__ = lambda name: 1\ndef f(x): return h.anything"
        ),
        "h.__getattr__ = lambda name: 2",
    ),
    "that a module computes its attributes": (
        (
            "import sys, types\nh = types.ModuleType('helpers_under_edit')\nsys.modules[h.__name__] = h\n"
            "def f(x):\n    try: return h.anything\n    except AttributeError: return 1"
        ),
        "h.__getattr__ = lambda name: 2",
    ),
    "what an object keeps of a property": (
        (
            "import functools\nclass A:\n    @functools.cached_property\n    def t(self): return [1]\n"
            "a = A(); a.t\ndef f(x): return len(a.t)"
        ),
        "a.t.append(2)",
    ),
    "what stands in place of a property that is kept": (
        (
            "import functools\nclass A:\n    @functools.cached_property\n    def t(self): return 1\n"
            "a = A()\ndef f(x): return a.t"
        ),
        "a.t = 5",
    ),
    "what an abstract class takes for its own": (
        "import abc\nclass A(abc.ABC): pass\ndef f(x): return isinstance(x, A)",
        "A.register(int)",
    ),
    "what a library's abstract class takes for its own": (
        "import collections.abc\nclass A: pass\na = A()\ndef f(x): return isinstance(a, collections.abc.Sequence)",
        "collections.abc.Sequence.register(A)",
    ),
    "an attribute of a member of an enum": (
        "import enum\nclass E(enum.Enum):\n    A = 1\nE.A.note = 1\ndef f(x): return E.A.note",
        "E.A.note = 2",
    ),
    "an attribute that a member of an enum has not got yet": (
        "import enum\nclass E(enum.Enum):\n    A = 1\ndef f(x): return getattr(E.A, 'note', 1)",
        "E.A.note = 2",
    ),
    "an attribute of an enum": (
        "import enum\nclass E(enum.Enum):\n    A = 1\nE.note = 1\ndef f(x): return E.note",
        "E.note = 2",
    ),
    "the default of a field": (
        "import dataclasses as d\n@d.dataclass\nclass P:\n    a: int = 1\ndef f(x): return d.fields(P)[0].default",
        "d.fields(P)[0].default = 2",
    ),
    "a docstring": ("def g(x): 'a'\ndef f(x): return g.__doc__", "g.__doc__ = 'b'"),
    "the name of a function": ("def g(x): return x\ndef f(x): return g.__name__", "g.__name__ = 'h'"),
    "the name of a class": ("class A: pass\ndef f(x): return type(A()).__qualname__", "A.__qualname__ = 'B'"),
    "an annotation": ("def g(x: int): return x\ndef f(x): return g.__annotations__", "g.__annotations__['x'] = str"),
    "annotations that are asked of typing": (
        "import typing\ndef g(x: int): return x\ndef f(x): return typing.get_type_hints(g)",
        "g.__annotations__ = {'x': str}",
    ),
    "a cell": (
        "def make(n):\n    def g(x): return n\n    return g\nf = make(1)",
        "f.__closure__[0].cell_contents = 2",
    ),
    "what a cell holds": (
        "def make(n):\n    def g(x): return n[0]\n    return g\nf = make([1])",
        "f.__closure__[0].cell_contents[0] = 2",
    ),
    "the object of a bound method": (
        "class A:\n    n = 1\n    def g(self): return self.n\na = A()\ng = a.g\ndef f(x): return g()",
        "a.n = 2",
    ),
    "an argument of a partial": (
        "import functools\nT = [1]\ng = functools.partial(sum, T)\ndef f(x): return g()",
        "T.append(2)",
    ),
    "a keyword of a partial": (
        "import functools\ng = functools.partial(dict, a=1)\ndef f(x): return g()",
        "g.keywords['a'] = 2",
    ),
    "the module that an import within finds": (
        (
            "import sys, types\nhelpers_under_edit = types.ModuleType('helpers_under_edit')\nhelpers_under_edit.n = 1\n"
            "sys.modules['helpers_under_edit'] = helpers_under_edit\n"
            "def f(x):\n    import helpers_under_edit as h\n    return h.n"
        ),
        "other = types.ModuleType('helpers_under_edit'); other.n = 2; sys.modules['helpers_under_edit'] = other",
    ),
    "what is dispatched to": (
        "import functools\n@functools.singledispatch\ndef g(x): return 0\ndef f(x): return g(x)",
        "g.register(int, lambda x: 2)",
    ),
    "an object of the user's that is called by C": (
        "class A:\n    n = 1\n    def __call__(s, x): return x + s.n\na = A()\ndef f(x): return list(map(a, [x]))",
        "a.n = 2",
    ),
    "a global that is asked for by name": ("n = 1\ndef f(x): return globals()['n']", "n = 2"),
    "a global that was not there": ("def f(x):\n    try: return later\n    except NameError: return 1", "later = 2"),
    "a global that is gone": ("n = 2\ndef f(x):\n    try: return n\n    except NameError: return 1", "del n"),
    "a random stream of one's own": ("import random\nr = random.Random(1)\ndef f(x): return r.getstate()", "r.seed(2)"),
    "the environment": (
        "import os\ndef f(x): return os.environ.get('A_VARIABLE_OF_THIS_TEST')",
        "os.environ['A_VARIABLE_OF_THIS_TEST'] = '1'",
    ),
    "a home that is looked up": (
        "import os\ndef f(x): return os.path.expanduser('~/a')",
        "os.environ['HOME'] = '/nowhere'",
    ),
    "a variable in a path": (
        "import os\nfrom os.path import expandvars\ndef f(x): return expandvars('$A_VARIABLE_OF_THIS_TEST')",
        "os.environ['A_VARIABLE_OF_THIS_TEST'] = '1'",
    ),
    "the home of a path": (
        "import os\nfrom pathlib import Path\ndef f(x): return Path.home()",
        "os.environ['HOME'] = '/nowhere'",
    ),
    "a path that is expanded": (
        "import os, pathlib\np = pathlib.Path('~')\ndef f(x): return p.expanduser()",
        "os.environ['HOME'] = '/nowhere'",
    ),
    "a directory for what is temporary": (
        "import os, tempfile\ndef f(x): return tempfile.gettempdir()",
        "os.environ['TMPDIR'] = '/var'; tempfile.tempdir = None",
    ),
}


@pytest.fixture(autouse=True)
def _surroundings_of_their_own(monkeypatch):
    monkeypatch.setenv("A_VARIABLE_OF_THIS_TEST", "0")
    for name in ("HOME", "TMPDIR"):
        monkeypatch.setenv(name, "/tmp")  # noqa: S108 - a name that no file is opened by
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.mark.parametrize("name", CHANGED)
def test_a_change_while_the_program_runs_is_another_call(name):
    source, change = CHANGED[name]
    assert_another_call(started(source), lambda: run(change))
