"""What can be said of modules without running them: why a call of theirs is no function of the row."""

from __future__ import annotations

import dis
from collections import deque
from types import CellType, CodeType, FunctionType
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.dropout import _DropoutNd  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.instancenorm import _InstanceNorm  # pyright: ignore[reportPrivateUsage]

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_KEPT = (list, dict, set, bytearray, deque)
_STORES = frozenset({"STORE_GLOBAL", "STORE_ATTR"})
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


def on_the_side(f: Any) -> str:
    """Say what code may do that its result does not show: set an attribute, change what outlives the call."""
    for name, inner in _codes_of(f, set()):
        code = inner.__code__
        if (store := next((i for i in dis.get_instructions(code) if i.opname in _STORES), None)) is not None:
            return f"{name}sets {store.argval}"
        if (kept := next((name for name, value in _outside(inner) if isinstance(value, _KEPT)), None)) is not None:
            return f"{name}reaches {kept}, which it may change"
    return "" if hasattr(f, "__code__") else "is no code of Python's"


def may_write(module: nn.Module) -> bool:
    """Tell whether a module may write into what it is given: by its code, whether it does so often or seldom."""
    kinds = {type(each) for each in module.modules()}
    users = [f for kind in kinds if is_users(kind) for _, f in _codes_of(kind.forward, set())]
    written = any(_is_written(i) for f in users for i in dis.get_instructions(f.__code__))
    return written or any(getattr(each, "inplace", False) for each in module.modules())


def _is_written(i: dis.Instruction) -> bool:
    named = isinstance(i.argval, str) and i.argval.endswith("_") and not i.argval.endswith("__")
    # An operator in place has names of its own up to Python 3.10.
    changed = i.opname.startswith(("STORE_SUBSCR", "INPLACE_")) or (i.opname == "BINARY_OP" and i.argrepr[-1:] == "=")
    keywords = cast("tuple[Any, ...]", i.argval) if isinstance(i.argval, tuple) else ()
    return named or changed or "out" in keywords or "inplace" in keywords


def _codes_of(f: Any, seen: set[CodeType]) -> Iterator[tuple[str, FunctionType]]:
    """Go through a function and those of its module that it calls, with a word that says which it is."""
    if not isinstance(f, FunctionType) or f.__code__ in seen:
        return
    word = f"calls {f.__name__}, which " if seen else ""
    seen.add(f.__code__)
    yield word, f
    for _, value in _outside(f):
        if isinstance(value, FunctionType) and value.__module__ == f.__module__:
            yield from _codes_of(value, seen)


def _outside(f: FunctionType) -> list[tuple[str, Any]]:
    """List what code has from outside, by the names that it has for it."""
    code = f.__code__
    found = [(name, f.__globals__[name]) for name in code.co_names if name in f.__globals__]
    cells = zip(code.co_freevars, f.__closure__ or (), strict=False)
    return found + [(name, cell.cell_contents) for name, cell in cells if cell != CellType()]


def is_users(kind: type[nn.Module]) -> bool:
    """Tell whether a class of modules is none of torch's."""
    return not kind.__module__.startswith("torch.")


def kept_by(kind: type[nn.Module]) -> list[str]:
    """Write down what classes keep for all their modules: counters, lists."""
    kinds = [each for each in kind.__mro__ if issubclass(each, nn.Module) and is_users(each)]
    pairs = [(each, name, value) for each in kinds for name, value in vars(each).items()]
    return [f"{each} {name} {value!r}" for each, name, value in pairs if isinstance(value, (int, float, str, *_KEPT))]


def is_graded(values: Iterable[Any]) -> bool:
    """Tell whether a call of modules and tensors goes back to some of their weights."""
    return torch.is_grad_enabled() and any(_requires_grad(value) for value in values)


def _requires_grad(value: Any) -> bool:
    if isinstance(value, nn.Module):
        return any(p.requires_grad for p in value.parameters())
    return isinstance(value, torch.Tensor) and value.requires_grad
