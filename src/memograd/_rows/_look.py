"""A quick look at a module: equal looks mean equal content, so that what was said of it before need not be said anew.

It reads all that the identity of a module is made of (`fingerprint`: classes with their code, attributes, tensors by
their bytes, how they are put together), but writes it down once more only where it has changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from memograd.fingerprint._content import identify
from memograd.fingerprint._form import Unidentified
from memograd.fingerprint._torch import HOOKS, OWN

if TYPE_CHECKING:
    from memograd.fingerprint._form import Writing

# Compared by type and value; of numbers that are equal and of two kinds (1 and 1.0, 0.0 and -0.0) each is another.
_ATOMS = frozenset({bool, int, str, bytes, type(None), torch.dtype, torch.device})


def look_at(root: nn.Module, writing: Writing) -> tuple[Any, ...] | None:
    """Give what a module is at the moment, to be compared with what it was; None where only its identity says it.

    Args:
        root: the module.
        writing: how tensors are written, and all else that is no plain value.
    """
    seen = _Seen(writing)
    waiting = [root]
    seen.number(root)
    while waiting:
        inner = seen.module(waiting.pop())
        if inner is None:
            return None
        waiting += inner
    try:
        return (*seen.said, identify([*seen.kinds, *seen.others.values()], writing))
    except Unidentified:
        return None


class _Seen:
    def __init__(self, writing: Writing) -> None:
        self._quick = writing.quick
        self._numbers: dict[int, int] = {}
        self.said: list[Any] = []
        self.kinds: dict[type, None] = {}
        self.others: dict[int, object] = {}

    def number(self, value: object) -> tuple[int, bool]:
        count = len(self._numbers)
        number = self._numbers.setdefault(id(value), count)
        return number, number == count

    def module(self, module: nn.Module) -> list[nn.Module] | None:
        """Look at one module; give those in it that are new, None where it has what is not looked at quickly."""
        state: dict[str, Any] = vars(module)
        kind = cast("Any", type(module))
        if state.get("_compiled_call_impl") is not None or any(state.get(name) for name in HOOKS):
            return None
        if kind.get_extra_state is not nn.Module.get_extra_state or kind.__name__ == "OptimizedModule":
            return None
        self.kinds[kind] = None
        self.said.append(kind)
        for name, value in state.items():
            if name not in OWN:
                self.said.append((name, self._value(value)))
        for register in ("_parameters", "_buffers"):
            self.said.append(register)
            for name, value in state[register].items():
                self._tensor(name, value)
        return self._inner(state["_modules"])

    def _value(self, value: Any) -> Any:
        kind = cast("Any", type(value))
        if kind in _ATOMS:
            return kind, value
        if kind is float:
            return float.hex(value)
        if kind is tuple:
            return tuple(map(self._value, cast("tuple[Any, ...]", value)))
        if kind is set and not value:  # of buffers that are not saved: every module has one
            return kind
        number, _ = self.number(value)
        self.others[number] = value
        return number

    def _tensor(self, name: str, value: Any) -> None:
        number, new = (-1, False) if value is None else self.number(value)
        self.said.append((name, number))
        if new:
            write = self._quick.get(cast("Any", type(value)))
            # Of a shape that is met first, how it is written is prepared at first.
            chunk = None if write is None else write(value) or write(value)
            if chunk is None:
                self.others[number] = value
            self.said.append(chunk)

    def _inner(self, held: dict[str, nn.Module | None]) -> list[nn.Module]:
        new: list[nn.Module] = []
        for name, value in held.items():
            number, is_new = (-1, False) if value is None else self.number(value)
            self.said.append((name, number))
            if value is not None and is_new:
                new.append(value)
        return new
