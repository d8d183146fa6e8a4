"""`memo.frozen(module)`: weights that do not change for a while are hashed once, and not at every call."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any

from memograd._errors import warn
from memograd.fingerprint._content import identify
from memograd.fingerprint._form import Unidentified
from memograd.fingerprint._trust import trusted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memograd.fingerprint._content import Content


class Frozen(AbstractContextManager[None]):
    """Take the weights and buffers of modules for unchanged while their version counters are.

    At the end they are hashed once more: what has changed them unseen is said then.
    """

    def __init__(self, modules: Sequence[Any]) -> None:
        for module in modules:
            if not (hasattr(module, "parameters") and hasattr(module, "buffers")) or isinstance(module, type):
                raise TypeError(
                    f"memo.frozen() got {module!r}, expected an nn.Module; write `with memo.frozen(model):`, and "
                    "trust='versions' for tensors that are arguments"
                )
        self._modules = modules
        self._trust = ExitStack()

    def __enter__(self) -> None:
        tensors = [tensor for module in self._modules for tensor in (*module.parameters(), *module.buffers())]
        self._trust.enter_context(trusted(tensors))
        for module in self._modules:
            _content(module)

    def __exit__(self, *raised: object) -> None:
        taken_for = [_content(module) for module in self._modules]
        self._trust.close()
        for module, content in zip(self._modules, taken_for, strict=True):
            if _content(module) != content:
                warn(
                    f"{type(module).__name__} was changed within memo.frozen() in a way that its version counters do "
                    "not show (.data, a numpy array); results since then may be those of before"
                )


def _content(module: Any) -> Content | None:
    try:
        return identify(module)
    except Unidentified:
        return None
