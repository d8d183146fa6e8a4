"""What a code object does: what differs in it is written differently, and how it is spelled does not matter."""

from __future__ import annotations

import argparse
import ast
import bisect
import fractions
import heapq
import inspect
import json.decoder
import statistics
import sys
import textwrap
import types
import zipfile

import pytest

from memograd.fingerprint._bytecode import constant, instructions, joined, written


def code_of(source: str) -> types.CodeType:
    """Compile a module and give the code of the one function that it defines."""
    module = compile(source, "<somewhere>", "exec", dont_inherit=True)
    (code,) = (const for const in module.co_consts if isinstance(const, types.CodeType))
    return code


def write(source: str) -> bytes:
    return written(code_of(source))


ALIKE = {
    "a comment": ("def f(x):\n    return x", "def f(x):  # why\n    # because\n    return x"),
    "empty lines": ("def f(x):\n    y = x\n    return y", "def f(x):\n\n\n    y = x\n\n    return y"),
    "a docstring": ("def f(x):\n    return x", "def f(x):\n    'What it does.'\n    return x"),
    "another docstring": ("def f():\n    'a'\n    return 1", "def f():\n    'b'\n    return 1"),
    "brackets": ("def f(x):\n    return x + 1 * 2", "def f(x):\n    return (x + (1 * 2))"),
    "line breaks": (
        "def f(x):\n    return g(x, 1, [2])",
        "def f(x):\n    return g(\n        x,\n        1,\n        [2],\n    )",
    ),
    "statements on lines of their own": (
        "def f(x):\n    y = x; z = y; y = z; return y, z",
        "def f(x):\n    y = x\n    z = y\n    y = z\n    return (\n        y,\n        z,\n    )",
    ),
    "quotes": ("def f():\n    return 'a'", 'def f():\n    return "a"'),
    "a folded constant": ("def f():\n    return 6", "def f():\n    return 2 * 3"),
    "hexadecimal": ("def f():\n    return 255", "def f():\n    return 0xFF"),
    "a local": ("def f(x):\n    y = x\n    return y", "def f(x):\n    zebra = x\n    return zebra"),
    "two locals": (
        "def f(x):\n    a = x\n    b = a\n    return a, b",
        "def f(x):\n    b = x\n    a = b\n    return b, a",
    ),
    "a loop variable": (
        "def f(xs):\n    for x in xs:\n        print(x)",
        "def f(xs):\n    for item in xs:\n        print(item)",
    ),
    "a comprehension variable": (
        "def f(xs):\n    return [x + 1 for x in xs]",
        "def f(xs):\n    return [y + 1 for y in xs]",
    ),
    "a generator variable": ("def f(xs):\n    return (x for x in xs)", "def f(xs):\n    return (y for y in xs)"),
    "a walrus variable": ("def f(x):\n    return (y := x) + y", "def f(x):\n    return (z := x) + z"),
    "an exception's name": (
        "def f():\n    try:\n        g()\n    except E as e:\n        return e.x",
        "def f():\n    try:\n        g()\n    except E as error:\n        return error.x",
    ),
    "a match variable": (
        "def f(x):\n    match x:\n        case [a, b]:\n            return a",
        "def f(x):\n    match x:\n        case [first, second]:\n            return first",
    ),
    "a variable of a closure": (
        "def f(x):\n    a = x\n    def g():\n        return a\n    return g",
        "def f(x):\n    zebra = x\n    def g():\n        return zebra\n    return g",
    ),
    "variables of a closure in another order of names": (
        "def f():\n    a = 1\n    b = 2\n    def g():\n        return a - b\n    return g",
        "def f():\n    b = 1\n    a = 2\n    def g():\n        return b - a\n    return g",
    ),
    "a variable two scopes out": (
        "def f():\n    a = 1\n    return lambda: lambda: a",
        "def f():\n    q = 1\n    return lambda: lambda: q",
    ),
    "a function within": (
        "def f(x):\n    def helper(y):\n        return y\n    return helper(x)",
        "def f(x):\n    def other(y):\n        return y\n    return other(x)",
    ),
    "a docstring within": (
        "def f():\n    def g():\n        return 1\n    return g",
        "def f():\n    def g():\n        'one'\n        return 1\n    return g",
    ),
    "a docstring in a class within": (
        "def f():\n    class A:\n        x = 1\n    return A",
        "def f():\n    # moved\n\n    class A:\n        'What it is.'\n        x = 1\n    return A",
    ),
    "an annotated local": ("def f(x):\n    y = x\n    return y", "def f(x):\n    y: int = x\n    return y"),
    "a declared local": ("def f(x):\n    y = x\n    return y", "def f(x):\n    y: int\n    y = x\n    return y"),
    "an annotated parameter": ("def f(x):\n    return x", "def f(x: int) -> int:\n    return x"),
    "pass in a body": ("def f(x):\n    return x", "def f(x):\n    pass\n    return x"),
    "pass in a branch": (
        "def f(x):\n    if x:\n        y = 1\n    else:\n        y = 2\n    return y",
        "def f(x):\n    if x:\n        pass\n        y = 1\n    else:\n        y = 2\n    return y",
    ),
    "pass in a try": (
        "def f(x):\n    try:\n        y = x()\n    except E:\n        y = 2\n    return y",
        "def f(x):\n    try:\n        pass\n        y = x()\n    except E:\n        y = 2\n    return y",
    ),
    "a constant that is no statement": ("def f(x):\n    return x", "def f(x):\n    ...\n    return x"),
    "the name": ("def f(x):\n    return x", "def g(x):\n    return x"),
    "a place far down the file": ("def f(x):\n    return x", "\n" * 70_000 + "def f(x):\n    return x"),
    "a __future__": ("def f(x):\n    return x", "from __future__ import annotations\ndef f(x):\n    return x"),
}


