"""Calls that are left to the plain program, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from memograd._replay._run import unpacked
from memograd._replay._trees import Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_C: Any = torch._C  # pyright: ignore[reportPrivateUsage]
_forward_ad: Any = torch.autograd.forward_ad
_parametrize: Any = parametrize

_is_capturing: Callable[[], bool] = torch.cuda.is_current_stream_capturing
_top_hooks: Callable[[bool], object] = _C._autograd._top_saved_tensors_default_hooks
_hooks_allowed: Callable[[], bool] = _C._autograd._saved_tensors_hooks_is_enabled


def why_not(args: Sequence[Any], kwargs: Mapping[str, Any], captured: Sequence[Any] = ()) -> str | None:
    """Say why a call under grad mode is to be left to the plain program; None if it can be recorded."""
    return _surroundings() or _values(Seen((tuple(args), dict(kwargs)))) or _captured(Seen(tuple(captured)))


def watched_by_others() -> bool:
    """Tell whether hooks for saved tensors are in force that are not those of a recorded call."""
    hooks: Any = _top_hooks(True)
    return hooks is not None and hooks[1] is not unpacked


def _surroundings() -> str | None:
    return next((reason for holds, reason in _SURROUNDINGS if holds()), None)


_SURROUNDINGS: list[tuple[Callable[[], bool], str]] = [
    (torch.jit.is_tracing, "torch.jit.trace is under way"),  # pyright: ignore[reportPrivateImportUsage]
    (torch.compiler.is_compiling, "torch.compile or torch.export is under way"),
    (lambda: _C._functorch.peek_interpreter_stack() is not None, "a transform of torch.func is under way"),
    (lambda: _forward_ad._current_level >= 0, "forward-mode differentiation is under way"),
    (lambda: _C._len_torch_dispatch_stack() > 0, "a dispatch mode is in force (fake tensors, make_fx, torch.export)"),
    (lambda: not _hooks_allowed(), "hooks for saved tensors are forbidden"),
    (lambda: _top_hooks(True) is not None, "hooks for saved tensors are in force (checkpoint, save_on_cpu)"),
    (lambda: _parametrize._cache_enabled > 0, "torch.nn.utils.parametrize.cached() is in force"),
    (lambda: torch.cuda.is_initialized() and _is_capturing(), "a CUDA graph is being captured"),
]


def _values(seen: Seen) -> str | None:
    for module in seen.modules:
        if any("FullyShardedDataParallel" in type(part).__name__ for part in module.modules()):
            return "parameters are sharded by FSDP"
    return next(filter(None, map(_tensor, seen.tensors)), None)


def _captured(seen: Seen) -> str | None:
    if any(x.requires_grad and not x.is_leaf for x in seen.tensors):
        return "it captures a tensor that requires grad and is no leaf; pass it as an argument"
    return _values(seen)


def _tensor(tensor: Tensor) -> str | None:
    kind = type(tensor)
    if kind not in (Tensor, nn.Parameter):
        dispatch = getattr(kind, "__torch_dispatch__", None)
        own = "with __torch_dispatch__" if dispatch is not getattr(Tensor, "__torch_dispatch__", None) else "subclass"
        return f"a tensor is of type {kind.__qualname__} ({own})"
    if tensor.requires_grad and (tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized):
        return f"a tensor that requires grad has layout {tensor.layout}"
    return None
