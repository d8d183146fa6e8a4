"""How things stand with what a cell reads and has no gradient: it must not change, as steps that run again read it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from memograd._replay._memory import version

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from torch import Tensor, nn

_OWN = {"_parameters", "_buffers", "_modules", "_flat_weights", "training"}
_PLAIN = (int, float, complex, bool, str, bytes, type(None))


class Standing:
    """The training flags, attributes, buffers and frozen weights of modules, and other tensors, as they are now.

    Args:
        roots: the modules.
        others: other tensors that are read.
    """

    def __init__(self, roots: Iterable[nn.Module], others: Iterable[Tensor] = ()) -> None:
        modules = {id(module): module for root in roots for module in root.modules()}
        self._modules = [*modules.values()]
        self._flags = [module.training for module in self._modules]
        self._attributes = [_attributes(module) for module in self._modules]
        self._places = [_held(module) for module in self._modules]
        constant = {id(t): t for held in self._places for t in held.values() if not t.requires_grad}
        constant.update((id(t), t) for t in others)
        self._versions = [(t, version(t)) for t in constant.values()]
        self._buffers = [(b, b.detach().clone()) for module in self._modules for b in module.buffers(recurse=False)]

    def changed(self) -> str:
        """Say what is no longer as it was; "" where all is."""
        for module, attributes, held in zip(self._modules, self._attributes, self._places, strict=True):
            now, kind = _attributes(module), type(module).__name__
            for name in {**attributes, **now}:
                if not _is_one(attributes.get(name), now.get(name)):
                    return f"the attribute {name!r} of {kind}"
            if {name: id(t) for name, t in _held(module).items()} != {name: id(t) for name, t in held.items()}:
                return f"a parameter or buffer of {kind}"
        for tensor, then in self._versions:
            if version(tensor) != then:
                return f"a tensor of shape {list(tensor.shape)} that it reads (a buffer, or a frozen weight)"
        return ""

    def put_back(self) -> None:
        """Undo what steps that were tried have done to attributes and buffers."""
        if not self.changed():
            return
        for module, attributes in zip(self._modules, self._attributes, strict=True):
            for name in _attributes(module).keys() - attributes.keys():
                del vars(module)[name]
            vars(module).update(attributes)
        with torch.no_grad():
            for buffer, then in self._buffers:
                if not torch.equal(buffer, then):
                    buffer.copy_(then)
        self._versions = [(tensor, version(tensor)) for tensor, _ in self._versions]

    @contextmanager
    def flags(self) -> Generator[None]:
        """Let modules train, or not, as they did."""
        now = [module.training for module in self._modules]
        if now == self._flags:
            yield
            return
        self._set(self._flags)
        try:
            yield
        finally:
            self._set(now)

    def _set(self, flags: Sequence[bool]) -> None:
        for module, flag in zip(self._modules, flags, strict=True):
            module.training = flag


def _attributes(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if name not in _OWN}


def _held(module: nn.Module) -> dict[str, Tensor]:
    both = {**vars(module)["_parameters"], **vars(module)["_buffers"]}
    return {name: value for name, value in both.items() if value is not None}


def _is_one(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and isinstance(a, _PLAIN) and a == b)
