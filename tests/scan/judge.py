"""Who judges: a float64 copy of the plain module says what is right, the plain module itself says what is fair.

A memoized result passes if its error is at most 1.5 times the plain module's own, plus a floor. The floor is two
roundings of the result, and four times what one rounding of every weight, input and incoming gradient does to it in
float64: a computation that takes its operands in that type cannot be asked for less, and a small tensor of the plain
module is now and then right by luck. A float64 module is its own reference, whose error is then allowed for as well.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from memograd import Shared, memo

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Trial:
    """A call of a plain module, and what is asked of its backward pass.

    Attributes:
        module: the plain module.
        x, hx: what it is called with; what requires grad here has its gradient judged.
        on: the outputs that the loss depends on ("y", "h", "c"); all by default.
        autocast: the type of an autocast region, None for none.
        seed: of the incoming gradients.
        device: where both modules run; the float64 copy runs on the CPU.
    """

    module: nn.RNNBase
    x: Tensor | PackedSequence
    hx: Any = None
    on: tuple[str, ...] | None = None
    autocast: torch.dtype | None = None
    seed: int = 0
    device: str = "cpu"


def assert_fair(trial: Trial, engine: str = "levels", **call: Any) -> nn.Module:
    """Assert that the memoized module gives the plain one's outputs and gradients; give it back with its receipt."""
    plain = copy.deepcopy(trial.module).to(trial.device)
    memoized = memo.scan(copy.deepcopy(plain), engine=engine)
    theirs, their_shape = results(plain, trial)
    ours, our_shape = results(memoized, trial, **call)
    assert our_shape == their_shape
    for name, value in theirs.items():
        if value is None:
            assert ours[name] is None or not ours[name].any(), name
        else:
            assert ours[name].dtype == value.dtype, name
    assert_no_worse(ours, theirs, trial)
    return memoized


def assert_no_worse(ours: dict[str, Tensor | None], theirs: dict[str, Tensor | None], trial: Trial) -> None:
    """Assert that the errors of ``ours`` are no larger than those of ``theirs``."""
    exact, noise = reference(trial)
    for name, truth in exact.items():
        if truth is not None:
            allowed = 1.5 * error(theirs[name], truth) + floor(noise[name], truth, eps_of(trial))
            assert error(ours[name], truth) <= allowed, (name, error(ours[name], truth), allowed)


def floor(noise: float, truth: Tensor, eps: float) -> float:
    """Give the error that is allowed whatever the plain module's own."""
    rounding = 2 * eps * (float(truth.nan_to_num(0, 0, 0).abs().max()) if truth.numel() else 0.0)
    return (4 * noise + rounding) * (4 if eps == torch.finfo(torch.float64).eps else 1)


def eps_of(trial: Trial) -> float:
    return torch.finfo(trial.autocast or data_of(trial.x).dtype).eps


def error(found: Tensor | None, truth: Tensor) -> float:
    """Give the largest absolute difference; a NaN where the truth has none is infinitely wrong."""
    assert found is not None
    found = found.double().cpu()
    assert torch.equal(found.isnan(), truth.isnan())
    return float((found - truth).nan_to_num(0).abs().max()) if truth.numel() else 0.0


def reference(trial: Trial) -> tuple[dict[str, Tensor | None], dict[str, float]]:
    """Give the float64 results, and what one rounding of all operands does to each."""
    exact, _ = results(_double(trial.module), _on_cpu(trial), torch.Tensor.double)
    noise = dict.fromkeys(exact, 0.0)
    for seed in range(2):
        shaken = _Shaker(eps_of(trial), seed)
        module = _double(trial.module)
        with torch.no_grad():
            for p in module.parameters():
                p.copy_(shaken(p))
        moved, _ = results(module, _on_cpu(trial), shaken)
        for name, truth in exact.items():
            if truth is not None:
                noise[name] = max(noise[name], error(moved[name], truth))
    return exact, noise


