"""One walk over all that code can reach: each function and class in its turn, so that no depth is a danger.

Functions and classes are numbered as they are met and looked into later; all else is written where it is met.
"""

from __future__ import annotations

import abc
import os
import sys
import threading
import weakref
from collections import deque
from contextvars import ContextVar
from functools import partial
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import TYPE_CHECKING, Any, cast

from memograd._errors import SOURCE
from memograd.fingerprint._attributes import Attributes
from memograd.fingerprint._bytecode import constant, written
from memograd.fingerprint._form import Unidentified
from memograd.fingerprint._guards import Guards
from memograd.fingerprint._inside import (
    CONTAINERS,
    FUNCTIONS,
    functions_in,
    home_of,
    is_fixed,
    is_found,
    members_of,
    order_of,
    registered_in,
)
from memograd.fingerprint._known import (
    content_of,
    is_stream,
    known_by_name,
    names_in_getter,
    parts_of,
)
from memograd.fingerprint._names import MISSING, read
from memograd.fingerprint._origin import binary_of, is_stdlib, library_of, reaches_itself_only

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_C_FUNCTIONS = (BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType, ClassMethodDescriptorType)
_DESCRIPTORS = (GetSetDescriptorType, MemberDescriptorType)
_LOOSE = frozenset({"eval", "exec", "getattr", "globals", "locals", "vars", "__import__", "compile", "breakpoint"})
_DEEPEST = 60  # values within values (a partial of a partial, a tuple in a tuple) that are followed


# What a random stream gives and where it stands are no secret to who asks by these names, and leaves it there.
_PEEKS = frozenset({"fork_rng", "get_rng_state", "get_rng_state_all", "initial_seed"})
_STATES = frozenset({"getstate", "get_state"})  # of `random`, and of `numpy.random`; but of one's own streams, too


def peeks(code: CodeType) -> bool:
    """Tell whether code may look at a random stream and leave it where it was."""
    inner = [one for one in code.co_consts if isinstance(one, CodeType)]
    names = frozenset(code.co_names)
    return bool(names & _PEEKS or ("random" in names and names & _STATES)) or any(map(peeks, inner))


class Captured:
    """A value that may change in place, and the way to it, as a person would write it. Held weakly if it can be."""

    __slots__ = ("_value", "path")

    def __init__(self, path: str, value: object) -> None:
        self.path = path
        try:
            self._value: Callable[[], object] = weakref.ref(value)
        except TypeError:
            self._value = lambda: value

    @property
    def value(self) -> object:
        """The value; None when it is gone, and then the guard has seen that."""
        return self._value()


