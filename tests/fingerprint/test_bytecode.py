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


def functions_of(source: str) -> list[types.CodeType]:
    """Compile a module and give the code of the functions that it defines."""
    module = compile(source, "<somewhere>", "exec", dont_inherit=True)
    return [const for const in module.co_consts if isinstance(const, types.CodeType)]


def code_of(source: str) -> types.CodeType:
    (code,) = functions_of(source)
    return code


def write(source: str) -> bytes:
    return written(code_of(source))


def function(body: str, parameters: str = "x") -> str:
    return f"def f({parameters}):\n{textwrap.indent(body, '    ')}"


ALIKE = {
    "a comment": ("return x", "# why\nreturn x  # because"),
    "empty lines": ("y = x\nreturn y", "\n\ny = x\n\nreturn y"),
    "a docstring": ("return x", "'What it does.'\nreturn x"),
    "another docstring": ("'a'\nreturn 1", "'b'\nreturn 1"),
    "brackets": ("return x + 1 * 2", "return (x + (1 * 2))"),
    "line breaks": ("return g(x, 1, [2])", "return g(\n    x,\n    1,\n    [2],\n)"),
    "statements on lines of their own": (
        "y = x; z = y; y = z; return y, z",
        "y = x\nz = y\ny = z\nreturn (\n    y,\n    z,\n)",
    ),
    "quotes": ("return 'a'", 'return "a"'),
    "a folded constant": ("return 6", "return 2 * 3"),
    "hexadecimal": ("return 255", "return 0xFF"),
    "a local": ("y = x\nreturn y", "zebra = x\nreturn zebra"),
    "two locals": ("a = x\nb = a\nreturn a, b", "b = x\na = b\nreturn b, a"),
    "a loop variable": ("for y in x:\n    print(y)", "for item in x:\n    print(item)"),
    "a comprehension variable": ("return [y + 1 for y in x]", "return [z + 1 for z in x]"),
    "a generator variable": ("return (y for y in x)", "return (z for z in x)"),
    "a walrus variable": ("return (y := x) + y", "return (z := x) + z"),
    "an exception's name": (
        "try:\n    g()\nexcept E as e:\n    return e.x",
        "try:\n    g()\nexcept E as error:\n    return error.x",
    ),
    "a match variable": (
        "match x:\n    case [a, b]:\n        return a",
        "match x:\n    case [first, second]:\n        return first",
    ),
    "a variable of a closure": (
        "a = x\ndef g():\n    return a\nreturn g",
        "zebra = x\ndef g():\n    return zebra\nreturn g",
    ),
    "variables of a closure in another order of names": (
        "a = 1\nb = 2\ndef g():\n    return a - b\nreturn g",
        "b = 1\na = 2\ndef g():\n    return b - a\nreturn g",
    ),
    "a variable two scopes out": ("a = 1\nreturn lambda: lambda: a", "q = 1\nreturn lambda: lambda: q"),
    "a function within": (
        "def helper(y):\n    return y\nreturn helper(x)",
        "def other(y):\n    return y\nreturn other(x)",
    ),
    "a docstring within": ("def g():\n    return 1\nreturn g", "def g():\n    'one'\n    return 1\nreturn g"),
    "a docstring in a class within": (
        "class A:\n    x = 1\nreturn A",
        "# moved\n\nclass A:\n    'What it is.'\n    x = 1\nreturn A",
    ),
    "an annotated local": ("y = x\nreturn y", "y: int = x\nreturn y"),
    "a declared local": ("y = x\nreturn y", "y: int\ny = x\nreturn y"),
    "pass in a body": ("return x", "pass\nreturn x"),
    "pass in a branch": (
        "if x:\n    y = 1\nelse:\n    y = 2\nreturn y",
        "if x:\n    pass\n    y = 1\nelse:\n    y = 2\nreturn y",
    ),
    "pass in a try": (
        "try:\n    y = x()\nexcept E:\n    y = 2\nreturn y",
        "try:\n    pass\n    y = x()\nexcept E:\n    y = 2\nreturn y",
    ),
    "a constant that is no statement": ("return x", "...\nreturn x"),
}


@pytest.mark.parametrize(("one", "other"), ALIKE.values(), ids=ALIKE)
def test_what_does_the_same_is_written_the_same(one, other):
    assert write(function(one)) == write(function(other))


