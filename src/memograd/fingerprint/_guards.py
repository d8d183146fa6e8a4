"""A look at whether names still stand for what they stood for: comparisons by identity, in one function made for them.

The function has the globals of the code that it guards: a name is read as that code reads it, which the interpreter
does fastest. Whatever may be large (a model, a closure over one) is held weakly: a guard keeps nothing alive.
"""

from __future__ import annotations

import keyword
import sys
import weakref
from functools import partial
from operator import is_
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from memograd._errors import SOURCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import CellType


class Guards:
    """Comparisons, gathered.

    Args:
        home: globals of the code that is guarded.
        weak: what is held weakly in any case.
    """

    def __init__(self, home: dict[str, Any], weak: object = None) -> None:
        self.home = home
        self.weak = 0 if weak is None else id(weak)
        self.terms: dict[str, None] = {}
        self.held: list[object] = []
        self.names: set[str] = set()
        self.places: dict[int, str] = {}

    def name(self, home: dict[str, Any], name: str, value: object) -> None:
        """Expect a global, or a builtin that no global hides, to be what it is."""
        if home is self.home and _is_readable(name):
            self.names.add(name)
            self._same(name, value)
        elif name in home:
            self.item(home, name, value)
        else:
            self.absent(home, name)
            self.item(builtins_of(home), name, value)

    def item(self, space: Mapping[str, Any], name: str, value: object) -> None:
        """Expect what a namespace holds under a name."""
        self._same(f"{self._hold(space)}.get({name!r})", value)

    def absent(self, space: Mapping[str, Any], name: str) -> None:
        """Expect a name not to be there."""
        self._add(f"{name!r} not in {self._hold(space)}")

    def cell(self, f: FunctionType, index: int, value: object) -> None:
        """Expect the content of a cell."""
        self._same(f"{self._at(f)}.__closure__[{index}].cell_contents", value)

    def empty(self, cell: CellType) -> None:
        """Expect a cell to be empty."""
        self._add(f"{self._hold(partial(_is_empty, cell))}()")

    def attribute(self, owner: ModuleType | FunctionType, name: str, value: object) -> None:
        """Expect an attribute of a module or function."""
        if _is_readable(name) and getattr(owner, name, None) is value:
            self._same(f"{self._at(owner)}.{name}", value)
        else:
            self._same(f"{self._at(owner)}.__dict__.get({name!r})", value)

    def no_attribute(self, owner: ModuleType | FunctionType, name: str) -> None:
        """Expect that a module or function has no such attribute."""
        self._add(f"{name!r} not in {self._at(owner)}.__dict__")

    def holds(self, owner: Any, name: str, value: object) -> None:
        """Expect what is held under a name in the dictionary of a function, a partial or a member of an enum."""
        if type(owner) is FunctionType:
            self.attribute(owner, name, value)
        else:
            self._same(f"{self._at(owner)}.__dict__.get({name!r})", value)

    def count(self, owner: object) -> None:
        """Expect as many attributes as there are."""
        number, here = len(cast("Any", owner).__dict__), self._at(owner)
        self._add(f"{self._hold(len)}({here}.__dict__) == {number}" if number else f"not {here}.__dict__")

    def got(self, get: Callable[..., object], owner: type, value: object) -> None:
        """Expect what a getter gives of a class."""
        self._same(f"{self._hold(get)}({self._hold(owner)})", value)

    def equal(self, ask: Callable[[], object], value: object) -> None:
        """Expect an answer that is equal to the one that was given."""
        self._add(f"{self._hold(ask)}() == {self._hold(value)}")

    def each(self, ask: Callable[[], Sequence[object]]) -> None:
        """Expect the same elements of a list that is made anew at each look."""
        self._add(f"{self._hold(partial(_same_as, ask, tuple(ask())))}()")

    def function(self, f: FunctionType) -> None:
        """Expect the code of a function, and its defaults. Those that it has not got do nothing if they come later."""
        here = self._at(f)
        self._same(f"{here}.__code__", f.__code__)
        if f.__code__.co_argcount and f.__defaults__ is not None:
            self._same(f"{here}.__defaults__", f.__defaults__)
        if f.__code__.co_kwonlyargcount and f.__kwdefaults__ is not None:
            self._same(f"{here}.__kwdefaults__", f.__kwdefaults__)
            self.members(f.__kwdefaults__, ())

    def class_(self, cls: type, but: Iterable[str]) -> None:
        """Expect the bases and members of a class, but for some."""
        self.members(cls.__dict__, but)
        self._add(f"{self._hold(cls)}.__bases__ is {self._hold(cls.__bases__)}")

    def members(self, space: Mapping[str, Any], but: Iterable[str]) -> None:
        """Expect all that a namespace holds, but for some names."""
        left_out = frozenset(but)
        if left_out:
            seen = {name: value for name, value in space.items() if name not in left_out}
            same = partial(_same_others, space, seen, left_out)
        else:
            same = partial(_same_items, space, tuple(space), tuple(space.values()))
        self._add(f"{self._hold(same)}()")

    def contents(self, container: Any) -> None:
        """Expect what a list or dictionary holds."""
        if issubclass(type(container), dict):
            self.members(container, ())
        else:
            self._elements(container)

    def _elements(self, sequence: Sequence[object]) -> None:
        self._add(f"{self._hold(partial(_same_elements, sequence, tuple(sequence)))}()")

    def _add(self, term: str) -> None:
        self.terms[term] = None

    def _same(self, expression: str, value: object) -> None:
        here = self._at(value)
        # What was held weakly and is gone reads as None, and so may a name that was bound to None since.
        self._add(f"{here} is {expression} is not None" if here.endswith("()") else f"{expression} is {here}")

    def _at(self, value: object) -> str:
        """Say how to read a value that is held, weakly if it can be large."""
        if id(value) == self.weak or not _is_light(value):
            try:
                return self._hold(weakref.ref(value), of=value) + "()"
            except TypeError:
                pass
        return self._hold(value)

    def _hold(self, value: object, of: object = None) -> str:
        key = id(value if of is None else of)
        if key not in self.places:
            self.places[key] = f"${len(self.held)}"
            self.held.append(value)
        return self.places[key]

    def check(self, more: Iterable[tuple[str, tuple[object, ...]]] = ()) -> Check:
        """Put all comparisons together.

        Args:
            more: further terms, each with the values that stand in it as `{}`.
        """
        values, terms = list(self.held), list(self.terms)
        for term, held in more:
            terms.append(term.format(*(f"${len(values) + index}" for index in range(len(held)))))
            values += held
        return Check(" and ".join(terms) or "True", tuple(values), self.home, frozenset(self.names))


