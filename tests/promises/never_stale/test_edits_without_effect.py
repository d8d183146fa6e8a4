"""One edit that changes nothing which a call can depend on, and the call is found again."""

from __future__ import annotations

import importlib
import re
import sys

import pytest
from tests.promises.never_stale.edits import MODULES, assert_same_call, edited, run, started

from memograd import Memo, fingerprint

PROGRAM = '''"""What the program is for."""
import math
import os

RATE = 0.5
UNIT = "km"
TABLE = [1, 2]
UNUSED = 1

def helper(x):
    # Why it is so.
    total = x * RATE
    for item in TABLE:
        total += item
    return total

def unreached(x):
    return x - 1

class Tool:
    """A tool."""
    size = 2

    def use(self, x):
        return x + self.size

    def drop(self, x):
        return x - self.size

class Unreached:
    size = 3

def make(step):
    def stepped_within(value):
        inner = value + step
        return inner
    return stepped_within

stepped = make(1000)

def local(x):
    class Local:
        """Of a call alone."""
        size = 4
    return Local.size + x

def f(x, by=3):
    """What it does."""
    found = [helper(x), Tool().use(x), stepped(x), local(x), math.pi]
    found += [y + by for y in (1, 2)]
    if x > 2 and found: found.append(UNIT)
    return found
'''

# A text of the program, and what stands there instead.
TEXTS = {
    "a comment": ("# Why it is so.", "# Why it is not otherwise."),
    "no comment": ("    # Why it is so.\n", ""),
    "a comment more": ("return total", "return total  # all of it"),
    "a docstring": ('"""What it does."""', '"""What it does, in other words."""'),
    "no docstring": ('    """What it does."""\n', ""),
    "a docstring more": ("def helper(x):\n", 'def helper(x):\n    """Help."""\n'),
    "the docstring of a class": ('"""A tool."""', '"""Another one."""'),
    "the docstring of a class within": ('"""Of a call alone."""', '"""Of one call."""'),
    "no docstring of a class within": ('        """Of a call alone."""\n', ""),
    "the docstring of the module": ('"""What the program is for."""', ""),
    "blank lines": ("def helper", "\n\n\n\ndef helper"),
    "blank lines within": ("    for item", "\n\n    for item"),
    "spaces": ("total = x * RATE", "total   =   x*RATE"),
    "brackets that change nothing": ("x * RATE", "((x) * (RATE))"),
    "a line that goes on": ("x * RATE", "x \\\n        * RATE"),
    "a line in brackets": ("x * RATE", "(\n        x\n        * RATE\n    )"),
    "other indentation": ("    return total", "    if True:\n            return total"),
    "a comma at the end": ("math.pi]", "math.pi,]"),
    "a list on many lines": ("[helper(x), ", "[\n        helper(x),\n        "),
    "a semicolon": ("total = x * RATE\n    for", "total = x * RATE;\n    for"),
    "a statement on a line of its own": (": found.append(UNIT)", ":\n        found.append(UNIT)"),
    "a pass": ("    return total", "    pass\n    return total"),
    "an ellipsis": ("    return total", "    ...\n    return total"),
    "other quotes": ('"km"', "'km'"),
    "text in two pieces": ('"km"', '"k" "m"'),
    "a letter by its number": ('"km"', '"k\\x6d"'),
    "another way to write a float": ("0.5", "5e-1"),
    "another way to write an integer": ("1000", "1_000"),
    "an integer in sixteens": ("1000", "0x3E8"),
    "a constant that is computed": ("by=3", "by=1 + 2"),
    "a list that is built otherwise": ("[1, 2]\nUNUSED", "list(range(1, 3))\nUNUSED"),
    "an annotation of a parameter": ("def helper(x)", "def helper(x: float)"),
    "an annotation of what is returned": ("def helper(x)", "def helper(x) -> float"),
    "an annotation of a variable": ("    total = x * RATE", "    total: float = x * RATE"),
    "an annotation of a global": ("UNUSED = 1", "UNUSED: int = 1"),
    "a global that is not read": ("UNUSED = 1", "UNUSED = 2"),
    "no global that is not read": ("UNUSED = 1\n", ""),
    "a global more": ("UNUSED = 1", "UNUSED = 1\nMORE = [1]"),
    "a function that is not reached": ("x - 1", "x - 100"),
    "a function more": ("def unreached", "def more(x): return x\n\ndef unreached"),
    "a class that is not reached": ("size = 3", "size = 300"),
    "an import that is not used": ("import os\n", "import json\n"),
    "imports in another order": ("import math\nimport os\n", "import os\nimport math\n"),
    "no import that is not used": ("import os\n", ""),
    "a function at another place": ("def make(step):", "def later(x): return x\n\ndef make(step):"),
    "a method at another place": (
        "    def use(self, x):\n        return x + self.size\n\n    def drop(self, x):\n        return x - self.size\n",
        "    def drop(self, x):\n        return x - self.size\n\n    def use(self, x):\n        return x + self.size\n",
    ),
    "a condition that always holds": ("import math\n", "if True:\n    import math\n"),
}
# A name that only the code itself can see.
NAMES = {
    "the name of a local variable": ("total", "result"),
    "the name of the variable of a loop": ("item", "one"),
    "the name of a variable of a function within": ("inner", "nested"),
    "the name of a function within": ("stepped_within", "moved"),
    "the name of what is built up": ("found", "gathered"),
    "the name of the variable of a comprehension": ("y", "z"),
}

