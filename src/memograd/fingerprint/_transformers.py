"""Tokenizers of Hugging Face, by what they do to text. Asked when transformers or tokenizers is loaded already."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from memograd.fingerprint._form import Form, kind_of

if TYPE_CHECKING:
    from memograd.fingerprint._form import Writer

# What a call leaves behind, and the next call sets anew.
_LEFT = frozenset({"_tokenizer", "deprecation_warnings", "_in_target_context_manager", "_decode_use_source_tokenizer"})


def writer(kind: type) -> Writer | None:
    """Find what takes a tokenizer apart; None for all else: configs are objects like others."""
    if kind.__module__.startswith("tokenizers") and hasattr(kind, "to_str"):
        return lambda value: Form(b"tokenizer", value.to_str().encode("utf-8", "surrogatepass"))
    return _fast if hasattr(kind, "backend_tokenizer") else None


def _fast(value: Any) -> Form:
    backend: dict[str, object] = json.loads(value.backend_tokenizer.to_str())
    rules = {name: rule for name, rule in backend.items() if name not in {"truncation", "padding"}}
    own = {name: item for name, item in value.__dict__.items() if name not in _LEFT}
    return Form(b"fast tokenizer", parts=(kind_of(value), rules, own), label=lambda _: "")
