"""Tensors by content, dtype, shape, strides and device. Imported when torch is loaded already.

What has a state beside its content (a module, an optimizer, a generator) is refused: its weights change in place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from memograd.fingerprint._form import Form, Unidentified

if TYPE_CHECKING:
    from memograd.fingerprint._form import Writer


def writer(kind: type) -> Writer | None:
    """Find what takes a value of torch apart; None if that is no matter of torch's."""
    if kind in {torch.Tensor, torch.nn.Parameter}:
        return _tensor
    if issubclass(kind, torch.Tensor):
        return _subclass
    if issubclass(kind, (torch.nn.Module, torch.optim.Optimizer, torch.Generator)):
        return _stateful
    return None


def _tensor(value: torch.Tensor) -> Form:
    if value.requires_grad and torch.is_grad_enabled():
        raise Unidentified(
            "a tensor that requires grad, and a remembered result would lead gradients to another tensor; "
            "call under torch.no_grad(), or pass it .detach()ed"
        )
    tag = f"{type(value).__name__} {value.dtype} {tuple(value.shape)} {value.device} {value.requires_grad}"
    if value.layout is torch.strided and value.device.type != "meta" and not value.is_quantized:
        # All strides: those of dimensions of one element, too, decide whether an output is channels-last.
        return Form(f"{tag} {value.stride()}".encode(), _bytes(value))
    if value.layout is torch.sparse_coo:
        parts = (value.is_coalesced(), value.detach()._indices(), value.detach()._values())
        return Form(f"{tag} coo".encode(), parts=parts)
    raise Unidentified(f"a tensor of layout {value.layout} on {value.device}; pass its parts as dense tensors")


def _bytes(value: torch.Tensor) -> memoryview | bytes:
    plain = value.detach().resolve_conj().resolve_neg().cpu().contiguous()
    array: Any = plain.reshape(-1).view(torch.uint8).numpy()
    return memoryview(array) if plain.numel() else b""


def _subclass(value: object) -> Form:
    raise Unidentified(f"of type {type(value).__qualname__}, a subclass of Tensor; pass it .as_subclass(torch.Tensor)")


def _stateful(value: object) -> Form:
    raise Unidentified(
        f"of type {type(value).__qualname__}, whose state changes in place; pass the tensors that the result depends on"
    )
