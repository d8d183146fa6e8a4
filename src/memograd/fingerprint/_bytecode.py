"""What a code object does, as bytes: instructions with what they refer to in place of where it stands in a table.

Line numbers, comments, docstrings, the names of locals, the places of constants and the offsets of jumps leave no
trace; names of parameters do, since calls use them, and so do names of globals and attributes.
"""

from __future__ import annotations

import dis
import marshal
import sys
from bisect import bisect_left
from functools import lru_cache
from types import CodeType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# What fills space, or is there for the interpreter's own sake.
_SILENT = frozenset({"CACHE", "EXTENDED_ARG", "NOP", "RESUME", "COPY_FREE_VARS", "NOT_TAKEN", "PRECALL"})
# What a class statement stores of where it stands in a file, and of its docstring.
_PLACE = frozenset({"__module__", "__qualname__", "__doc__", "__firstlineno__", "__static_attributes__"})
_TWO = {
    "LOAD_FAST_LOAD_FAST": ("LOAD_FAST", "LOAD_FAST"),
    "LOAD_FAST_BORROW_LOAD_FAST_BORROW": ("LOAD_FAST_BORROW", "LOAD_FAST_BORROW"),
    "STORE_FAST_LOAD_FAST": ("STORE_FAST", "LOAD_FAST"),
    "STORE_FAST_STORE_FAST": ("STORE_FAST", "STORE_FAST"),
}
_VARIABLE = frozenset(dis.hasfree) | frozenset(dis.haslocal)
_CONST = frozenset(dis.hasconst)
_NAME = frozenset(dis.hasname)
_BY_NAME = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
_JUMP = frozenset(dis.hasjrel) | frozenset(dis.hasjabs)
# The lowest bits of these arguments say how the name is used; in all others they are part of its place in a table.
_FLAGS = {
    name: bits
    for name, bits, since in (("LOAD_GLOBAL", 1, 11), ("LOAD_ATTR", 1, 12), ("LOAD_SUPER_ATTR", 3, 12))
    if sys.version_info >= (3, since)
}
# What reads the names of locals: builtins, and attributes (not `model.eval`).
_SHOWING = frozenset({"locals", "dir", "eval", "exec", "vars", "currentframe"})
_FRAMES = frozenset({"f_locals", "_getframe", "currentframe"})
# How a function is called and run; neither that it is nested, nor that it has a docstring, nor its module's __future__.
_CO_FLAGS = 0x1 | 0x2 | 0x4 | 0x8 | 0x20 | 0x80 | 0x100 | 0x200


@lru_cache(64)  # a function is written, and then its names are read
def instructions(code: CodeType) -> list[dis.Instruction]:
    """List the instructions of a code object that do something."""
    kept: list[dis.Instruction] = []
    begun = sys.version_info < (3, 11)
    for one in dis.get_instructions(code):
        begun |= one.opname == "RESUME"
        if one.opname in _SILENT or (one.opname == "MAKE_CELL" and not begun):
            continue
        if _tells_only_its_place(one, kept):
            kept.pop()
            if one.opname == "STORE_NAME":
                continue
        kept += _parts(one)
    return kept


def _parts(one: dis.Instruction) -> list[dis.Instruction]:
    """Take two instructions apart that are one only if they stand on one line (3.13 on)."""
    if one.opname not in _TWO:
        return [one]
    pairs = zip(_TWO[one.opname], one.argval, strict=True)
    return [one._replace(opname=name, opcode=dis.opmap[name], argval=variable) for name, variable in pairs]


def _tells_only_its_place(one: dis.Instruction, before: list[dis.Instruction]) -> bool:
    if not before:
        return False
    last = before[-1]
    if one.opname == "MAKE_FUNCTION":
        return last.opname == "LOAD_CONST" and type(last.argval) is str  # its qualified name, until 3.10
    if one.opname != "STORE_NAME" or one.argval not in _PLACE:
        return False
    return last.opcode in _CONST or last.opname == "LOAD_SMALL_INT" or last.argval == "__name__"


def nested(steps: list[dis.Instruction]) -> Iterator[CodeType]:
    """Give the code objects that instructions define."""
    return (one.argval for one in steps if isinstance(one.argval, CodeType))


def written(code: CodeType) -> bytes:
    """Write down what a code object does; with the names of its locals where it may read them."""
    what = _Writing(code, {}, 0).bytes()
    codes = list(_codes(code))
    if not any(_shows_locals(one) for one in codes):
        return what
    return joined([what, *(_locals(one) for one in codes)])


def said(code: CodeType, name: str) -> bytes:
    """Write down what a code object says of itself and of those within, such as `__doc__`, and leaves no trace else."""
    if name == "__doc__":
        texts = [[one for one in each.co_consts if type(one) is str] for each in _codes(code)]
        return marshal.dumps(texts, 2)
    names = marshal.dumps([each.co_name for each in _codes(code)], 2)
    return joined([names, *(_locals(each) for each in _codes(code))]) if name == "__code__" else names


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from _codes(one)


