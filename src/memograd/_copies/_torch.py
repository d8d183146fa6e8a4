"""Tensors: their memory, copies of it in the same strides, and views into it. Imported when torch is loaded.

A copy is a plain one. `torch._lazy_clone` would be cheaper for large tensors, but what reads (`.numpy()`,
`.data_ptr()`) then lets go of the shared memory, which another thread may be reading at that moment.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def takes(kind: type) -> bool:
    """Tell whether values of a type are tensors."""
    return issubclass(kind, Tensor)


def fixed(value: Tensor) -> str:  # noqa: ARG001 - as numpy's
    """Say why a tensor comes back as the same object: never."""
    return ""


def _plain(value: Tensor) -> bool:
    return type(value) is Tensor and _has_strides(value) and not (value.is_quantized or value.__dict__)


def _has_strides(value: Tensor) -> bool:
    return value.layout is torch.strided and value.device.type != "meta" and not value.is_nested


def extent(value: Tensor) -> tuple[str, int, int] | None:
    """Find which memory the elements are in: first byte, and the one behind the last."""
    # Other subclasses may be made of other tensors, and have no memory of their own.
    if type(value) not in {Tensor, torch.nn.Parameter} or not _has_strides(value) or value.numel() == 0:
        return None
    first = value.data_ptr()
    return (str(value.device), first, first + _reach(value) * value.element_size()) if first else None


def _reach(value: Tensor) -> int:
    return 1 + sum((int(size) - 1) * int(stride) for size, stride in zip(value.shape, value.stride(), strict=True))


def copier(value: Tensor) -> Callable[[Tensor], Tensor]:
    """Find how a tensor that shares its memory with nothing else in the result is copied."""
    copy = _copy_of(value) if _plain(value) else _copy_subclass if _only_tagged(type(value), value) else deepcopy
    if value.is_inference() != torch.is_inference_mode_enabled():
        copy = _as_made(copy)
    return _in_stream(copy, value.device) if value.is_cuda else copy


def _only_tagged(kind: type, value: Tensor) -> bool:
    """Tell whether a subclass adds names alone, and says nothing of how it is copied or computed."""
    names = {name for base in kind.__mro__[: kind.__mro__.index(Tensor)] for name in base.__dict__}
    return kind is not Tensor and _has_strides(value) and names.isdisjoint({"__deepcopy__", "__torch_dispatch__"})


def _copy_subclass(value: Tensor) -> Tensor:
    with torch._C.DisableTorchFunctionSubclass():  # pyright: ignore[reportPrivateUsage]
        plain = value.as_subclass(Tensor)
        copy: Any = _copy_of(plain)(plain).as_subclass(type(value))
    copy.__dict__.update(deepcopy(value.__dict__))
    return copy


def _copy_of(value: Tensor) -> Callable[[Tensor], Tensor]:
    if value.is_conj():
        inner = _copy_of(value.conj())
        return lambda source: inner(source.conj()).conj()
    if value.is_neg():
        inner = _copy_of(_negated(value))
        return lambda source: _negated(inner(_negated(source)))
    return Tensor.clone if _dense(value) else _copy_alone


def _negated(value: Tensor) -> Tensor:
    """View the same memory with the other sign."""
    return value._neg_view()  # noqa: SLF001 - there is no other way to set the bit


def _is_view(value: Tensor) -> bool:
    return value._base is not None  # noqa: SLF001 - there is no other way to ask


def _as_made(copy: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Copy in the inference mode that the function made the tensor in, which is not its caller's."""

    def as_made(source: Tensor) -> Tensor:
        with torch.inference_mode(source.is_inference()):
            return copy(source)

    return as_made


def _in_stream(copy: Callable[[Tensor], Tensor], device: torch.device) -> Callable[[Tensor], Tensor]:
    """Copy what was written in the stream of this moment, in whichever stream is the current one then."""
    written = torch.cuda.current_stream(device)

    def in_stream(source: Tensor) -> Tensor:
        now = torch.cuda.current_stream(device)
        if now != written:
            now.wait_stream(written)
            source.record_stream(now)
        return copy(source)

    return in_stream


def _copy_alone(value: Tensor) -> Tensor:
    # Elements with holes between them, or one that stands for many: all the memory is copied.
    flat = value.as_strided((max(_reach(value), 0) if value.numel() else 0,), (1,)).clone()
    return _set(flat, value.dtype, 0, value.size(), value.stride())