@pytest.mark.parametrize(("one", "other"), ALIKE.values(), ids=ALIKE)
def test_what_does_the_same_is_written_the_same(one, other):
    assert write(one) == write(other)


def body(text: str) -> str:
    return f"def f(x, y=0, *args, k=1, **kwargs):\n    {text}"


DIFFERENT = {
    "a constant": ("return x + 1", "return x + 2"),
    "the type of a constant": ("return 1", "return 1.0"),
    "a truth": ("return 1", "return True"),
    "the sign of zero": ("return 0.0", "return -0.0"),
    "text and bytes": ("return 'a'", "return b'a'"),
    "a constant in a tuple": ("return (1, 2)", "return (1, 2.0)"),
    "a set of constants": ("return x in {1, 2}", "return x in {1, 3}"),
    "an operator": ("return x + y", "return x - y"),
    "the order of operands": ("return x - y", "return y - x"),
    "a comparison": ("return x < y", "return x <= y"),
    "membership": ("return x in y", "return x not in y"),
    "identity": ("return x is y", "return x is not y"),
    "a global": ("return a(x)", "return b(x)"),
    "an attribute": ("return x.a", "return x.b"),
    "a method": ("return x.a()", "return x.b()"),
    "an attribute that is called": ("return x.a", "return x.a()"),
    "a keyword": ("return g(a=x)", "return g(b=x)"),
    "a keyword or a place": ("return g(x)", "return g(a=x)"),
    "a star": ("return g(x)", "return g(*x)"),
    "and, or": ("return x and y", "return x or y"),
    "a condition turned round": ("return 1 if x else 2", "return 1 if not x else 2"),
    "the target of a jump": (
        "for a in x:\n        if a:\n            break\n        y += a\n    return y",
        "for a in x:\n        if a:\n            continue\n        y += a\n    return y",
    ),
    "which local": ("a = x\n    b = y\n    return a", "a = x\n    b = y\n    return b"),
    "which parameter of a closure": ("return lambda: x", "return lambda: y"),
    "which variable of a closure": (
        "a = x\n    b = y\n    return lambda: a - b",
        "a = x\n    b = y\n    return lambda: b - a",
    ),
    "which variable two scopes out": (
        "a = x\n    b = y\n    return lambda: lambda: (a, b)",
        "a = x\n    b = y\n    return lambda: lambda: (b, a)",
    ),
    "whose variable of a closure": (
        "a = x\n    def g():\n        a = y\n        return lambda: a\n    return g, lambda: a",
        "a = x\n    def g():\n        b = y\n        return lambda: a\n    return g, lambda: a",
    ),
    "a constant within": ("return lambda: 1", "return lambda: 2"),
    "a default within": ("return lambda a=1: a", "return lambda a=2: a"),
    "a parameter within": ("return lambda a: a", "return lambda b: b"),
    "what a try covers": (
        "try:\n        a()\n    except E:\n        pass\n    b()",
        "try:\n        a()\n        b()\n    except E:\n        pass",
    ),
    "which exception": (
        "try:\n        a()\n    except E:\n        b()",
        "try:\n        a()\n    except F:\n        b()",
    ),
    "an exception or its end": (
        "try:\n        a()\n    except E:\n        b()",
        "try:\n        a()\n    finally:\n        b()",
    ),
    "a generator": ("return x", "yield x"),
    "where it is from": ("from a import b\n    return b", "from c import b\n    return b"),
    "how far up it is from": ("from . import b\n    return b", "from .. import b\n    return b"),
    "an f-string's format": ("return f'{x:.2f}'", "return f'{x:.3f}'"),
    "an f-string's conversion": ("return f'{x!r}'", "return f'{x!s}'"),
    "a slice": ("return x[1:2]", "return x[1:3]"),
    "a step": ("return x[::1]", "return x[::2]"),
    "a class attribute": ("class A:\n        a = 1\n    return A", "class A:\n        a = 2\n    return A"),
    "a statement more": ("return x", "y.append(x)\n    return x"),
    "a global statement": ("n = 1\n    return n", "global n\n    n = 1\n    return n"),
    "a match pattern": (
        "match x:\n        case [1, _]:\n            return 1",
        "match x:\n        case [_, 1]:\n            return 1",
    ),
    "a for's else": (
        "for a in x:\n        y = a\n    else:\n        y = 2\n    return y",
        "for a in x:\n        y = a\n    y = 3\n    return y",
    ),
    "an await": (
        "async def g():\n        return x\n    return g",
        "async def g():\n        return await x\n    return g",
    ),
}


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_what_does_something_else_is_written_differently(one, other):
    assert write(body(one)) != write(body(other))


