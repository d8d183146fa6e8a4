"""The modules that PyTorch tests, with the inputs that it tests them with.

They are read out of the source of `torch.testing._internal.common_modules`: importing it would load another Hypothesis
profile, freeze PyTorch's global flags and need a package that only PyTorch's own tests need.
"""

from __future__ import annotations

import ast
import builtins
import copy
import enum
import functools
import importlib.util
import itertools
import math
import operator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PREFIXES = ("module_inputs_", "no_batch_dim_reference", "generate_regression")
_CLASSES = {"FunctionInput", "ModuleInput", "make_packed_sequence"}


class Sample(NamedTuple):
    """One call: what makes the module, and what it is called with."""

    make: Callable[[], nn.Module]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@functools.cache
def names() -> list[str]:
    """Name every module that PyTorch has inputs for."""
    return list(dict.fromkeys(name for name, _ in _source()))


def samples(name: str, *, training: bool) -> Iterator[Sample]:
    """Give every sample of a module."""
    kind = functools.reduce(getattr, name.split("."), torch)
    for each, make in _source():
        if each == name:
            options = {"device": "cpu", "dtype": torch.float64, "requires_grad": True, "training": training}
            for one in make(None, **options):
                if one.forward_input is not None:
                    built = one.constructor_input
                    made = functools.partial(_made, kind, built.args, built.kwargs, training)
                    yield Sample(made, tuple(one.forward_input.args), dict(one.forward_input.kwargs))


def _made(kind: Any, args: Any, kwargs: Any, training: bool) -> nn.Module:
    torch.manual_seed(0)
    return kind(*args, **kwargs).to(torch.float64).train(training)


@functools.cache
def _source() -> list[tuple[str, Callable[..., Any]]]:
    """Run the definitions that are needed, and nothing else of their file."""
    package = importlib.util.find_spec("torch.testing._internal")
    assert package is not None
    path = Path(next(iter(package.submodule_search_locations or []))) / "common_modules.py"
    tree = ast.parse(path.read_text())
    kept = [node for node in tree.body if _is_needed(getattr(node, "name", ""))]
    space: dict[str, Any] = {
        "torch": torch,
        "F": nn.functional,
        "math": math,
        "operator": operator,
        "itertools": itertools,
        "chain": itertools.chain,
        "product": itertools.product,
        "partial": functools.partial,
        "wraps": functools.wraps,
        "deepcopy": copy.deepcopy,
        "Enum": enum.Enum,
        "make_tensor": torch.testing.make_tensor,
        "pack_padded_sequence": pack_padded_sequence,
    }
    read = {node.id for one in kept for node in ast.walk(one) if isinstance(node, ast.Name)}
    space |= dict.fromkeys(read - space.keys() - vars(builtins).keys(), _unused)
    exec(compile(ast.Module(kept, []), str(path), "exec"), space)  # noqa: S102 - PyTorch's own source
    (table,) = (
        one.value for one in tree.body if isinstance(one, ast.AnnAssign) and "module_db" in ast.unparse(one.target)
    )
    return [found for call in getattr(table, "elts", ()) if (found := _entry(call, space)) is not None]


def _is_needed(name: str) -> bool:
    return name in _CLASSES or name.startswith(_PREFIXES)


def _entry(call: Any, space: dict[str, Any]) -> tuple[str, Callable[..., Any]] | None:
    """Read the name of a module and what makes its inputs; None for one that this release has not got."""
    name = ast.unparse(call.args[0]).removeprefix("torch.")
    (made,) = (word.value for word in call.keywords if word.arg == "module_inputs_func")
    if not hasattr(nn, name.removeprefix("nn.")):
        return None
    return name, eval(compile(ast.Expression(made), "module_db", "eval"), space)  # noqa: S307 - as above


def _unused(*_args: Any, **_options: Any) -> None:
    """Stand for a reference that is not asked."""
