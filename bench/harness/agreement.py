"""Programs that are compared must compute the same: the gradients that they leave are held against each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor

_TOLERANCE = 1e-3  # of a gradient's norm; float32 programs that sum in another order stay below 1e-4


def agree(runs: Mapping[str, Callable[[], object]], leaves: Iterable[Tensor]) -> None:
    """Run each once and compare the gradients of ``leaves`` with those that the first has left.

    Raises:
        AssertionError: they differ, so that there is nothing to compare the times of.
    """
    leaves = list(leaves)
    first: dict[str, list[Tensor]] = {}
    for name, run in runs.items():
        found = _gradients(run, leaves)
        for reference, expected in first.items():
            for mine, theirs in zip(found, expected, strict=True):
                far = float((mine - theirs).norm() / theirs.norm().clamp_min(1e-20))
                assert far < _TOLERANCE, f"{name} and {reference}: gradients differ by {far:.1e} of their norm"
        first = first or {name: found}


def _gradients(run: Callable[[], object], leaves: list[Tensor]) -> list[Tensor]:
    for leaf in leaves:
        leaf.grad = None
    run()
    found = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad.clone() for leaf in leaves]
    for leaf in leaves:
        leaf.grad = None
    return found
