"""The three ways in which a value is copied.

`Fixed`: the value comes back itself; `why` says why, where that can be spoiled. `Shallow`: a copy is made at once, in
which then the parts are replaced by their copies, so that cycles are no matter. `Built`: what cannot be changed (a
tuple) is made of the copies of its parts, when those are there; if none of them is a copy, it comes back itself.

Keys of dictionaries and elements of sets are taken at their word: what has a hash is not to change, and stays itself.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict, defaultdict, deque
from types import BuiltinFunctionType, CodeType, MemberDescriptorType, ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeAlias

    # How a part is put into the copy, where, and the part.
    Part: TypeAlias = tuple[Callable[[Any, Any, Any], object], Any, object]
    Way: TypeAlias = "Fixed | Shallow | Built"

ATOMS: frozenset[type] = frozenset(
    {int, float, complex, bool, type(None), str, bytes, range, type, type(...), type(NotImplemented)}
    | {BuiltinFunctionType, CodeType, ModuleType}
)


class Fixed:
    """The value itself; `why` is empty for what cannot be changed."""

    __slots__ = ("why",)

    def __init__(self, why: str = "") -> None:
        self.why = why


def nothing(value: object) -> tuple[()]:  # noqa: ARG001 - stands where parts are asked for
    """List no parts."""
    return ()


class Shallow:
    """A shallow copy, and then the parts. `hashed` lists what stays itself."""

    __slots__ = ("copy", "hashed", "parts")

    def __init__(
        self,
        copy: Callable[[Any], Any],
        parts: Callable[[Any], Sequence[Part]] = nothing,
        hashed: Callable[[Any], Iterable[object]] = nothing,
    ) -> None:
        self.copy = copy
        self.parts = parts
        self.hashed = hashed


class Built:
    """What is made of its parts; `maker` must not keep the value alive."""

    __slots__ = ("hashed", "maker", "parts")

    def __init__(
        self,
        maker: Callable[[Any], Callable[[Sequence[Any]], Any]],
        parts: Callable[[Any], Sequence[object]] = nothing,
        hashed: Callable[[Any], Iterable[object]] = nothing,
    ) -> None:
        self.maker = maker
        self.parts = parts
        self.hashed = hashed


class ByValue:
    """A type of which each value has a way of its own."""

    __slots__ = ("decide",)

    def __init__(self, decide: Callable[[Any], Way]) -> None:
        self.decide = decide


def same(kind: type) -> Fixed:
    """Say that values of a type come back as the same object."""
    return Fixed(f"a {kind.__name__}, which is not copied: every call is given the same object")


def has(kind: type, name: str) -> bool:
    """Tell whether a class or one that it comes from, object aside, defines a name."""
    return any(name in base.__dict__ for base in kind.__mro__ if base is not object)


def own(value: object) -> dict[str, Any]:
    """Give the dictionary of an instance; an empty one where it has none."""
    try:
        return object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}


def slots_of(value: object) -> list[Part]:
    """List what the slots of an instance hold."""
    slots: list[Part] = []
    for member in members(type(value)):
        try:
            slots.append((_set_member, member, member.__get__(value)))
        except AttributeError:  # noqa: PERF203 - a slot that was never set
            continue
    return slots


def attributes_of(value: object) -> list[Part]:
    """List what an instance holds beside what it is as a builtin."""
    return [*((_set_own, name, part) for name, part in own(value).items()), *slots_of(value)]


def _set_own(target: object, name: str, part: object) -> None:
    own(target)[name] = part


def _set_member(target: object, member: Any, part: object) -> None:
    member.__set__(target, part)


def members(kind: type) -> list[Any]:
    """List what reads and writes the slots of instances; looked for once, since a class may have a thousand names."""
    members = _slots.get(kind)
    if members is None:
        held = [member for base in kind.__mro__ if base not in BUILTINS for member in base.__dict__.values()]
        members = _slots[kind] = [member for member in held if type(member) is MemberDescriptorType]
    return members


# What an instance may be besides: what it holds as that is copied as that, and not by the descriptors of these types.
BUILTINS: frozenset[Any] = frozenset(
    {OrderedDict, defaultdict, dict, list, set, deque, bytearray, SimpleNamespace, object}
)

# A class that is gone takes its entry along.
_slots: weakref.WeakKeyDictionary[type, list[Any]] = weakref.WeakKeyDictionary()