class Walk:
    """One walk over all that is reached, function after function, so that no depth is a danger."""

    def __init__(
        self, root: Any, rebound: Mapping[tuple[int, str], object], effects: frozenset[str], *, weak: bool = False
    ) -> None:
        self.root = root
        self.home: dict[str, Any] = root.__globals__ if type(root) is FunctionType else {}
        self.known_rebound, self.known_effects = rebound, effects
        self.rebound: dict[tuple[int, str], object] = {}
        self.chunks: list[bytes] = []
        self.met: dict[int, int] = {}
        self.waiting: deque[tuple[Any, str]] = deque()
        self.alive: list[object] = []
        self.captured: dict[int, Captured] = {}
        self.places: dict[int, int] = {}
        self.paths: set[str] = set()
        self.effects: dict[object, str] = {}
        self.guards = Guards(self.home, root if weak else None)
        self.attributes = Attributes(self)
        self.open = False
        self.reads = False
        self.peeks = False
        self.depth = 0

    def all(self) -> None:
        self.value(self.root, getattr(self.root, "__name__", type(self.root).__name__))
        while self.waiting or self._tell():
            if self.waiting:
                self._look_into(*self.waiting.popleft())
        self.attributes.guard()

    def _look_into(self, value: Any, path: str) -> None:
        if type(value) is FunctionType:
            self.attributes.note_holder(value, path)
            self._look_into_function(value, path)
        elif issubclass(type(value), ModuleType):
            self.write(b"module")
            self.space(value.__dict__, path)
        else:
            self.attributes.note_holder(value, path)
            self._look_into_class(value, path)

    def _tell(self) -> bool:
        """Write what can be told only when all code has been read; tell whether there was any."""
        if self.attributes.reads_environment and id(content_of(os.environ)) not in self.captured:
            self._capture(os.environ, "os.environ")
        return self.attributes.write_what_is_read()

    def write(self, *chunks: bytes) -> None:
        self.chunks += chunks

    def is_effect(self, owner: object, name: str, path: str) -> bool:
        """Tell whether reached code binds a name anew; what it stands for is then no input."""
        if (id(owner), name) not in self.known_rebound:
            return False
        self._effect((id(owner), name), path)
        return True

    def _effect(self, key: object, path: str) -> None:
        self.effects.setdefault(key, path)
        self.write(b"effect")
        self.reads = True

    def rebinds(self, owner: object, name: str, path: str) -> None:
        """Note that reached code binds a name anew."""
        self.rebound[id(owner), name] = owner
        self.effects.setdefault((id(owner), name), path)

    def value(self, value: Any, path: str) -> None:
        """Write down one value that is reached, whatever it is."""
        if is_fixed(value):
            self.write(b".", constant(value))
        elif self.depth > _DEEPEST:
            self._capture(value, path)
        else:
            self.depth += 1
            self.alive.append(value)
            kind = cast("type[Any]", type(value))
            self._new(value, kind, path)
            self.depth -= 1

    def _new(self, value: Any, kind: type[Any], path: str) -> None:
        if kind is FunctionType:
            self._function(value, path)
        elif issubclass(kind, type):
            self._class(value, path)
        elif issubclass(kind, ModuleType):
            self._module(value, path)
        elif issubclass(kind, _C_FUNCTIONS):
            self._c_function(value, path)
        elif issubclass(kind, _DESCRIPTORS):
            self.write(b"slot", value.__name__.encode())
        elif kind is object:
            self.write(b"object", self._number(value))
        elif "_member_map_" in kind.__dict__:
            self.write(b"member of", constant(value._name_))
            self.attributes.note_holder(value, path)
            self.value(kind, path)
            self.value(value._value_, f"{path}.value")
        else:
            self._compound(value, kind, path)

    def _compound(self, value: Any, kind: type[Any], path: str) -> None:
        name = known_by_name(value)
        parts = parts_of(value) if name is None else None
        if name is not None:
            self.write(b"known", name.encode())
            self.open |= not is_stdlib(kind.__module__) or is_stream(getattr(value, "__self__", None))
        elif parts is not None:
            self.write(kind.__name__.encode(), b"%d" % len(parts))
            for label, part in parts.items():
                self.write(label.encode())
                self.value(part, f"{path}{label}")
            for one in names_in_getter(value):
                self.attributes.note_name(one)
            if kind is partial:
                self.guards.members(value.keywords, ())
            if kind is partial or kind.__name__ == "_lru_cache_wrapper":
                self.attributes.note_holder(value, path)
        else:
            self._capture(value, path)

    def _capture(self, value: object, path: str) -> None:
        value = content_of(value)
        if is_stream(value) or value is sys.modules:
            self.write(b"stream")  # its state is no value that the code reads: it moves with every draw
            self.open = True
            return
        if issubclass(type(value), (ContextVar, threading.local)):
            raise Unidentified("something else in each thread or task", path)
        if type(value).__module__.partition(".")[0] == __name__.partition(".")[0]:
            self.write(b"ours")  # what a memoized function carries; what it remembers is followed as code
            return
        while path in self.paths and id(value) not in self.captured:
            path += "'"
        if path in self.known_effects:
            self._effect(path, path)
            return
        known = len(self.captured)
        place = self.places.setdefault(id(value), known)
        self.write(b"captured", b"%d" % place)
        if place < known:
            return
        self.paths.add(path)
        self.captured[id(value)] = Captured(path, value)
        self.alive.append(value)
        self.reads = True  # it may hold a tensor tomorrow
        if type(value) not in CONTAINERS:
            self.open = True
            self.value(type(value), f"type({path})")

    def _number(self, value: object) -> bytes:
        return b"%d" % self.met.setdefault(id(value), len(self.met))

    def _later(self, value: Any, path: str) -> None:
        """Write a number in place of what is looked into later, once."""
        if id(value) not in self.met:
            self.alive.append(value)
            self.waiting.append((value, path))
        self.write(b"^", self._number(value))

    def _module(self, module: ModuleType, path: str) -> None:
        # A library's is known by its name. A user's that is given on as a whole is looked into as a whole.
        library = library_of(module.__name__)
        self.open |= not reaches_itself_only(module.__name__)
        if library is None:
            self._later(module, path)
        else:
            self.write(b"module", f"{library} {module.__name__}".encode())

    def space(self, space: Mapping[str, Any], path: str) -> None:
        """Follow all that a module holds: whatever its names are, code asks for them by `eval`, `getattr`, ...."""
        self.open = True
        names = [name for name in list(space) if type(name) is str]
        rebound = [name for name in names if (id(space), name) in self.known_rebound]
        self.guards.members(space, rebound)
        for name in sorted(set(names).difference(rebound)):
            item = space.get(name, MISSING)
            if not (name.startswith("__") and name.endswith("__")):
                self.write(b"member", name.encode())
                self.value(item, f"{path}.{name}")

    def _c_function(self, value: Any, path: str) -> None:
        owner = getattr(value, "__self__", None)
        module = getattr(value, "__module__", None) or getattr(getattr(value, "__objclass__", None), "__module__", None)
        self.write(b"C", f"{library_of(module) or binary_of(module)} {value.__qualname__}".encode())
        self.open |= value.__name__ in _LOOSE or not (module in {None, "builtins"} or reaches_itself_only(module))
        self.open |= is_stream(owner)
        if owner is sys.modules["builtins"]:
            self.attributes.note_builtin(value.__name__)
        if owner is not None and not issubclass(type(owner), (ModuleType, type)) and known_by_name(value) is None:
            self.value(owner, f"{path}.__self__")

    def _function(self, f: FunctionType, path: str) -> None:
        home = home_of(f)
        library = library_of(home)
        if f.__code__.co_filename == SOURCE and "__wrapped__" in f.__dict__:
            self.attributes.note_holder(f, path)
            self.value(f.__dict__["__wrapped__"], path)  # a memoized function is what it remembers
        elif library is None or f.__closure__:
            self._later(f, path)
        else:
            self.write(b"library", f"{library} {home} {f.__qualname__}".encode())
            self.open |= not reaches_itself_only(home)
            self.attributes.note_library_function(f, home)
            if "<" in f.__qualname__:
                self.write(written(f.__code__))  # its name does not tell it from others

    def _look_into_function(self, f: FunctionType, path: str) -> None:
        self.write(b"def", written(f.__code__))
        self.guards.function(f)
        home = home_of(f)
        library = library_of(home)
        if library is not None:
            self._wrapper(f, f"{library} {home}", path)
            return
        code = f.__code__
        self.peeks |= peeks(code)
        defaults = f.__defaults__ or ()
        names = code.co_varnames[: code.co_argcount]
        self.write(b"%d" % len(defaults))
        for name, default in zip(names[len(names) - len(defaults) :], defaults, strict=False):
            self.value(default, f"{path}({name})")
        for name, default in sorted((f.__kwdefaults__ or {}).items()):
            self.write(name.encode())
            self.value(default, f"{path}({name})")
        read(self, f, path, prefix="" if f.__globals__ is self.home or not self.home else f"{home}.")

    def _wrapper(self, f: FunctionType, name: str, path: str) -> None:
        """Look only for the user's functions in the closure of a library's: a decorator's wrapper holds one."""
        self.write(b"library", name.encode())
        self.open = True
        for index, cell in enumerate(f.__closure__ or ()):
            value = _content(cell)
            inside = functions_in(value)
            followed = is_fixed(value) or type(value) in FUNCTIONS or _is_of_the_user(value)
            if inside or followed:
                self.guards.cell(f, index, value)
            if followed:
                self.value(value, f"{path}:{f.__code__.co_freevars[index]}")
            elif inside:
                # A registry, such as that of `functools.singledispatch`.
                self._registry(value, inside, f"{path}:{f.__code__.co_freevars[index]}")

    def _registry(self, registry: Any, inside: list[Any], path: str) -> None:
        self.guards.contents(registry)
        for index, one in enumerate(inside):
            self.value(one, f"{path}[{index}]")

    def _class(self, cls: type, path: str) -> None:
        library = library_of(cls.__module__)
        if library is None or not is_found(cls):
            self._later(cls, path)
        else:
            self.write(b"class of", f"{library} {cls.__module__} {cls.__qualname__}".encode())
            self.attributes.note_library_class(cls)
            self._registered(cls)
            self.open |= cls.__module__ != "builtins" and not reaches_itself_only(cls.__module__)

    def _registered(self, cls: type) -> None:
        """Note what an abstract class was told to take for its own, which `isinstance` tells."""
        if issubclass(type(cls), abc.ABCMeta):
            for name in registered_in(cls):
                self.write(b"registered", name.encode())
            self.guards.equal(abc.get_cache_token, abc.get_cache_token())

    def _look_into_class(self, cls: type, path: str) -> None:
        rebound = [name for name in cls.__dict__ if (id(cls), name) in self.known_rebound]
        self.write(b"class", cls.__name__.encode())
        self.guards.class_(cls, rebound)
        for base in (type(cls), *cls.__bases__):
            self.value(base, f"{path}.{base.__name__}")
        self._registered(cls)
        members = members_of(cls)
        self.write(b"order", constant(order_of(cls, {name: members[name] for name in members if name not in rebound})))
        for name, member in cls.__dict__.get("_member_map_", {}).items():
            self.attributes.note_holder(member, f"{path}.{name}")
        for name, item in sorted(members.items()):
            self.write(b"member", name.encode())
            if name in rebound:
                self._effect((id(cls), name), f"{path}.{name}")
            else:
                self.value(item, f"{path}.{name}")


def _is_of_the_user(value: object) -> bool:
    # Modules and tensors, too: both have this method.
    return library_of(type(value).__module__) is None or hasattr(type(value), "requires_grad_")


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING
