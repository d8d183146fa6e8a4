"""Whether a call has changed what it was given: arguments are looked at before and after.

Content decides: it is compared as keys are. Tensors count their changes besides, and a gradient that was left in one is
a change as well. What only locates the change (which items a container held) is for the message.
"""

from __future__ import annotations

import weakref
from operator import getitem as _item
from typing import TYPE_CHECKING, Any, cast

from memograd._copies._kinds import unchanging
from memograd._copies._places import Places, attribute, slot
from memograd._copies._plan import adapter_of
from memograd._copies._ways import ATOMS
from memograd.fingerprint._content import KEY, identify
from memograd.fingerprint._form import Unidentified
from memograd.fingerprint._values import as_kept, kept_properties

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memograd._copies._places import Path
    from memograd.fingerprint._form import Writing

# Their state is to move: what a call draws is the business of the key, not a change of an argument.
_STREAMS = {
    "random.Random",
    "numpy.random._generator.Generator",
    "numpy.random.mtrand.RandomState",
    "torch._C.Generator",
}
# Where a module keeps what is written as its attribute.
_REGISTERS = {"_parameters", "_buffers", "_modules"}
_dict: Any = dict
_list: Any = list


class Witness:
    """What arguments were before a call."""

    def __init__(
        self, values: Sequence[Any], names: Sequence[str], contents: Sequence[object] | None, writing: Writing
    ) -> None:
        self._values = {at: value for at, value in enumerate(values) if _changeable(value)}
        self._names = names
        self._writing = writing
        known = contents
        self._before = {at: self._content(one) if known is None else known[at] for at, one in self._values.items()}
        self._places = Places([value if at in self._values else None for at, value in enumerate(values)])
        # To compute a property that an object keeps is no change of it.
        self._kept = {id(value): kept_properties(value) for value in (self._places.values if self._values else ())}
        self._marks = [(value, _mark(value), _held(value)) for value in (self._places.values if self._values else ())]

    def changed(self) -> str | None:
        """Name the first argument that is not what it was, down to the part where that can be told; or None."""
        for value, mark, _ in self._marks:
            if _mark(value) != mark:
                return self._named(value)
        for at, value in self._values.items():
            before = self._before[at]
            if before is not None and self._content(value) != before:
                with as_kept(self._kept):
                    same = self._content(value) == before
                if not same:
                    return self._located(at)
        return None

    def _content(self, value: object) -> object:
        try:
            return identify(value, self._writing)
        except Unidentified:  # then the call has no key, and nothing is stored
            return None

    def _located(self, at: int) -> str:
        for value, _, held in self._marks:
            path = self._places.paths[id(value)][0]
            step = _difference(held, _held(value)) if path[0] == at else None
            if step is not None:
                return self._text((*path, step))
        return self._text((at,))

    def _named(self, value: object) -> str:
        return self._text(self._places.paths[id(value)][0])

    def _text(self, path: Path) -> str:
        number, steps = int(path[0]), path[1:]
        name = str(self._names[number] if number < len(self._names) else f"argument {number}")
        registered = False
        for step, at in steps:
            hidden = step is attribute and at in _REGISTERS
            name += "" if hidden else f".{at}" if registered else _text_of(step, at)
            registered = hidden
        return name


def witness(
    values: Sequence[Any],
    names: Sequence[str] = (),
    contents: Sequence[object] | None = None,
    writing: Writing = KEY,
) -> Witness:
    """Look at the arguments before a call.

    Args:
        values: the values of the parameters, bound.
        names: the names of the parameters, for the message.
        contents: what `identify` gave for each, if that is known already.
        writing: how their content is written.
    """
    return Witness(values, names, contents, writing)


def _changeable(value: object) -> bool:
    kind = cast("type[Any]", type(value))
    if kind in ATOMS:
        return False
    if kind is tuple and ATOMS.issuperset(map(type, cast("tuple[Any, ...]", value))):
        return False
    looked_at = _looked_at.get(kind)
    if looked_at is None:
        looked_at = _looked_at[kind] = not (_is_stream(kind) or unchanging(kind))
    return looked_at


_looked_at: weakref.WeakKeyDictionary[type, bool] = weakref.WeakKeyDictionary()


def _is_stream(kind: type) -> bool:
    return not _STREAMS.isdisjoint(f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__)


def _mark(value: object) -> object:
    adapter = adapter_of(type(value))
    return None if adapter is None else adapter.mark(value)


def _held(value: Any) -> list[tuple[Any, Any]] | None:
    """List what a container holds, with what leads to it."""
    kind = cast("type[Any]", type(value))
    if issubclass(kind, _dict):
        return list(_dict.items(value))
    return [*enumerate(_list.__iter__(value))] if issubclass(kind, _list) else None


def _difference(before: list[tuple[Any, Any]] | None, after: list[tuple[Any, Any]] | None) -> Any:
    """Find the step to the first item that is another one; None if all are the same, or only their number differs."""
    for (at, value), (other_at, other) in zip(before or (), after or (), strict=False):
        if at is other_at or at == other_at:
            if value is not other:
                return _item, at
        else:
            return None
    return None


def _text_of(step: object, at: Any) -> str:
    if step is attribute or step is slot:
        return f".{at if step is attribute else at.__name__}"
    return f'["{at}"]' if isinstance(at, str) else f"[{at!r}]"