# What is done while the program runs.
CHANGES = {
    "the same program again": PROGRAM,
    "the same program further down": "\n" * 40 + PROGRAM,
    "an equal number": "RATE = float('0.5')",
    "an equal list": "TABLE = [1, 2]",
    "a list that is changed and changed back": "TABLE.append(3); TABLE.pop()",
    "a global that is not read": "UNUSED = [5]",
    "a global more": "more = 1",
    "a function that is not reached": "unreached.__code__ = make.__code__",
    "a class that is not reached": "Unreached.size = 5",
    "the name of a function": "helper.__name__ = 'other'",
    "a docstring": "helper.__doc__ = 'Help.'",
    "annotations": "helper.__annotations__ = {'x': int}",
    "an attribute of a function that is not read": "f.note = 1",
    "a call": "f(5)",
    "a variable of the environment": "import os; os.environ['A_VARIABLE_OF_THIS_TEST'] = '1'",
    "a draw": "import random; random.random()",
    "a directory": "import os; os.chdir('/')",
    "another equal function in its place": "helper = type(helper)(helper.__code__, globals())",
    "another equal class in its place": "Tool = type('Tool', (), dict(size=2, use=Tool.use, drop=Tool.drop))",
}

MODULE = "def g(x):\n    return [x + 1]\n"


@pytest.fixture(autouse=True)
def _surroundings_of_their_own(monkeypatch, tmp_path):
    monkeypatch.setenv("A_VARIABLE_OF_THIS_TEST", "0")
    monkeypatch.chdir(tmp_path)


def renamed(name):
    old, new = NAMES[name]
    source = re.sub(rf"\b{old}\b", new, PROGRAM)
    assert source != PROGRAM
    return source


def texts():
    return {**{name: edited(PROGRAM, *edit) for name, edit in TEXTS.items()}, **{name: renamed(name) for name in NAMES}}


@pytest.mark.parametrize("name", [*TEXTS, *NAMES])
def test_an_edit_without_effect_is_the_same_call(name):
    assert_same_call(started(PROGRAM), lambda: run(texts()[name]))


@pytest.mark.parametrize("name", [*TEXTS, *NAMES])
def test_an_edit_without_effect_is_the_same_function(name):
    before = fingerprint(run(PROGRAM).f)
    assert fingerprint(run(texts()[name]).f) == before


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_without_effect_is_the_same_call(name):
    assert_same_call(started(PROGRAM), lambda: run(CHANGES[name]))


def test_a_version_stands_for_the_code_whatever_that_becomes():
    run("def f(x): return x + 1")
    stated = Memo()(version="1")(run("def entry(x): return f(x)").entry)
    key = stated.cache_key(3)
    run("def f(x): return x + 2")
    assert stated.cache_key(3) == key


def test_a_module_that_is_loaded_again_from_the_same_text_is_the_same(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / f"{MODULES[1]}.py").write_text(MODULE)
    helpers = importlib.import_module(MODULES[1])
    remembered = started(f"import {MODULES[1]} as h\ndef f(x): return h.g(x)")
    assert_same_call(remembered, lambda: importlib.reload(helpers))
    (tmp_path / f"{MODULES[1]}.py").write_text(MODULE.replace("x + 1", "x + 10_000"))
    key = remembered.cache_key(3)
    importlib.reload(helpers)
    assert remembered.cache_key(3) != key
    assert remembered(3) == [10_003]
