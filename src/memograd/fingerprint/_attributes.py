"""Which attributes of functions, classes and members of enums reached code reads, beside calling them.

A function may hold attributes, and it has a docstring, annotations and a name. Few read these, so they count only where
reached code names them: `h.n` of all that hold an `n`, and whatever is held where names are made up as the code runs
(`getattr`, `vars`). Which names are read is known when all code has been: what they give is written after it.
"""

from __future__ import annotations

from functools import partial
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Protocol, cast

from memograd._errors import SOURCE
from memograd.fingerprint._bytecode import said
from memograd.fingerprint._inside import CONTAINERS, FUNCTIONS, home_of, is_fixed, state_of
from memograd.fingerprint._origin import library_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from memograd.fingerprint._guards import Guards

# What a function or class says of itself.
SAID = frozenset("__doc__ __annotations__ __name__ __qualname__ __module__ __code__".split())  # noqa: SIM905 - so it reads
_OF_CODE = ("__code__", "__doc__", "__name__", "__qualname__")
# Builtins and attributes with which any attribute can be read, or be found not to be there.
_ANY = frozenset({"getattr", "hasattr", "vars", "dir", "eval", "exec"})
_ANY_BY = frozenset({"__getattribute__", "__dict__"})
# What of the standard library reads the environment.
_ENVIRONMENT = {
    "os": ("getenv", "getenvb", "get_exec_path"),
    "posixpath": ("expanduser", "expandvars"),
    "ntpath": ("expanduser", "expandvars"),
    "tempfile": ("gettempdir", "gettempdirb", "gettempprefix", "mkstemp", "mkdtemp"),
    "shutil": ("which", "get_terminal_size"),
    "getpass": ("getuser",),
}
_INSPECTING = frozenset({"inspect", "annotationlib", "pydoc"})
_OURS = frozenset({"__wrapped__", "_torchdynamo_disable"})
# How a class's names are read, whatever its metaclass calls so.
_NAMES = {name: type.__dict__[name].__get__ for name in ("__name__", "__qualname__")}


class Walk(Protocol):
    """What is told of every attribute that is read."""

    @property
    def guards(self) -> Guards: ...
    def value(self, value: Any, path: str) -> None: ...
    def write(self, *chunks: bytes) -> None: ...
    def is_effect(self, owner: object, name: str, path: str) -> bool: ...


