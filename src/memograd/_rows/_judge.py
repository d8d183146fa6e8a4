"""What can be said of modules without running them: why a call of theirs is no function of the row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.dropout import _DropoutNd  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.instancenorm import _InstanceNorm  # pyright: ignore[reportPrivateUsage]

if TYPE_CHECKING:
    from collections.abc import Iterable

_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def why_not(modules: Iterable[nn.Module]) -> str:
    """Say why calls of modules are made plainly; nothing where nothing speaks against rows."""
    for root in modules:
        for module in root.modules():
            reason = _reason(module)
            if reason:
                return f"{_named(root, module)} {reason}"
    return ""


def _reason(module: nn.Module) -> str:
    state = module.__dict__
    if any(state[hooks] for hooks in _HOOKS):
        return "has hooks, which would be called with other batches"
    if isinstance(module, _DropoutNd):
        return "draws for each row in train mode; call eval() where it is frozen" if _drops(module, module.p) else ""
    if isinstance(module, _NormBase):
        return _of_norm(module)
    if isinstance(module, (nn.RNNBase, nn.MultiheadAttention)) and _drops(module, module.dropout):
        return "has dropout, which draws for each row in train mode; call eval() where it is frozen"
    return ""


def _of_norm(module: _NormBase) -> str:
    if isinstance(module, _InstanceNorm):
        return "moves its statistics in train mode" if module.training and module.track_running_stats else ""
    if module.training:
        return "normalizes by the batch's statistics in train mode; call eval() where it is frozen"
    return "" if module.running_mean is not None else "has no statistics but the batch's"


def _drops(module: nn.Module, p: Any) -> bool:
    return module.training and bool(p)


def _named(root: nn.Module, module: nn.Module) -> str:
    found: list[Any] = list(cast("Any", root).named_modules())
    name = next(name for name, each in found if each is module)
    return f"{name} ({type(module).__name__})" if name else type(module).__name__


def is_graded(values: Iterable[Any]) -> bool:
    """Tell whether a call of modules and tensors goes back to some of their weights."""
    return torch.is_grad_enabled() and any(_requires_grad(value) for value in values)


def _requires_grad(value: Any) -> bool:
    if isinstance(value, nn.Module):
        return any(p.requires_grad for p in value.parameters())
    return isinstance(value, torch.Tensor) and value.requires_grad