def _set(memory: Tensor, dtype: torch.dtype, at: int, size: Sequence[int], stride: Sequence[int]) -> Tensor:
    empty = torch.empty(0, dtype=dtype, device=memory.device)
    return empty.set_(memory.untyped_storage(), at, tuple(size), tuple(stride))


def _dense(value: Tensor) -> bool:
    expected = 1
    steps = sorted((stride, size) for size, stride in zip(value.shape, value.stride(), strict=True) if size != 1)
    for stride, size in steps:
        if stride != expected:
            return False
        expected *= size
    return value.numel() > 0


def viewer(view: Tensor, base: Tensor) -> Callable[[Tensor], Tensor] | None:
    """Find how to make of a tensor like `base` what `view` is of `base`; None if it shows anything else."""
    alike = (view.dtype, view.is_conj(), view.is_neg()) == (base.dtype, base.is_conj(), base.is_neg())
    if not alike or type(view) is not Tensor or not _within(view, base):
        return None
    offset = view.storage_offset() - base.storage_offset()
    size, stride, tracked = view.size(), view.stride(), _is_view(view)
    shape, strides = base.size(), _strides(base)

    def show(other: Tensor) -> Tensor:
        if other.size() != shape or _strides(other) != strides:
            raise ValueError
        with torch.no_grad():
            shown = other.as_strided(size, stride, other.storage_offset() + offset)
            return shown if tracked else shown.detach()

    return show


def _strides(value: Tensor) -> list[int]:
    return [stride for size, stride in zip(value.shape, value.stride(), strict=True) if size != 1]


def _within(view: Tensor, base: Tensor) -> bool:
    """Tell whether each element of `view` is one of `base`: what is between them is another's."""
    if not _same_storage(view, base):
        return False
    start, end = base.storage_offset(), base.storage_offset() + _reach(base)
    if view.storage_offset() < start or view.storage_offset() + _reach(view) > end:
        return False
    return _dense(base) or bool(torch.isin(_places(view), _places(base)).all())


def _same_storage(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def _places(value: Tensor) -> Tensor:
    at: Any = torch.tensor([value.storage_offset()])
    for size, stride in zip(value.shape, value.stride(), strict=True):
        at = (at[:, None] + torch.arange(size) * stride).reshape(-1).unique()
    return at


def leader(values: Sequence[Tensor]) -> int | None:
    """Find which of the tensors that share memory the others are views of."""
    for at, value in enumerate(values):
        if not _is_view(value) and _plain(value) and all(viewer(other, value) for other in values):
            return at
    return None


def block(values: Sequence[Tensor]) -> tuple[Tensor, list[Callable[[Tensor], Tensor]]]:
    """Find the memory that tensors share, as one tensor, and how to make each of them of its copy."""
    first = values[0]
    if not all(_plain(value) and _same_storage(value, first) for value in values):
        raise ValueError("memory is shared in a way that is not known")
    spans = [_bytes(value) for value in values]
    # Aligned down, so that each starts a whole number of its elements after the start.
    low, high = min(start for start, _ in spans) & ~15, max(end for _, end in spans)
    memory: Any = _set(first, torch.uint8, low, (high - low,), (1,))
    return memory, [_shower(value, start - low) for value, (start, _) in zip(values, spans, strict=True)]


def _bytes(value: Tensor) -> tuple[int, int]:
    start = int(value.storage_offset()) * value.element_size()
    return start, start + _reach(value) * value.element_size()


def _shower(view: Tensor, offset: int) -> Callable[[Tensor], Tensor]:
    dtype, size, stride, at = view.dtype, view.size(), view.stride(), offset // view.element_size()
    conj, neg = view.is_conj(), view.is_neg()

    def show(memory: Tensor) -> Tensor:
        shown = _set(memory, dtype, at, size, stride)
        shown = shown.conj() if conj else shown
        return _negated(shown) if neg else shown

    return show


def mark(value: Tensor) -> object:
    """Note what tells that a tensor was written to, or that a gradient was: counters, where they count."""
    grad = value.grad if value.is_leaf and value.requires_grad else None
    return _version(value), None if grad is None else (id(grad), _version(grad))


def _version(value: Tensor) -> int:
    return 0 if value.is_inference() else value._version  # noqa: SLF001 - there is no other way to ask
