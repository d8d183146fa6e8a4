"""Which names a code object reads, and what they stand for: globals, closures, imports, and attributes of modules.

Bytecode is read from front to back, and a name is followed along its attributes as far as these are those of modules
and functions, `package.module.helper`: what a class or an instance holds is looked at as a whole.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Protocol, cast

from memograd.fingerprint._attributes import SAID
from memograd.fingerprint._bytecode import instructions, nested
from memograd.fingerprint._guards import builtins_of
from memograd.fingerprint._origin import library_of, reaches_itself_only

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from dis import Instruction
    from types import CodeType

    from memograd.fingerprint._attributes import Attributes
    from memograd.fingerprint._guards import Guards

MISSING: Any = object()
_LOADS = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_STORES = frozenset({"STORE_ATTR", "DELETE_ATTR"})
_COPIES = frozenset({"COPY", "DUP_TOP"})
_WHOLE = frozenset({"globals", "eval", "exec"})


class Walk(Protocol):
    """What is told of each name that is read."""

    guards: Guards
    attributes: Attributes
    open: bool

    def value(self, value: Any, path: str) -> None: ...
    def write(self, *chunks: bytes) -> None: ...
    def space(self, space: Mapping[str, Any], path: str) -> None: ...
    def is_effect(self, owner: object, name: str, path: str) -> bool: ...
    def rebinds(self, owner: object, name: str, path: str) -> None: ...


def read(walk: Walk, f: FunctionType, path: str, *, prefix: str) -> None:
    """Follow the names that a function reads, and the functions that are defined in it."""
    cells: dict[str, Any] = {name: (f, index) for index, name in enumerate(f.__code__.co_freevars)}
    waiting: list[tuple[CodeType, dict[str, Any]]] = [(f.__code__, cells)]
    for code, outer in waiting:
        reader = _Reader(walk, code, f.__globals__, outer, (path, prefix))
        reader.read()
        seen = {**outer, **{name: reader.modules.get(name) for name in code.co_cellvars}}
        waiting += [(inner, seen) for inner in nested(reader.steps)]


class _Reader:
    """One code object in its surroundings.

    Args:
        walk: what is told.
        code: the code object.
        home: its globals.
        cells: what its free variables are: a function and the index of its cell, a module that an import has bound,
            None for what only a run can tell.
        paths: the path to the function, and what to put before the names of globals.
    """

    def __init__(
        self, walk: Walk, code: CodeType, home: dict[str, Any], cells: dict[str, Any], paths: tuple[str, str]
    ) -> None:
        self.walk = walk
        self.home = home
        self.cells = cells
        self.path, self.prefix = paths
        self.steps = instructions(code)
        self.place = 0
        self.modules: dict[str, ModuleType] = {}
        self.stored: set[str] = set()

    def read(self) -> None:
        """Read all of the code."""
        self.walk.open |= _calls_what_has_no_name(self.steps)
        while self.place < len(self.steps):
            one = self.steps[self.place]
            self.place += 1
            act = _ACTS.get(one.opname)
            if act is not None:
                act(self, one.argval)
        for one in self.steps:
            if one.opname == "LOAD_CONST" and type(one.argval) is str and one.argval in SAID:
                self.walk.attributes.note_name(one.argval)  # for `getattr`, or a dictionary

    def peek(self, ahead: int = 0) -> Instruction | None:
        """Look at an instruction that comes next."""
        return self.steps[self.place + ahead] if self.place + ahead < len(self.steps) else None

    def name_(self, name: str) -> None:
        """Read a name within a class statement: its own, else a global."""
        if name in self.modules:
            self.chain(self.modules[name], name)
        elif name not in self.stored or name in self.home:
            self.global_(name)

    def global_(self, name: str) -> None:
        """Read a global or a builtin."""
        path = f"{self.prefix}{name}"
        if self.walk.is_effect(self.home, name, path):
            return
        value = self.home.get(name, MISSING)
        if value is MISSING:
            value = builtins_of(self.home).get(name, MISSING)
            if value is MISSING:
                self.no_global(name)
                return
            if name in _WHOLE:
                self.walk.space(self.home, self.path)
        self.walk.guards.name(self.home, name, value)
        self.chain(value, path)

    def no_global(self, name: str) -> None:
        """Note a global that is not there yet; an import within the body may bind it."""
        self.absent(name)
        self.walk.guards.absent(self.home, name)
        self.walk.guards.absent(builtins_of(self.home), name)
        if name in self.modules:
            self.chain(self.modules[name], name)

    def absent(self, name: str) -> None:
        """Note that what is read is not there."""
        self.walk.write(b"absent", name.encode())
        self.walk.open = True

    def free(self, name: str) -> None:
        """Read a variable of an enclosing function."""
        found = self.cells.get(name)
        if issubclass(type(found), ModuleType):
            self.chain(found, f"{self.path}:{name}")
        elif found is not None:
            self.cell(found, name)

    def cell(self, place: tuple[FunctionType, int], name: str) -> None:
        """Read a cell of a closure."""
        f, index = place
        cell = (f.__closure__ or ())[index]
        path = f"{self.path}:{name}"
        if self.walk.is_effect(cell, name, path):
            return
        try:
            value = cell.cell_contents
        except ValueError:
            self.absent(name)
            self.walk.guards.empty(cell)
            return
        self.walk.guards.cell(f, index, value)
        self.chain(value, path)

    def local(self, name: str) -> None:
        """Read a local name: one that an import has bound is followed."""
        if name in self.modules:
            self.chain(self.modules[name], name)

    def store(self, name: str) -> None:
        """Bind a name in a class statement."""
        self.stored.add(name)

    def rebind_global(self, name: str) -> None:
        """Bind a global anew; an import binds it to what it is."""
        if self.steps[self.place - 2].opname not in {"IMPORT_NAME", "IMPORT_FROM"}:
            self.walk.rebinds(self.home, name, f"{self.prefix}{name}")

    def rebind_free(self, name: str) -> None:
        """Bind a variable of an enclosing function anew."""
        found = self.cells.get(name)
        if found is not None and not issubclass(type(found), ModuleType):
            f, index = cast("tuple[FunctionType, int]", found)
            self.walk.rebinds((f.__closure__ or ())[index], name, f"{self.path}:{name}")

    def unknown(self, name: object) -> None:
        """Read what only a run can tell, such as an attribute of an argument."""
        self.walk.open = True
        if isinstance(name, str):
            self.walk.attributes.note_name(name, of_class=_is_of_a_class(self.steps, self.place - 2))

    def chain(self, value: Any, path: str) -> None:
        """Follow attributes of modules and functions to what is meant."""
        while True:
            bound = self.bound()
            if bound is not None and issubclass(type(value), (ModuleType, FunctionType, type)):
                space = value if issubclass(type(value), type) else value.__dict__
                self.walk.rebinds(space, bound, f"{path}.{bound}")
            one = self.peek()
            if one is not None and one.opname in _STORES and issubclass(type(value), ModuleType):
                return
            if one is None or one.opname not in _LOADS or not _is_space(value, one.argval):
                break
            self.place += 1
            name = one.argval
            path = f"{path}.{name}"
            if self.walk.is_effect(value.__dict__, name, path):
                return
            if issubclass(type(value), ModuleType):
                self.walk.open |= not reaches_itself_only(value.__name__)
            found = value.__dict__.get(name, MISSING)
            if found is MISSING:
                self.no_attribute(value, name)
                return
            self.walk.guards.attribute(value, name, found)
            value = found
        self.walk.value(value, path)

    def bound(self) -> str | None:
        """Give the attribute that is bound anew of what has just been read: `m.n = …`, or `m.n += …`."""
        one, after = self.peek(), self.peek(1)
        if one is not None and one.opname in _STORES:
            return one.argval
        if one is None or after is None or one.opname not in _COPIES or after.opname not in _LOADS:
            return None
        self.place += 1
        return after.argval

    def no_attribute(self, owner: ModuleType | FunctionType, name: str) -> None:
        """Note an attribute that is not there yet, or that a module computes when it is asked for."""
        self.walk.open = True
        if isinstance(owner, ModuleType) and library_of(owner.__name__) is not None:
            return
        self.absent(name)
        self.walk.guards.no_attribute(owner, name)
        compute = owner.__dict__.get("__getattr__", MISSING)
        if compute is not MISSING:
            self.walk.guards.attribute(owner, "__getattr__", compute)
            self.walk.value(compute, f"{owner.__name__}.__getattr__")
        elif issubclass(type(owner), ModuleType):
            self.walk.guards.no_attribute(owner, "__getattr__")

    def imported(self, name: str) -> None:
        """Read an import statement within the body."""
        level, names = self.steps[self.place - 3].argval, self.steps[self.place - 2].argval
        full = _absolute(name, level, self.home)
        library = library_of(full)
        module = sys.modules.get(full if names else full.partition(".")[0])
        self.walk.write(b"import", (library or "").encode())
        self.walk.open |= not reaches_itself_only(full) or module is None
        if library is None:
            self.user_module(full)
        if names:
            self.take_each(module, full)
        else:
            self.bind(module, full.partition(".")[0])

    def user_module(self, name: str) -> None:
        """Look whether a module has been imported, and into it only then: to import it is not ours to do."""
        module = sys.modules.get(name, MISSING)
        if module is MISSING:
            self.absent(name)
            self.walk.guards.absent(sys.modules, name)
        else:
            self.walk.guards.item(sys.modules, name, module)

    def take_each(self, module: ModuleType | None, path: str) -> None:
        """Follow `from module import a, b`."""
        while True:
            one, store = self.peek(), self.peek(1)
            if one is None or store is None or one.opname != "IMPORT_FROM":
                return
            self.note(store, self.taken(module, one.argval, path))
            self.place += 2

    def bind(self, value: Any, path: str) -> None:
        """Follow `import module`, and `import module.a.b as c`."""
        one = self.peek()
        while one is not None and one.opname == "IMPORT_FROM":
            value = self.taken(value, one.argval, path)
            path = f"{path}.{one.argval}"
            after = self.peek(1)
            # Until the last one is bound, what is below it on the stack goes.
            self.place += 3 if after is not None and after.opname in {"SWAP", "ROT_TWO"} else 1
            one = self.peek()
        if one is not None:
            self.note(one, value)

    def taken(self, module: Any, name: str, path: str) -> Any:
        """Follow a name that is imported from a module."""
        if not issubclass(type(module), ModuleType):
            return None
        found = module.__dict__.get(name, MISSING)
        if found is MISSING:
            self.no_attribute(module, name)
            return None
        self.walk.guards.attribute(module, name, found)
        if not issubclass(type(found), ModuleType):
            self.walk.value(found, f"{path}.{name}")
        return found

    def note(self, store: Instruction, value: Any) -> None:
        """Note the local name that a module is bound to."""
        name = store.argval
        self.stored.add(name)
        if issubclass(type(value), ModuleType) and store.opname.startswith("STORE_"):
            self.modules[name] = value


_ACTS: dict[str, Callable[[_Reader, Any], None]] = {
    **dict.fromkeys(("LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"), _Reader.global_),
    "LOAD_NAME": _Reader.name_,
    **dict.fromkeys(("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"), _Reader.free),
    **dict.fromkeys(("LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_BORROW"), _Reader.local),
    "STORE_NAME": _Reader.store,
    "IMPORT_NAME": _Reader.imported,
    **dict.fromkeys(("STORE_GLOBAL", "DELETE_GLOBAL"), _Reader.rebind_global),
    **dict.fromkeys(("STORE_DEREF", "DELETE_DEREF"), _Reader.rebind_free),
    **dict.fromkeys(("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "MATCH_CLASS"), _Reader.unknown),
}


def _is_space(value: Any, name: str) -> bool:
    """Tell whether an attribute can be followed: of a module, or one that a function was given."""
    return issubclass(type(value), ModuleType) or (issubclass(type(value), FunctionType) and name not in _OF_FUNCTIONS)


_OF_FUNCTIONS = frozenset(dir(FunctionType))


def _is_of_a_class(steps: list[Instruction], at: int) -> bool:
    """Tell whether what an instruction leaves is a class, for it is the end of `x.__class__` or `type(x)`."""
    if at < 0 or steps[at].argval == "__class__":
        return at >= 0
    if not steps[at].opname.startswith("CALL") or steps[at].arg != 1:
        return False
    at -= 1
    while at > 0 and steps[at].opname in _LOADS:
        at -= 1
    return at > 0 and steps[at].opname.startswith("LOAD_FAST") and steps[at - 1].argval == "type"


def _absolute(name: str, level: int, home: dict[str, Any]) -> str:
    if not level:
        return name
    package = home.get("__package__")
    if package is None:
        own = str(home.get("__name__", ""))
        package = own if "__path__" in home else own.rpartition(".")[0]
    parts = str(package).split(".")
    stem = ".".join(parts[: len(parts) - level + 1])
    return f"{stem}.{name}" if name else stem


_NAMED = frozenset({"LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_NAME", "LOAD_GLOBAL", "LOAD_ATTR"})


def _calls_what_has_no_name(steps: list[Instruction]) -> bool:
    """Tell whether a code object calls an argument, the result of a call, or an item."""
    if sys.version_info < (3, 11):
        return any(one.opname.startswith("CALL") for one in steps)
    pairs = pairwise(steps)
    if sys.version_info < (3, 13):
        return any(one.opname == "PUSH_NULL" and _has_no_name(callee) for one, callee in pairs)
    return any(one.opname == "PUSH_NULL" and _has_no_name(callee) for callee, one in pairs)


def _has_no_name(callee: Instruction) -> bool:
    # A global behind a PUSH_NULL has one of its own: it is called, and then its result is.
    flagged = callee.opname == "LOAD_GLOBAL" and sys.version_info < (3, 13) and bool((callee.arg or 0) & 1)
    return callee.opname not in _NAMED or flagged
