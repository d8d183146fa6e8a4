"""One edit of what code reaches, in its own module or in another, and every call of it is another call."""

from __future__ import annotations

import pytest
from tests.promises.never_stale.edits import (
    MODULES,
    assert_another_call,
    assert_edit_makes_another_call,
    assert_edit_makes_another_function,
    edited,
    run,
    started,
)

_, HELPERS, DEEPER = MODULES

# What is run, and an edit of a text in it: of what the function reaches.
REACHED = {
    "a global number": ("RATE = 1\ndef f(x): return x * RATE", "1", "2"),
    "the type of a global": ("RATE = 1\ndef f(x): return x * RATE", "1", "1.0"),
    "a global text": ("UNIT = 'km'\ndef f(x): return f'{x} {UNIT}'", "km", "m"),
    "a number in a global tuple": ("RATES = (1, (2, 5))\ndef f(x): return x * RATES[1][1]", "5", "7"),
    "an item of a global list": ("TABLE = [1, 5]\ndef f(x): return x * TABLE[1]", "5", "7"),
    "a value of a global dictionary": ("TABLE = {'a': {'b': 5}}\ndef f(x): return TABLE['a']['b']", "5", "7"),
    "a global set": ("SEEN = {1, 5}\ndef f(x): return x in SEEN", "5", "3"),
    "a helper": ("def g(x): return x + 1\ndef f(x): return g(x)", "+ 1", "+ 2"),
    "a helper of a helper": (
        "def h(x): return x + 1\ndef g(x): return h(x)\ndef f(x): return g(x)",
        "+ 1",
        "+ 2",
    ),
    "a global of a helper": ("N = 1\ndef g(x): return x + N\ndef f(x): return g(x)", "1", "2"),
    "a default of a helper": ("def g(x, y=1): return x + y\ndef f(x): return g(x)", "y=1", "y=2"),
    "which helper a name stands for": (
        "def a(x): return x\ndef b(x): return -x\ng = a\ndef f(x): return g(x)",
        "g = a",
        "g = b",
    ),
    "a helper that is called by a comprehension": (
        "def g(x): return x + 1\ndef f(x): return [g(y) for y in (1, x)]",
        "+ 1",
        "+ 2",
    ),
    "a helper that is given on": ("def g(x): return x + 1\ndef f(x): return list(map(g, [x]))", "+ 1", "+ 2"),
    "a helper that calls itself": (
        "def g(x): return 1 if x == 0 else 2 * g(x - 1)\ndef f(x): return g(x)",
        "2 *",
        "3 *",
    ),
    "helpers that call each other": (
        "def g(x): return h(x - 1) if x else 1\ndef h(x): return -g(x)\ndef f(x): return g(x)",
        "-g(x)",
        "2 - g(x)",
    ),
    "a helper in a global list": ("def g(x): return x + 1\nALL = [g]\ndef f(x): return ALL[0](x)", "+ 1", "+ 2"),
    "a helper in a global dictionary": (
        "def g(x): return x + 1\nALL = {'g': g}\ndef f(x): return ALL['g'](x)",
        "+ 1",
        "+ 2",
    ),
    "a global of a helper in a dictionary": (
        "N = 1\ndef g(x): return x + N\nALL = {'g': g}\ndef f(x): return ALL['g'](x)",
        "N = 1",
        "N = 2",
    ),
    "a default that is a function": ("def g(x): return x + 1\ndef f(x, g=g): return g(x)", "+ 1", "+ 2"),
    "a method": ("class A:\n    def g(self, x): return x + 1\ndef f(x): return A().g(x)", "+ 1", "+ 2"),
    "a static method": (
        "class A:\n    @staticmethod\n    def g(x): return x + 1\ndef f(x): return A.g(x)",
        "+ 1",
        "+ 2",
    ),
    "a class method": (
        "class A:\n    @classmethod\n    def g(c, x): return x + 1\ndef f(x): return A.g(x)",
        "+ 1",
        "+ 2",
    ),
    "a property": (
        "class A:\n    @property\n    def g(self): return 1\ndef f(x): return A().g",
        "return 1",
        "return 2",
    ),
    "a property that is kept": (
        "import functools\nclass A:\n    @functools.cached_property\n    def g(self): return 1\ndef f(x): return A().g",
        "return 1",
        "return 2",
    ),
    "what an instance is made with": (
        "class A:\n    def __init__(self): self.n = 1\ndef f(x): return A().n",
        "n = 1",
        "n = 2",
    ),
    "an operator of a class": (
        "class A:\n    def __add__(self, other): return 1\ndef f(x): return A() + x",
        "return 1",
        "return 2",
    ),
    "an attribute that is computed": (
        "class A:\n    def __getattr__(self, name): return 1\ndef f(x): return A().g",
        "return 1",
        "return 2",
    ),
    "a descriptor": (
        "class D:\n    def __get__(self, *_): return 1\nclass A:\n    g = D()\ndef f(x): return A().g",
        "return 1",
        "return 2",
    ),
    "an attribute of a class": ("class A:\n    n = 1\ndef f(x): return A.n", "1", "2"),
    "a list of a class": ("class A:\n    n = [1]\ndef f(x): return A.n[0]", "1", "2"),
    "an attribute of a base class": ("class A:\n    n = 1\nclass B(A): pass\ndef f(x): return B().n", "1", "2"),
    "a method of a base class": (
        "class A:\n    def g(s): return 1\nclass B(A):\n    def g(s): return super().g()\ndef f(x): return B().g()",
        "return 1",
        "return 2",
    ),
    "a base class": ("class A: n = 1\nclass B: n = 2\nclass C(A): pass\ndef f(x): return C.n", "C(A)", "C(B)"),
    "the order of base classes": (
        "class A: n = 1\nclass B: n = 2\nclass C(A, B): pass\ndef f(x): return C.n",
        "A, B",
        "B, A",
    ),
    "a class of a class": (
        "class M(type):\n    def __call__(cls): return 1\nclass A(metaclass=M): pass\ndef f(x): return A()",
        "return 1",
        "return 2",
    ),
    "what a class does to those below it": (
        "class A:\n    def __init_subclass__(cls): cls.n = 1\nclass B(A): pass\ndef f(x): return B.n",
        "n = 1",
        "n = 2",
    ),
    "a class within a class": ("class A:\n    class B:\n        n = 1\ndef f(x): return A.B.n", "1", "2"),
    "a decorator": (
        "def twice(g):\n    def h(x): return g(x) * 2\n    return h\n@twice\ndef f(x): return x",
        "* 2",
        "* 3",
    ),
    "what is decorated": (
        (
            "import functools\ndef twice(g):\n    @functools.wraps(g)\n    def h(x): return g(x) * 2\n    return h\n"
            "@twice\ndef f(x): return x + 1"
        ),
        "+ 1",
        "+ 2",
    ),
    "the argument of a decorator": (
        "def times(n):\n    def wrap(g): return lambda x: g(x) * n\n    return wrap\n@times(2)\ndef f(x): return x",
        "times(2)",
        "times(3)",
    ),
    "a decorator less": (
        "def twice(g): return lambda x: 2 * g(x)\n@twice\ndef f(x): return x",
        "@twice\n",
        "",
    ),
    "a decorator of a class": (
        "def number(cls):\n    cls.n = 1\n    return cls\n@number\nclass A: pass\ndef f(x): return A.n",
        "n = 1",
        "n = 2",
    ),
    "what a partial fixes": (
        "import functools\ndef g(x, y): return x - y\nh = functools.partial(g, y=1)\ndef f(x): return h(x)",
        "y=1",
        "y=2",
    ),
    "what is kept by functools": (
        "import functools\n@functools.lru_cache\ndef g(x): return x + 1\ndef f(x): return g(x)",
        "+ 1",
        "+ 2",
    ),
    "what is dispatched to": (
        (
            "import functools\n@functools.singledispatch\ndef g(x): return 0\n@g.register\ndef _(x: int): return 1\n"
            "def f(x): return g(x)"
        ),
        "return 1",
        "return 2",
    ),
    "a member of an enum": (
        "import enum\nclass A(enum.Enum):\n    N = 1\ndef f(x): return A.N.value",
        "N = 1",
        "N = 2",
    ),
    "the order of an enum": (
        "import enum\nclass A(enum.Enum):\n    M = 1; N = 2\ndef f(x): return list(A)",
        "M = 1; N = 2",
        "N = 2; M = 1",
    ),
    "a field's default": (
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    n: int = 1\ndef f(x): return A().n",
        "= 1",
        "= 2",
    ),
    "what is noted of a field": (
        (
            "import dataclasses as d\n@d.dataclass\nclass A:\n    n: int = d.field(default=1, metadata={'unit': 'm'})\n"
            "def f(x): return d.fields(A)[0].metadata['unit']"
        ),
        "'m'",
        "'s'",
    ),
    "the order of fields": (
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    m: int\n    n: int\ndef f(x): return A(1, 2).m",
        "    m: int\n    n: int\n",
        "    n: int\n    m: int\n",
    ),
    "the names of a tuple": (
        "from collections import namedtuple\nA = namedtuple('A', 'm n')\ndef f(x): return A(1, 2).m",
        "m n",
        "n m",
    ),
    "a variable of a closure": (
        "def make(n):\n    def g(x): return x + n\n    return g\nf = make(1)",
        "make(1)",
        "make(2)",
    ),
    "a builtin that is shadowed": ("def f(x): return abs(-x)", "def f", "abs = str\ndef f"),
    "a pattern": ("import re\nP = re.compile('a')\ndef f(x): return P.sub('-', 'banana')", "'a'", "'n'"),
    "the flags of a pattern": ("import re\nP = re.compile('a', 0)\ndef f(x): return P.sub('-', 'bAna')", "0", "re.I"),
    "a getter": ("import operator\ng = operator.itemgetter(0)\ndef f(x): return g('ab')", "0", "1"),
    "the order of what a class holds": (
        "class A:\n    a = 1; b = 2\ndef f(x): return [n for n in vars(A) if len(n) == 1]",
        "a = 1; b = 2",
        "b = 2; a = 1",
    ),
    "the order of slots": (
        "class A:\n    __slots__ = ('a', 'b')\ndef f(x): return A().__slots__",
        "'a', 'b'",
        "'b', 'a'",
    ),
    "an attribute of a function that has another name": (
        "def g(x): return x\ng.n = 1\ndef f(x):\n    h = g\n    return h.n",
        "g.n = 1",
        "g.n = 2",
    ),
    "an attribute of an enum": (
        "import enum\nclass A(enum.Enum):\n    N = 1\nA.note = 4\ndef f(x): return A.note",
        "4",
        "5",
    ),
    "what an abstract class takes for its own": (
        "import abc\nclass A(abc.ABC): pass\nclass B: pass\nA.register(int)\ndef f(x): return issubclass(B, A)",
        "A.register(int)",
        "A.register(B)",
    ),
    "a docstring that is read": ("def g(x): 'old'\ndef f(x): return g.__doc__", "old", "new"),
    "a docstring that is asked for": (
        "import inspect\ndef g(x): 'old'\ndef f(x): return inspect.getdoc(g)",
        "old",
        "new",
    ),
    "a docstring that is read by its name": ("def g(x): 'old'\ndef f(x): return getattr(g, '__doc__')", "old", "new"),
    "the docstring of a class that is read": ("class A: 'old'\ndef f(x): return A().__doc__", "old", "new"),
    "a docstring of a function within": (
        "def f(x):\n    def g(): 'old'\n    return g.__doc__",
        "old",
        "new",
    ),
    "an annotation that is read": ("def g(x: int): return x\ndef f(x): return g.__annotations__", "int", "str"),
    "an annotation of a class that is read": ("class A:\n    n: int\ndef f(x): return A.__annotations__", "int", "str"),
    "annotations that are asked for": (
        "import typing\ndef g(x: int): return x\ndef f(x): return typing.get_type_hints(g)",
        "x: int",
        "x: str",
    ),
    "a signature": (
        "import inspect\ndef g(x: int): return x\ndef f(x): return str(inspect.signature(g))",
        "int",
        "str",
    ),
    "the name of a function that is read": (
        "def old(x): return x\ng = [old][0]\ndef f(x): return g.__name__",
        "def old(x): return x\ng = [old]",
        "def new(x): return x\ng = [new]",
    ),
    "the name of a local that is listed": ("def f(x):\n    old = 1\n    return sorted(locals())", "old", "new"),
    "the name of a local that is asked for": (
        "def f(x):\n    old = 1\n    try: return eval('old')\n    except NameError: return 2",
        "old = 1",
        "new = 1",
    ),
    "an array": ("import numpy as np\nA = np.array([1, 2])\ndef f(x): return (A * x).tolist()", "2", "5"),
    "a tensor": ("import torch\nA = torch.tensor([1, 2])\ndef f(x): return (A * x).tolist()", "2", "5"),
    "a program that is run from text": (
        "TEXT = 'y = 1'\ndef f(x):\n    space = {}\n    exec(TEXT, space)\n    return space['y']",
        "1",
        "2",
    ),
}