def _shows_locals(code: CodeType) -> bool:
    if _SHOWING.isdisjoint(code.co_names) and _FRAMES.isdisjoint(code.co_names):
        return False
    steps = instructions(code)
    return any(one.argval in (_SHOWING if one.opname in _BY_NAME else _FRAMES) for one in steps if one.opcode in _NAME)


def _locals(code: CodeType) -> bytes:
    return marshal.dumps((code.co_varnames, code.co_cellvars, code.co_freevars), 2)


class _Writing:
    """One code object within its scopes.

    A variable is written as the depth of its scope and when it is first met there: an inner function says which
    variable of the outer one it reads, whatever both call it. (In tables, variables stand by their names.)
    """

    def __init__(self, code: CodeType, outer: Mapping[str, str], depth: int) -> None:
        self.code = code
        self.depth = depth
        self.steps = instructions(code)
        self.offsets = [one.offset for one in self.steps]
        count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4) + bool(code.co_flags & 8)
        self.parameters = code.co_varnames[:count]
        self.variables = {name: outer[name] for name in code.co_freevars if name in outer}
        for name in self.parameters:
            self.variable(name)

    def bytes(self) -> bytes:
        code = self.code
        counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount
        head = (code.co_flags & _CO_FLAGS, *counts, self.parameters, tuple(self._handlers()))
        return joined([marshal.dumps(head, 2), *self._body()])

    def _body(self) -> list[bytes]:
        body: list[bytes] = []
        run: list[bytes] = []
        for one in self.steps:
            if self._is_closure(one):
                run.append(self._written(one))
                continue
            # A closure's variables stand by their names; the code that they are given to says which is which.
            body += sorted(run)
            run.clear()
            body.append(self._written(one))
        return body + sorted(run)

    def _is_closure(self, one: dis.Instruction) -> bool:
        if one.opname == "LOAD_CLOSURE":
            return True
        plain = one.opname in {"LOAD_FAST", "LOAD_FAST_BORROW"}
        return plain and (one.argval in self.code.co_freevars or one.argval in self.code.co_cellvars)

    def _written(self, one: dis.Instruction) -> bytes:
        if isinstance(one.argval, CodeType):
            what = _Writing(one.argval, self.variables, self.depth + 1).bytes()
        elif one.opcode in _CONST:
            what = constant(self.code.co_consts[one.arg or 0])  # which 3.11 does not look up for keywords
        elif one.opcode in _VARIABLE:
            what = self.variable(one.argval).encode()
        elif one.opcode in _NAME:
            what = f"{one.argval} {(one.arg or 0) & _FLAGS.get(one.opname, 0)}".encode()
        elif one.opcode in _JUMP:
            what = b"%d" % bisect_left(self.offsets, one.argval)
        else:
            what = b"%d" % (-1 if one.arg is None else one.arg)
        return joined([b"LOAD_CLOSURE" if self._is_closure(one) else one.opname.encode(), what])

    def variable(self, name: str) -> str:
        return self.variables.setdefault(name, f"{self.depth}.{len(self.variables)}")

    def _handlers(self) -> Iterator[tuple[int, ...]]:
        """Give the table of exception handlers (3.11 on), by instructions in place of offsets."""
        numbers = _varints(getattr(self.code, "co_exceptiontable", b""))
        for start, length, target, depth in zip(numbers, numbers, numbers, numbers, strict=False):
            first, last, handler = (bisect_left(self.offsets, at * 2) for at in (start, start + length, target))
            if first < last:
                yield first, last, handler, depth


def _varints(table: bytes) -> Iterator[int]:
    """Read numbers of six bits a byte (CPython's Objects/exception_handling_notes.txt)."""
    value = 0
    for byte in table:
        value = value << 6 | byte & 63
        if not byte & 64:
            yield value
            value = 0


def constant(value: Any) -> bytes:
    """Write a constant of the language: typed, to the bit, sets in an order of their own."""
    kind = cast("type[Any]", type(value))
    if kind is tuple:
        return b"tuple" + joined([constant(item) for item in value])
    if kind is frozenset:
        return b"frozenset" + joined(sorted(constant(item) for item in value))
    if kind is range or kind is slice:
        return kind.__name__.encode() + constant((value.start, value.stop, value.step))
    if value is NotImplemented:
        return b"NotImplemented"
    return b"." + marshal.dumps(value, 2)


def joined(chunks: list[bytes]) -> bytes:
    """Join chunks, each with its length in front."""
    return b"".join([piece for chunk in chunks for piece in (len(chunk).to_bytes(8, "little"), chunk)])