HEADS = ["def f(a, b): pass", "def f(b, a): pass", "def f(a, /, b): pass", "def f(a, *, b): pass", "def f(a, *b): pass"]
HEADS += ["def f(a, **b): pass", "async def f(a, b): pass", "def f(a, c): pass", "def f(a): pass"]


def test_every_way_to_be_called_is_written_differently():
    assert len({write(head) for head in HEADS}) == len(HEADS)


def test_a_docstring_before_three_hundred_constants_changes_nothing():
    """The constants behind the 256th need a longer argument, and the jumps over them become longer, too."""
    lines = [f"    if x == {1000 + index}.5:\n        y = 'text {index}'" for index in range(300)]
    source = "\n".join(["def f(x):", "    y = 0", *lines, "    return y"])
    with_docstring = source.replace("(x):\n", "(x):\n    'A docstring.'\n")
    assert len(code_of(source).co_consts) > 256
    assert write(source) == write(with_docstring)


def test_constants_of_all_types_are_told_apart():
    values = [0, False, 0.0, -0.0, 0j, -0j, "", b"", None, ..., NotImplemented, (), frozenset()]
    values += [(0,), (False,), ((0,),), (0, 0), frozenset({0}), frozenset({(0,)}), range(2), range(0, 2, 2), slice(2)]
    written_as = [constant(value) for value in values]
    assert len(set(written_as)) == len(values)


def test_a_nan_is_written_to_the_bit():
    assert constant(float("nan")) == constant(float("nan"))
    assert constant(float("nan")) != constant(-float("nan"))


def test_a_frozenset_is_written_in_an_order_of_its_own():
    words = [f"word {index}" for index in range(50)]
    assert constant(frozenset(words)) == constant(frozenset(reversed(words)))


def test_lengths_keep_chunks_apart():
    assert joined([b"a", b"bc"]) != joined([b"ab", b"c"])
    assert joined([b"", b"a"]) != joined([b"a", b""])


def test_instructions_leave_out_what_does_nothing():
    kept = {one.opname for one in instructions(code_of("def f(x):\n    pass\n    pass\n    return x"))}
    assert kept <= {"LOAD_FAST", "LOAD_FAST_BORROW", "RETURN_VALUE"}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions were handled by instructions until 3.10")
def test_what_a_handler_covers_is_told_from_its_table():
    one = code_of("def f():\n    try:\n        a()\n    except E:\n        b()\n    return 1")
    assert written(one) != written(one.replace(co_exceptiontable=b""))


def functions_of(source: str) -> list[types.CodeType]:
    module = compile(source, "<somewhere>", "exec", dont_inherit=True)
    return [const for const in module.co_consts if isinstance(const, types.CodeType)]


def test_formatting_all_of_a_library_anew_changes_next_to_nothing():
    """Next to: where a condition goes over several lines the compiler may turn its jump round (in 3.12, mostly)."""
    same: list[bool] = []
    for module in (argparse, ast, bisect, fractions, heapq, json.decoder, statistics, textwrap, zipfile):
        source = inspect.getsource(module)
        pairs = zip(functions_of(source), functions_of(ast.unparse(ast.parse(source))), strict=True)
        same += [written(one) == written(other) for one, other in pairs]
    assert len(same) > 150
    assert sum(same) > 0.97 * len(same)