# A helper in another module, an edit of it, and a program that reaches it.
ELSEWHERE = {
    "a helper that is imported": (
        "def g(x): return x + 1",
        "+ 1",
        "+ 2",
        "from helpers_under_edit import g\ndef f(x): return g(x)",
    ),
    "a helper that is reached by its module": (
        "def g(x): return x + 1",
        "+ 1",
        "+ 2",
        "import helpers_under_edit\ndef f(x): return helpers_under_edit.g(x)",
    ),
    "a global of that helper": (
        "N = 1\ndef g(x): return x + N",
        "N = 1",
        "N = 2",
        "import helpers_under_edit as h\ndef f(x): return h.g(x)",
    ),
    "a number of a module": ("N = 1", "1", "2", "import helpers_under_edit as h\ndef f(x): return h.N"),
    "a list of a module": ("N = [1]", "1", "2", "import helpers_under_edit as h\ndef f(x): return h.N[0]"),
    "a class of a module": (
        "class A:\n    n = 1",
        "n = 1",
        "n = 2",
        "import helpers_under_edit as h\ndef f(x): return h.A().n",
    ),
    "a class that is built upon": (
        "class A:\n    n = 1",
        "n = 1",
        "n = 2",
        "import helpers_under_edit as h\nclass B(h.A): pass\ndef f(x): return B().n",
    ),
    "a helper that is imported within": (
        "def g(x): return x + 1",
        "+ 1",
        "+ 2",
        "def f(x):\n    from helpers_under_edit import g\n    return g(x)",
    ),
    "a module that is imported within": (
        "def g(x): return x + 1",
        "+ 1",
        "+ 2",
        "def f(x):\n    import helpers_under_edit as h\n    return h.g(x)",
    ),
    "a helper that is asked for by name": (
        "def g(x): return x + 1",
        "+ 1",
        "+ 2",
        "import helpers_under_edit as h\ndef f(x): return getattr(h, 'g')(x)",
    ),
    "a helper of a helper's module": (
        "import deeper_under_edit as d\ndef g(x): return d.a(x)",
        "d.a",
        "d.b",
        "import helpers_under_edit as h\ndef f(x): return h.g(x)",
    ),
}

BOUND_ON_IMPORT = {"a helper that is imported", "a class that is built upon"}


@pytest.mark.parametrize("name", REACHED)
def test_an_edit_of_what_code_reaches_is_another_call(name):
    assert_edit_makes_another_call(*REACHED[name])


@pytest.mark.parametrize("name", REACHED)
def test_an_edit_of_what_code_reaches_is_another_function(name):
    assert_edit_makes_another_function(*REACHED[name])


@pytest.mark.parametrize("name", ELSEWHERE)
def test_an_edit_in_another_module_is_another_call(name):
    source, old, new, program = ELSEWHERE[name]
    run("def a(x): return x\ndef b(x): return -x", DEEPER)
    run(source, HELPERS)

    def edit():
        run(edited(source, old, new), HELPERS)
        if name in BOUND_ON_IMPORT:
            run(program)

    assert_another_call(started(program), edit)