SOURCE = function("return x")
ALIKE_ELSEWHERE = {
    "a comment on the head": "def f(x):  # why\n    return x",
    "an annotated parameter": "def f(x: int) -> int:\n    return x",
    "the name": "def g(x):\n    return x",
    "a __future__": "from __future__ import annotations\ndef f(x):\n    return x",
    "a place far down the file": "\n" * 70_000 + SOURCE,
}


@pytest.mark.parametrize("other", ALIKE_ELSEWHERE.values(), ids=ALIKE_ELSEWHERE)
def test_what_is_around_a_body_does_not_matter(other):
    assert write(other) == write(SOURCE)


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
        "for a in x:\n    if a:\n        break\n    y += a\nreturn y",
        "for a in x:\n    if a:\n        continue\n    y += a\nreturn y",
    ),
    "which local": ("a = x\nb = y\nreturn a", "a = x\nb = y\nreturn b"),
    "which parameter of a closure": ("return lambda: x", "return lambda: y"),
    "which variable of a closure": ("a = x\nb = y\nreturn lambda: a - b", "a = x\nb = y\nreturn lambda: b - a"),
    "which variable two scopes out": (
        "a = x\nb = y\nreturn lambda: lambda: (a, b)",
        "a = x\nb = y\nreturn lambda: lambda: (b, a)",
    ),
    "whose variable of a closure": (
        "a = x\ndef g():\n    a = y\n    return lambda: a\nreturn g, lambda: a",
        "a = x\ndef g():\n    b = y\n    return lambda: a\nreturn g, lambda: a",
    ),
    "a constant within": ("return lambda: 1", "return lambda: 2"),
    "a default within": ("return lambda a=1: a", "return lambda a=2: a"),
    "a parameter within": ("return lambda a: a", "return lambda b: b"),
    "what a try covers": ("try:\n    a()\nexcept E:\n    pass\nb()", "try:\n    a()\n    b()\nexcept E:\n    pass"),
    "which exception": ("try:\n    a()\nexcept E:\n    b()", "try:\n    a()\nexcept F:\n    b()"),
    "an exception or its end": ("try:\n    a()\nexcept E:\n    b()", "try:\n    a()\nfinally:\n    b()"),
    "a generator": ("return x", "yield x"),
    "where it is from": ("from a import b\nreturn b", "from c import b\nreturn b"),
    "how far up it is from": ("from . import b\nreturn b", "from .. import b\nreturn b"),
    "an f-string's format": ("return f'{x:.2f}'", "return f'{x:.3f}'"),
    "an f-string's conversion": ("return f'{x!r}'", "return f'{x!s}'"),
    "a slice": ("return x[1:2]", "return x[1:3]"),
    "a step": ("return x[::1]", "return x[::2]"),
    "a class attribute": ("class A:\n    a = 1\nreturn A", "class A:\n    a = 2\nreturn A"),
    "a statement more": ("return x", "y.append(x)\nreturn x"),
    "a global statement": ("n = 1\nreturn n", "global n\nn = 1\nreturn n"),
    "a match pattern": ("match x:\n    case [1, _]:\n        return 1", "match x:\n    case [_, 1]:\n        return 1"),
    "a for's else": ("for a in x:\n    y = a\nelse:\n    y = 2\nreturn y", "for a in x:\n    y = a\ny = 3\nreturn y"),
    "an await": ("async def g():\n    return x\nreturn g", "async def g():\n    return await x\nreturn g"),
}


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_what_does_something_else_is_written_differently(one, other):
    one, other = (write(function(body, "x, y=0, *args, k=1, **kwargs")) for body in (one, other))
    assert one != other


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


def test_formatting_all_of_a_library_anew_changes_next_to_nothing():
    """Next to: where a condition goes over several lines the compiler may turn its jump round (in 3.12, mostly)."""
    same: list[bool] = []
    for module in (argparse, ast, bisect, fractions, heapq, json.decoder, statistics, textwrap, zipfile):
        source = inspect.getsource(module)
        pairs = zip(functions_of(source), functions_of(ast.unparse(ast.parse(source))), strict=True)
        same += [written(one) == written(other) for one, other in pairs]
    assert len(same) > 150
    assert sum(same) > 0.97 * len(same)
