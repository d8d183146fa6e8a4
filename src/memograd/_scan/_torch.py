"""What torch leaves untyped or without a public name, asked for in one place and typed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import torch
from torch import _VF
from torch._C._functorch import peek_interpreter_stack
from torch._compile import _disable_dynamo  # pyright: ignore[reportPrivateUsage]

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

P = ParamSpec("P")
R = TypeVar("R")

_untyped: Any = _VF

# What ``Tensor.split`` calls once it has looked for subclasses and symbolic sizes, of which a cell sees none.
split: Callable[[Tensor, int, int], tuple[Tensor, ...]] = _untyped.split


def kernel(mode: str) -> Callable[..., tuple[Tensor, ...]]:
    """Give the kernel that a recurrent module of this ``mode`` calls; it gives outputs, then last states."""
    return getattr(_VF, mode.lower())


def weight_names(module: nn.RNNBase) -> list[str]:
    """Give the names of a module's weights, which it lists nowhere in public, in the order of its kernel."""
    names: list[str] = module._flat_weights_names  # pyright: ignore[reportPrivateUsage]
    return names


def untraced(f: Callable[P, R]) -> Callable[P, R]:
    """Break a compiled caller's graph at ``f``: ``torch.compiler.disable``, without importing the compiler yet."""
    return _disable_dynamo(f)


def apply(function: Any, *args: Any) -> Any:
    """Call a ``torch.autograd.Function``, whose ``apply`` has no types."""
    return function.apply(*args)


def is_readable(x: Any) -> bool:
    """Say whether a value is a tensor whose content can be read: no subclass, no transform, nothing traced."""
    return (
        type(x) in (torch.Tensor, torch.nn.Parameter)
        and x.device.type in ("cpu", "cuda")
        and x.layout == torch.strided
        and not x.is_nested
        and x.is_floating_point()
        and not is_transformed()
    )


def is_transformed() -> bool:
    """Say whether a trace or transform is under way (jit, vmap, grad, forward mode): tensors may then have no bits."""
    tracing: bool = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    interpreter = cast("object", peek_interpreter_stack())  # None outside of transforms, whatever its stub says
    level = cast("int", torch.autograd.forward_ad._current_level)  # pyright: ignore[reportPrivateUsage]
    return tracing or interpreter is not None or level >= 0