class Check(NamedTuple):
    """A condition in source: `$0`, `$1`, ... in it stand for `values`, and `names` are those of globals of `home`."""

    condition: str
    values: tuple[object, ...]
    home: dict[str, Any]
    names: frozenset[str]

    def built(self, told: object = True) -> Callable[[], Any]:
        """Define a function that gives `told`, or None once the condition no longer holds."""
        parameters = ", ".join(f"_{index}" for index in range(len(self.values) + 2))
        error, given = (f"_{len(self.values) + index}" for index in range(2))
        # No name in it but those of globals, and numbers: a global `guard` is not taken for the guard.
        condition = self.condition.replace("$", "_")
        source = (
            f"def _({parameters}):\n def _():\n  try:\n   return {given} if {condition} else None\n"
            f"  except {error}:\n   return None\n return _"
        )
        space: dict[str, Any] = {}
        exec(compile(source, SOURCE, "exec"), space)  # noqa: S102 - the source holds names that bytecode held
        made = space["_"](*self.values, Exception, told)
        return FunctionType(made.__code__, self.home, "guard", None, made.__closure__)


def builtins_of(home: dict[str, Any]) -> dict[str, Any]:
    """Give the builtins that code with these globals sees."""
    builtins = home.get("__builtins__", sys.modules["builtins"])
    return cast("dict[str, Any]", getattr(builtins, "__dict__", builtins))


def _is_readable(name: str) -> bool:
    numbered = name.startswith("_") and not name[1:].strip("0123456789")
    return name.isidentifier() and name.isascii() and not keyword.iskeyword(name) and not numbered


_LIGHT = (CodeType, type, ModuleType, BuiltinFunctionType, dict, list, tuple, set, frozenset, str, bytes, int, float)


def _is_light(value: object) -> bool:
    return value.__closure__ is None if type(value) is FunctionType else issubclass(type(value), _LIGHT)


def _same_items(space: Mapping[str, Any], names: tuple[str, ...], values: tuple[object, ...]) -> bool:
    return tuple(space) == names and all(map(is_, space.values(), values))


def _same_elements(sequence: Sequence[object], elements: tuple[object, ...]) -> bool:
    return len(sequence) == len(elements) and all(map(is_, sequence, elements))


def _same_as(ask: Callable[[], Sequence[object]], elements: tuple[object, ...]) -> bool:
    return _same_elements(ask(), elements)


def _same_others(space: Mapping[str, Any], seen: dict[str, Any], left_out: frozenset[str]) -> bool:
    now = {name: value for name, value in space.items() if name not in left_out}
    return now.keys() == seen.keys() and all(value is now[name] for name, value in seen.items())


def _is_empty(cell: CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return True
    return False