class Attributes:
    """Which attributes are read, and what holds some.

    Attributes:
        names: attributes that are read of what only a run can tell.
        fields: whether code looks at the fields of dataclasses.
    """

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self.names: set[str] = set()
        self.fields = False
        self._of_classes: set[str] = set()
        self._any = False
        self._paths = False
        self._environment = False
        self._holders: list[tuple[Any, str]] = []
        self._met: set[int] = set()
        self._written: set[tuple[int, str]] = set()

    def note_name(self, name: str, *, of_class: bool = False) -> None:
        """Note a name that code reads of something, or holds as text; `of_class` if that can only be a class."""
        (self._of_classes if of_class and name in SAID else self.names).add(name)
        self._any |= name in _ANY_BY
        self.fields |= name == "__dataclass_fields__"

    def note_builtin(self, name: str) -> None:
        """Note a builtin function that is reached."""
        self._any |= name in _ANY

    def note_library_class(self, cls: type) -> None:
        """Note a library's class that is reached."""
        self._any |= cls.__name__ in {"AttributeError", "attrgetter"}
        self._paths |= cls.__module__.partition(".")[0] == "pathlib"

    def note_library_function(self, f: FunctionType, home: str) -> None:
        """Note a library's function that is reached: some look at what they are given."""
        if home in _INSPECTING or f.__name__ == "get_type_hints":
            self.names |= SAID
        self.fields |= home == "dataclasses" and f.__name__ in {"fields", "replace"}
        self._environment |= f.__name__ in _ENVIRONMENT.get(home, ())

    @property
    def reads_environment(self) -> bool:
        """Whether what is reached of the standard library reads the environment."""
        return self._environment or "expanduser" in self.names or (self._paths and "home" in self.names)

    def note_holder(self, value: Any, path: str) -> None:
        """Note what may be read of: a function, a class, or what holds attributes that nothing else tells of."""
        if id(value) not in self._met:
            self._met.add(id(value))
            self._holders.append((value, path))

    def write_what_is_read(self) -> bool:
        """Write down what is read and was not written yet; tell whether there was any."""
        known = len(self._written)
        for index, (value, path) in enumerate(self._holders):  # what is written may hold more of them
            names = sorted(name for name in self._read_of(value) if (index, name) not in self._written)
            for name in names:
                self._written.add((index, name))
                self.walk.write(b"attribute", b"%d" % index, name.encode())
                self._write(value, name, f"{path}.{name}")
        return len(self._written) > known

    def guard(self) -> None:
        """Expect no attributes besides, where code can find out whether there are; and fields as they are."""
        for value, _ in self._holders:
            if not issubclass(type(value), type):
                if self._any and not _is_of_a_librarys_enum(value):
                    self.walk.guards.count(value)
            elif self.fields and type(value.__dict__.get("__dataclass_fields__")) is dict:
                self.walk.guards.each(partial(state_of, value.__dict__["__dataclass_fields__"]))

    def _read_of(self, value: Any) -> Iterator[str]:
        kind = cast("type[Any]", type(value))
        if kind is FunctionType or issubclass(kind, type):
            yield from self.names & SAID
        if issubclass(kind, type):
            yield from self._of_classes - self.names
            return
        held: dict[str, Any] = value.__dict__
        for name in _own(value, list(held)):
            if name in self.names or (self._any and _is_read(held.get(name))):
                yield name

    def _write(self, value: Any, name: str, path: str) -> None:
        if issubclass(type(value), type):
            self._of_class(value, name, path)
        elif name in SAID:
            self._of_function(value, name, path)
        elif not self.walk.is_effect(value.__dict__, name, path):
            held = value.__dict__.get(name)
            self.walk.guards.holds(value, name, held)
            self.walk.value(held, path)

    def _of_function(self, f: FunctionType, name: str, path: str) -> None:
        if name in _OF_CODE:
            self.walk.write(said(f.__code__, name))
        if name == "__annotations__":
            self._annotations(f, path)
        elif name != "__code__":
            found = getattr(f, name)
            self.walk.guards.attribute(f, name, found)
            self.walk.value(found, path)

    def _of_class(self, cls: type, name: str, path: str) -> None:
        if name in _NAMES:
            found = _NAMES[name](cls)
            self.walk.guards.got(_NAMES[name], cls, found)
            self.walk.value(found, path)
        elif name == "__annotations__":
            self._annotations(cls, path)
        elif name != "__code__":
            self.walk.value(cls.__dict__.get(name), path)  # all that is in there is guarded

    def _annotations(self, value: Any, path: str) -> None:
        space: dict[str, Any] = value.__dict__
        # From 3.14 on, they are what a function gives: it is followed, and not run.
        of_function = type(value) is FunctionType
        made = getattr(value, "__annotate__", None) if of_function else space.get("__annotate_func__")
        if made is not None:
            self.walk.value(made, path)
            return
        found: dict[str, Any] = space.get("__annotations__", {})
        if of_function:
            found = value.__annotations__
            self.walk.guards.attribute(value, "__annotations__", found)
        self.walk.guards.members(found, ())
        for name, each in list(found.items()):
            self.walk.write(name.encode())
            self.walk.value(each, f"{path}[{name!r}]")


def _own(value: Any, names: Iterable[Any]) -> list[str]:
    """Leave out what enums, and we, keep of their own among attributes."""
    names = [name for name in names if type(name) is str and name not in SAID]
    if type(value) is not FunctionType:
        return names if issubclass(type(value), partial) else [one for one in names if not one.endswith("_")]
    if value.__code__.co_filename != SOURCE:
        return names
    return [one for one in names if one not in _OURS and not _is_ours(value.__dict__.get(one))]


def _is_of_a_librarys_enum(value: object) -> bool:
    kind = type(value)
    return "_member_map_" in kind.__dict__ and library_of(kind.__module__) is not None


def _is_ours(value: Any) -> bool:
    module = value.__func__.__module__ if type(value) is MethodType else ""
    return module.partition(".")[0] == __name__.partition(".")[0]


def _is_read(value: Any) -> bool:
    """Tell whether code that asks for any attribute may mean this: what a library leaves in a function is its own."""
    if type(value) is FunctionType:
        return library_of(home_of(value)) is None
    kind = cast("type[Any]", type(value))
    return is_fixed(value) or kind in CONTAINERS or kind in FUNCTIONS or library_of(kind.__module__) is None
