"""Where a part of a result is in the arguments: it comes back as that part of the arguments of the hit.

Equal arguments are taken apart alike, so a path that led to a part once leads to its like again. What is one object in
two places need not be one next time: then nobody can say which of them the function took, and the path leads nowhere.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, cast

from memograd._copies._ways import ATOMS, own, slots_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import TypeAlias

    # The number of the argument, and what leads from each value to the next: how, and where.
    Path: TypeAlias = tuple[Any, ...]
    Step: TypeAlias = tuple[Callable[[Any, Any], Any], Any]

_SEALED = (type, type(lambda: None))
_dict: Any = dict
_sequences: list[Any] = [list, tuple, deque]


class Gone(Exception):  # noqa: N818 - it never leaves this package: the call is computed
    """The arguments of the hit are not made as those of the first call were."""


class Lent:
    """A part of the arguments of the hit; `view` makes of it what the result holds."""

    __slots__ = ("kind", "path", "twins", "view")

    def __init__(self, path: Path, kind: type, twins: Sequence[tuple[Path, Path]]) -> None:
        self.path = path
        self.kind = kind
        self.twins = twins
        self.view: Callable[[Any], Any] | None = None

    def __call__(self, args: Sequence[Any]) -> Any:
        """Find the part. Raises whatever the way raises if it leads nowhere."""
        found = _follow(args, self.path)
        if type(found) is not self.kind or any(_follow(args, a) is not _follow(args, b) for a, b in self.twins):
            raise Gone
        return found if self.view is None else self.view(found)


def _follow(args: Sequence[Any], path: Path) -> Any:
    found = args[path[0]]
    for step, at in path[1:]:
        found = step(found, at)
    return found


class Places:
    """Every object inside the arguments, by identity."""

    def __init__(self, args: Sequence[object]) -> None:
        self.args = args
        self._paths: dict[int, list[Path]] | None = None
        self._parents: dict[int, int] = {}
        self._values: list[object] = []

    @property
    def paths(self) -> dict[int, list[Path]]:
        """All paths to each object."""
        if self._paths is None:
            self._paths = {}
            self._walk(self._paths)
        return self._paths

    @property
    def values(self) -> list[object]:
        """All objects, each once."""
        return self._values if self.paths else []

    def find(self, value: object) -> Lent | None:
        """Find what leads to a value, if it is in the arguments."""
        paths = self.paths.get(id(value))
        return Lent(paths[0], type(value), self._twins(id(value))) if paths else None

    def _twins(self, name: int | None) -> list[tuple[Path, Path]]:
        twins: list[tuple[Path, Path]] = []
        while name is not None:
            first, *others = self.paths[name]
            twins += [(first, other) for other in others]
            name = self._parents.get(name)
        return twins

    def _walk(self, paths: dict[int, list[Path]]) -> None:
        waiting: list[tuple[object, Path, int | None]] = [
            (arg, (at,), None) for at, arg in enumerate(self.args) if type(arg) not in ATOMS
        ]
        while waiting:
            value, path, parent = waiting.pop()
            if id(value) in paths:
                paths[id(value)].append(path)
                continue
            paths[id(value)] = [path]
            self._values.append(value)
            if parent is not None:
                self._parents[id(value)] = parent
            waiting += [(part, (*path, step), id(value)) for step, part in _inside(value)]


def _inside(value: Any) -> Iterator[tuple[Step, object]]:
    """List the parts of a value, with what leads to each."""
    if isinstance(value, _SEALED):
        return
    yield from ((step, part) for step, part in _held(value) if type(part) not in ATOMS)
    yield from (((attribute, name), part) for name, part in own(value).items() if type(part) not in ATOMS)
    yield from (((slot, member), part) for _, member, part in slots_of(value) if type(part) not in ATOMS)


def _held(value: Any) -> Iterable[tuple[Step, object]]:
    """List what a container holds, by the methods of its builtin, whatever a subclass has overridden."""
    kind = cast("type[Any]", type(value))
    if issubclass(kind, _dict):
        plain = ATOMS.issuperset(map(type, _dict.__iter__(value)))
        return [((_dict.__getitem__, key), part) for key, part in _dict.items(value)] if plain else ()
    for base in _sequences:
        if issubclass(kind, base) and not ATOMS.issuperset(map(type, base.__iter__(value))):
            return [((base.__getitem__, at), part) for at, part in enumerate(base.__iter__(value))]
    return ()


def attribute(value: object, name: str) -> Any:
    """Step to an attribute."""
    return own(value)[name]


def slot(value: object, member: Any) -> Any:
    """Step to what a slot holds."""
    return member.__get__(value)
