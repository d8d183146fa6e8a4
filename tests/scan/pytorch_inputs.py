"""The inputs with which PyTorch tests its own recurrent modules.

They are read out of the source of ``torch.testing._internal.common_modules``: importing it would load another
Hypothesis profile, freeze PyTorch's global flags and need a package that only PyTorch's own tests need.
"""

from __future__ import annotations

import ast
import copy
import enum
import functools
import importlib.util
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

_NEEDED = {
    "FunctionInput", "ModuleInput", "ModuleErrorEnum", "ErrorModuleInput", "make_packed_sequence",
    "module_inputs_torch_nn_RNN_GRU", "module_inputs_torch_nn_LSTM", "module_error_inputs_torch_nn_RNN_GRU",
}  # fmt: skip


def samples(cell: type[nn.RNNBase], dtype: torch.dtype) -> list[tuple[str, nn.RNNBase, Any, Any]]:
    """Give (description, module, input, first states) of every input that PyTorch has for a module."""
    source = _source()
    if cell is nn.LSTM:
        make = source.module_inputs_torch_nn_LSTM
    else:
        options = {"is_rnn": cell is nn.RNN, "with_packed_sequence": True}
        make = functools.partial(source.module_inputs_torch_nn_RNN_GRU, **options)
    made = make(None, device="cpu", dtype=dtype, requires_grad=True, training=True)
    return [_sample(cell, sample, dtype) for sample in made]


def error_samples(dtype: torch.dtype) -> list[Any]:
    """Give every input that PyTorch expects its recurrent modules to refuse in ``forward``."""
    source = _source()
    options = {"device": "cpu", "dtype": dtype, "requires_grad": False, "training": False}
    made = source.module_error_inputs_torch_nn_RNN_GRU(None, **options)
    return [sample for sample in made if sample.error_on == source.ModuleErrorEnum.FORWARD_ERROR]


def _sample(cell: type[nn.RNNBase], sample: Any, dtype: torch.dtype) -> tuple[str, nn.RNNBase, Any, Any]:
    options = sample.constructor_input.kwargs
    x, *hx = sample.forward_input.args
    name = ", ".join(f"{k}={v}" for k, v in options.items())
    return f"{name}, {type(x).__name__}, {len(hx)} states", cell(**options, dtype=dtype), x, hx[0] if hx else None


@functools.cache
def _source() -> SimpleNamespace:
    """Run the definitions that are needed, and nothing else of their file."""
    package = importlib.util.find_spec("torch.testing._internal")
    assert package is not None
    path = Path(next(iter(package.submodule_search_locations or []))) / "common_modules.py"
    tree = ast.parse(path.read_text())
    kept = [node for node in tree.body if getattr(node, "name", None) in _NEEDED]
    assert {node.name for node in kept} == _NEEDED
    space: dict[str, Any] = {
        "torch": torch,
        "pack_padded_sequence": pack_padded_sequence,
        "make_tensor": torch.testing.make_tensor,
        "partial": functools.partial,
        "wraps": functools.wraps,
        "product": itertools.product,
        "deepcopy": copy.deepcopy,
        "Enum": enum.Enum,
        "no_batch_dim_reference_rnn_gru": _unused,
        "no_batch_dim_reference_lstm": _unused,
    }
    exec(compile(ast.Module(kept, []), str(path), "exec"), space)  # noqa: S102 - PyTorch's own source
    return SimpleNamespace(**space)


def _unused(*_args: Any, **_options: Any) -> None:
    """Stand for a reference that is not asked."""