def results(
    module: Callable[..., Any], trial: Trial, convert: Callable[[Tensor], Tensor] = torch.clone, **call: Any
) -> tuple[dict[str, Tensor | None], Any]:
    """Call a module and take gradients back; give every value by name, and the shape of the outputs."""
    x, hx, leaves = _fresh(trial, convert)
    with nullcontext() if trial.autocast is None else torch.autocast(trial.device, dtype=trial.autocast):
        out = module(x, hx, **call)
    outputs = named(out)
    backward(outputs, trial, convert)
    found: dict[str, Tensor | None] = {name: value.detach() for name, value in outputs.items()}
    found |= {f"grad of {name}": leaf.grad for name, leaf in leaves.items()}
    found |= {f"grad of {name}": p.grad for name, p in module.named_parameters()}
    return found, shape_of(out)


def backward(outputs: dict[str, Tensor], trial: Trial, convert: Callable[[Tensor], Tensor] = torch.clone) -> None:
    """Send the trial's incoming gradients into its outputs."""
    drawn = torch.Generator().manual_seed(trial.seed)
    dtype = data_of(trial.x).dtype
    into, incoming = [], []
    for name, value in outputs.items():
        g = torch.randn(value.shape, generator=drawn, dtype=torch.float64).to(dtype)
        if value.requires_grad and (trial.on is None or name in trial.on):
            into.append(value)
            incoming.append(convert(g).to(value.device, value.dtype))
    if into:
        torch.autograd.backward(into, incoming)


def named(out: Any) -> dict[str, Tensor]:
    """Name the outputs of a recurrent module."""
    y, last = out
    last = last if isinstance(last, tuple) else (last,)
    y = y.dense() if isinstance(y, Shared) else data_of(y)
    return {"y": y, **dict(zip("hc", last, strict=False))}


def data_of(x: Tensor | PackedSequence) -> Tensor:
    return x.data if isinstance(x, PackedSequence) else x


def shape_of(out: Any) -> Any:
    """Describe all of an output but its values."""
    if isinstance(out, PackedSequence):
        index = [None if i is None else i.tolist() for i in out[1:]]
        return ["packed", shape_of(out.data), *index]
    if isinstance(out, tuple):
        return [shape_of(part) for part in out]
    return [type(out), out.dtype, tuple(out.shape), out.stride(), out.requires_grad, out.device]


def _fresh(trial: Trial, convert: Callable[[Tensor], Tensor]) -> tuple[Any, Any, dict[str, Tensor]]:
    """Copy the inputs, as leaves of their own."""
    leaves: dict[str, Tensor] = {}

    def copied(name: str, given: Tensor) -> Tensor:
        made = convert(given.detach()).to(trial.device)
        if given.requires_grad:
            leaves[name] = made.requires_grad_()
        return made

    data = copied("x", data_of(trial.x))
    x = data
    if isinstance(trial.x, PackedSequence):
        _, widths, *order = trial.x
        x = PackedSequence(data, widths, *(i if i is None else i.to(trial.device) for i in order))
    if isinstance(trial.hx, tuple):
        return x, tuple(copied(f"{name}0", s) for name, s in zip("hc", trial.hx, strict=True)), leaves
    return x, None if trial.hx is None else copied("h0", trial.hx), leaves


def _on_cpu(trial: Trial) -> Trial:
    return replace(trial, autocast=None, device="cpu")


def _double(module: nn.RNNBase) -> nn.RNNBase:
    return copy.deepcopy(module).double()


class _Shaker:
    """Moves values by about one rounding, each by its own random share."""

    def __init__(self, eps: float, seed: int) -> None:
        self.eps, self.drawn = eps, torch.Generator().manual_seed(seed)

    def __call__(self, t: Tensor) -> Tensor:
        t = t.detach().double()
        return t * (1 + self.eps * torch.randn(t.shape, generator=self.drawn, dtype=torch.float64))
