"""One edit of the code of a function, whatever it is of, and every call of it is another call."""

from __future__ import annotations

import pytest
from tests.promises.never_stale.edits import (
    assert_edit_makes_another_call,
    assert_edit_makes_another_function,
    edited,
    run,
    started,
)

# What is run, what in it is edited, and what it is edited to. Each gives something else for an argument of 3.
CODE = {
    "a constant": ("def f(x): return x + 1", "1", "2"),
    "an integer that becomes a float": ("def f(x): return type(1)", "1", "1.0"),
    "an integer that becomes a boolean": ("def f(x): return type(1)", "1", "True"),
    "the sign of a zero": ("def f(x): return str(0.0)", "0.0", "-0.0"),
    "the last bit of a float": ("def f(x): return 0.1", "0.1", "0.10000000000000002"),
    "a string that becomes bytes": ("def f(x): return 'a'", "'a'", "b'a'"),
    "a letter of a string": ("def f(x): return 'lamp'", "lamp", "lump"),
    "a constant in a tuple in a tuple": ("def f(x): return (1, (2, 4))[1][1]", "4", "5"),
    "the type of a constant in a tuple": ("def f(x): return (1, 2)", "2", "2.0"),
    "a boolean in a tuple": ("def f(x): return (1, (0, 2))", "0", "False"),
    "a tuple that becomes a list": ("def f(x): return (1, x)", "(1, x)", "[1, x]"),
    "an element of a set": ("def f(x): return x in {1, 2}", "2", "3"),
    "a key of a dictionary": ("def f(x): return {'a': x}", "'a'", "'b'"),
    "the order of a dictionary": ("def f(x): return list({'a': 1, 'b': 2})", "'a': 1, 'b': 2", "'b': 2, 'a': 1"),
    "plus that becomes times": ("def f(x): return x + 2", "+", "*"),
    "a division that becomes a floor division": ("def f(x): return x / 2", "/", "//"),
    "a remainder that becomes a power": ("def f(x): return x % 2", "%", "**"),
    "a shift to the other side": ("def f(x): return x << 1", "<<", ">>"),
    "and that becomes or among bits": ("def f(x): return x & 4", "&", "|"),
    "or that becomes exclusive": ("def f(x): return x | 1", "|", "^"),
    "and that becomes or": ("def f(x): return x and 5", "and", "or"),
    "a minus that becomes a complement": ("def f(x): return -x", "-x", "~x"),
    "a not": ("def f(x): return not x", "not x", "not not x"),
    "the order of operands": ("def f(x): return x - 2", "x - 2", "2 - x"),
    "brackets": ("def f(x): return x + 2 * 5", "x + 2", "(x + 2)"),
    "less that becomes less or equal": ("def f(x): return x < 3", "<", "<="),
    "equal that becomes unequal": ("def f(x): return x == 3", "==", "!="),
    "is that becomes is not": ("def f(x): return x is None", "is", "is not"),
    "in that becomes not in": ("def f(x): return x in (3, 4)", "in", "not in"),
    "brackets among conditions": (
        "def f(x): return 1 if x > 5 and (x > 4 or x > 1) else 2",
        "x > 5 and (x > 4 or x > 1)",
        "(x > 5 and x > 4) or x > 1",
    ),
    "a link of a chain of comparisons": ("def f(x): return 1 < x < 9", "x <", "x >"),
    "an assignment with an operator": ("def f(x):\n    x += 2\n    return x", "+=", "-="),
    "a called function": ("def f(x): return min(x, 9)", "min", "max"),
    "a called method": ("def f(x): return 'a'.upper()", "upper", "isupper"),
    "an attribute": ("def f(x): return x.real", "real", "imag"),
    "an attribute of a library": ("import math\ndef f(x): return math.pi", "pi", "e"),
    "a keyword of a call": ("def f(x): return dict(a=x)", "a=", "b="),
    "the value of a keyword of a call": ("def f(x): return sorted([1, 2], reverse=False)", "False", "True"),
    "an argument that is taken apart": ("def f(x): return str([x])", "[x]", "*[x]"),
    "arguments that change places": ("def f(x): return pow(x, 2)", "x, 2", "2, x"),
    "a statement more": ("def f(x):\n    y = x\n    return y", "y = x\n", "y = x\n    y += 1\n"),
    "a statement less": ("def f(x):\n    y = x\n    y += 1\n    return y", "    y += 1\n", ""),
    "statements that change places": (
        "def f(x):\n    x += 1; x *= 2\n    return x",
        "x += 1; x *= 2",
        "x *= 2; x += 1",
    ),
    "branches that change places": ("def f(x): return 1 if x else 2", "1 if x else 2", "2 if x else 1"),
    "a condition": ("def f(x):\n    if x > 1:\n        return 5", "x > 1", "x > 7"),
    "a branch more": (
        "def f(x):\n    if x > 9: return 1\n    return 2",
        "    return 2",
        "    elif x: return 7\n    return 2",
    ),
    "a return of nothing": ("def f(x):\n    return x", "return x", "x"),
    "the end of a loop": ("def f(x):\n    for i in range(2): x += i\n    return x", "2", "4"),
    "a break that becomes a continue": (
        "def f(x):\n    for i in (1, 2):\n        x += i\n        break\n    return x",
        "break",
        "continue",
    ),
    "the else of a loop": ("def f(x):\n    for i in (): pass\n    else: x = 9\n    return x", "9", "8"),
    "the condition of a while": ("def f(x):\n    while x < 10: x *= 2\n    return x", "10", "20"),
    "the element of a comprehension": ("def f(x): return [i + 1 for i in (1, 2)]", "i +", "i *"),
    "the filter of a comprehension": ("def f(x): return [i for i in (1, 2) if i > 1]", "i > 1", "i < 2"),
    "a list that becomes a set": ("def f(x): return [i for i in (4, 4)]", "[i for i in (4, 4)]", "{i for i in (4, 4)}"),
    "the loops of a comprehension": (
        "def f(x): return [(i, j) for i in 'ab' for j in 'ab']",
        "for i in 'ab' for j in 'ab'",
        "for j in 'ab' for i in 'ab'",
    ),
    "an index": ("def f(x): return 'abcd'[1]", "1", "2"),
    "the end of a slice": ("def f(x): return 'abcd'[1:3]", "3", "2"),
    "the step of a slice": ("def f(x): return 'abcd'[::1]", "::1", "::-1"),
    "the text of an f-string": ("def f(x): return f'{x} km'", "km", "m"),
    "the format of an f-string": ("def f(x): return f'{x:d}'", ":d", ":04d"),
    "the conversion of an f-string": ("def f(x): return f\"{'a'!s}\"", "!s", "!r"),
    "what is assigned to what": ("def f(x):\n    a, b = 1, x\n    return a", "a, b", "b, a"),
    "where the star stands": ("def f(x):\n    a, *b = 1, 2, x\n    return a", "a, *b", "*a, b"),
    "an exception that is handled": (
        "def f(x):\n    try: return 1 / 0\n    except ZeroDivisionError: return 5\n    except Exception: return 6",
        "ZeroDivisionError",
        "KeyError",
    ),
    "what is tried": (
        (
            "def g(x):\n    y = 1 / 0\n    try:\n        y += 1\n    except ArithmeticError: y = 5\n    return y\n"
            "def f(x):\n    try: return g(x)\n    except ArithmeticError: return 6"
        ),
        "    y = 1 / 0\n    try:\n",
        "    try:\n        y = 1 / 0\n",
    ),
    "what a handler does": ("def f(x):\n    try: return 1 / 0\n    except ArithmeticError: return 5", "5", "6"),
    "an exception that is raised": (
        "def f(x):\n    try: raise ValueError\n    except LookupError: return 5\n    except Exception: return 6",
        "ValueError",
        "KeyError",
    ),
    "what is done at last": (
        "def f(x):\n    y = []\n    try: return y\n    finally: y.append(1)",
        "append(1)",
        "append(2)",
    ),
    "an assertion": (
        "def f(x):\n    try: assert x == 3\n    except AssertionError: return 1\n    return 2",
        "x == 3",
        "x == 4",
    ),
    "what a with statement enters": (
        "from contextlib import suppress\ndef f(x):\n    with suppress(KeyError, LookupError): {}[x]\n    return x",
        "{}[x]",
        "x = {}.get(x)",
    ),
    "a pattern": ("def f(x):\n    match [x]:\n        case [3]: return 1\n    return 2", "[3]", "[4]"),
    "the guard of a pattern": (
        "def f(x):\n    match x:\n        case y if y > 1: return y\n    return 0",
        "y > 1",
        "y > 5",
    ),
    "a name that a pattern binds": (
        "def f(x):\n    match (1, x):\n        case (a, b): return a",
        "(a, b)",
        "(b, a)",
    ),
    "an assignment within an expression": ("def f(x): return (y := x + 1) * y", "+ 1", "+ 2"),
    "a default": ("def f(x, y=1): return x + y", "y=1", "y=2"),
    "the type of a default": ("def f(x, y=1): return type(y)", "y=1", "y=1.0"),
    "a default that is a list": ("def f(x, y=[1]): return y", "[1]", "[2]"),
    "the default of a keyword": ("def f(x, *, y=1): return x + y", "y=1", "y=2"),
    "parameters that change places": ("def f(x, y=1, z=2): return x, y, z", "y=1, z=2", "z=1, y=2"),
    "the name of a parameter": ("def f(x, y=1): return sorted(locals())", "y=", "z="),
    "a parameter that takes all the rest": ("def f(x): return x", "(x)", "(*x)"),
    "the body of a lambda": ("f = lambda x: x + 1", "+", "-"),
    "a function within": ("def f(x):\n    def g(y): return y + 1\n    return g(x)", "+ 1", "+ 2"),
    "a function within a function within": (
        "def f(x):\n    def g(y):\n        return (lambda z: z + 1)(y)\n    return g(x)",
        "+ 1",
        "+ 2",
    ),
    "the default of a function within": ("def f(x):\n    def g(y=1): return x + y\n    return g()", "y=1", "y=2"),
    "which variable a function within reads": (
        "def f(x):\n    a, b = 1, 2\n    def g(): return a, b\n    return g()",
        "return a, b",
        "return b, a",
    ),
    "a class within": ("def f(x):\n    class A:\n        y = 1\n    return A.y", "y = 1", "y = 2"),
    "a method of a class within": (
        "def f(x):\n    class A:\n        def g(self): return 1\n    return A().g()",
        "return 1",
        "return 2",
    ),
    "what a generator gives": ("def f(x): return list(g())\ndef g(): yield 1", "yield 1", "yield 2"),
    "what a generator takes over": ("def f(x): return list(g())\ndef g(): yield from 'ab'", "ab", "ba"),
    "what is awaited": (
        (
            "async def a(x): return x\nasync def b(x): return -x\nasync def g(x): return await a(x)\n"
            "def f(x):\n    try: g(x).send(None)\n    except StopIteration as end: return end.value"
        ),
        "await a",
        "await b",
    ),
    "what is entered and awaited": (
        (
            "class A:\n    async def __aenter__(self): return 1\n    async def __aexit__(self, *_): pass\n"
            "async def g(x):\n    async with A() as a: return a\n"
            "def f(x):\n    try: g(x).send(None)\n    except StopIteration as end: return end.value"
        ),
        "return 1",
        "return 2",
    ),
    "a variable of the function around": (
        "def f(x):\n    n = 1\n    def g():\n        nonlocal n\n        n = 5\n    g()\n    return n",
        "        nonlocal n\n",
        "",
    ),
    "an import within": ("def f(x):\n    from math import sin as g\n    return g(x)", "sin", "cos"),
    "a library that is imported within": ("def f(x):\n    import math as m\n    return m.sqrt(x)", "math", "cmath"),
    "what is deleted": (
        "def f(x):\n    y = [1, 2, 3]\n    del y[0]\n    return y",
        "y[0]",
        "y[1]",
    ),
}


@pytest.mark.parametrize("name", CODE)
def test_an_edit_of_the_code_is_another_call(name):
    assert_edit_makes_another_call(*CODE[name])


@pytest.mark.parametrize("name", CODE)
def test_an_edit_of_the_code_is_another_function(name):
    assert_edit_makes_another_function(*CODE[name])


@pytest.mark.parametrize("name", CODE)
def test_an_edit_that_is_taken_back_is_the_first_call_again(name):
    source, old, new = CODE[name]
    remembered = started(source)
    key = remembered.cache_key(3)
    run(edited(source, old, new))
    assert remembered.cache_key(3) != key
    run(source)
    assert remembered.cache_key(3) == key
