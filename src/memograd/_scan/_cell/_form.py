"""What a nested value is without its tensors: how to take it apart, and how to put one like it together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_tree: Any = _pytree
_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device)


class _Slot:
    """Where a tensor stands."""

    def __repr__(self) -> str:
        return "a tensor"


_SLOT = _Slot()


@dataclass(frozen=True)
class Form:
    """The form of a nested value: tuples, lists, dictionaries, and what is registered with torch's pytrees.

    Attributes:
        spec: how it is nested.
        leaves: what stands in it: a slot for a tensor, else a value that is the same at each step.
    """

    spec: Any
    leaves: tuple[Any, ...]

    @staticmethod
    def of(value: Any, name: str) -> tuple[Form, list[Tensor]]:
        """Take a value apart.

        Args:
            value: of tensors, and of plain values (numbers, text, None), which stay as they are.
            name: what to call it in messages.

        Raises:
            TypeError: something else stands in it.
        """
        leaves, spec = _tree.tree_flatten(value)
        for leaf in leaves:
            if not isinstance(leaf, (torch.Tensor, *_PLAIN)):
                raise TypeError(
                    f"memo.scan: got {_kind(leaf)} in {name}; expected tensors, in tuples, lists and dictionaries. "
                    "Write torch.as_tensor(...) for numbers, and register classes of your own with "
                    "torch.utils._pytree.register_pytree_node."
                )
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        return Form(spec, tuple(_SLOT if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves)), tensors

    @property
    def _is_one(self) -> bool:
        return self.leaves == (_SLOT,) and self.spec.is_leaf()

    def filled(self, tensors: Sequence[Tensor]) -> Any:
        """Put a value together."""
        if self._is_one:
            return tensors[0]
        given = iter(tensors)
        return _tree.tree_unflatten([next(given) if leaf is _SLOT else leaf for leaf in self.leaves], self.spec)

    def taken(self, value: Any, name: str) -> list[Tensor]:
        """Take a value of this form apart.

        Raises:
            TypeError: it has another form.
        """
        if self._is_one and isinstance(value, torch.Tensor):
            return [value]
        form, tensors = Form.of(value, name)
        if not self.is_like(form):
            raise TypeError(
                f"memo.scan: got {name} as {form}, after {self}; expected the same form at each step. Write what "
                "changes from step to step as a tensor: torch.tensor(0) in place of 0."
            )
        return tensors

    def is_like(self, other: Form) -> bool:
        """Tell whether another form is the same: 1, 1.0 and True are not."""
        return self.spec == other.spec and all(
            a is b or (type(a) is type(b) and a == b) for a, b in zip(self.leaves, other.leaves, strict=True)
        )

    def __str__(self) -> str:
        return str(_tree.tree_unflatten(list(self.leaves), self.spec))


def _kind(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
