"""A part of a model as a module of its own: some of its steps, over the very same submodules.

Steps are plain data, as torch.fx writes them down (Reed et al. 2022), so that a part has an identity by content.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_REGISTERS = ("_modules", "_parameters", "_buffers")


class Value(NamedTuple):
    """Stands among the arguments of a step for what another step has given.

    Attributes:
        name: of that step.
    """

    name: str


class Step(NamedTuple):
    """One step.

    Attributes:
        name: of what it gives.
        op: `"module"` (call the submodule at a place), `"tensor"` (read a weight or buffer at a place), `"function"` or
            `"method"` (of the first argument).
        target: the place, the function, or the method's name.
        args, kwargs: nested plain values, with `Value` for what other steps have given.
    """

    name: str
    op: str
    target: Any
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()


class Part(nn.Module):
    """Some steps of a model, which itself is left as it is.

    Args:
        model: whose submodules and tensors the steps name.
        takes: names of what it is given, in order.
        steps: in order.
        gives: nested plain values, with `Value` for what steps have given.
    """

    def __init__(self, model: nn.Module, takes: Sequence[str], steps: Sequence[Step], gives: Any) -> None:
        super().__init__()
        self.takes, self.steps, self.gives = tuple(takes), tuple(steps), gives
        for step in steps:
            if step.op in ("module", "tensor"):
                _hold(self, model, step.target)

    def forward(self, *given: Any) -> Any:
        """Take the steps."""
        values = dict(zip(self.takes, given, strict=True))
        for step in self.steps:
            values[step.name] = self._taken(step, values)
        return _filled(self.gives, values)

    def first_that(self, given: Sequence[Any], told: Callable[[Callable[[], Any]], tuple[Any, bool]]) -> str:
        """Take the steps up to the first call of which something is told, and give its place; nothing if there is none.

        Args:
            given: what `forward` is given.
            told: calls what it is given, and gives its result and whether this is it.
        """
        values = dict(zip(self.takes, given, strict=True))
        for step in self.steps:
            values[step.name], found = told(lambda step=step: self._taken(step, values))
            if found:
                return str(step.target if step.op == "module" else step.name)
        return ""

    def _taken(self, step: Step, values: Mapping[str, Any]) -> Any:
        if step.op == "tensor":
            return _at(self, step.target)
        args: Any = _filled(step.args, values)
        kwargs = {name: _filled(value, values) for name, value in step.kwargs}
        if step.op == "module":
            return self.get_submodule(step.target)(*args, **kwargs)
        if step.op == "method":
            return getattr(args[0], step.target)(*args[1:], **kwargs)
        return step.target(*args, **kwargs)


def _filled(pattern: Any, values: Mapping[str, Any]) -> Any:
    """Put what steps have given in its places."""
    if type(pattern) is Value:
        return values[pattern.name]
    if type(pattern) in (tuple, list):
        return type(pattern)(_filled(each, values) for each in pattern)
    if type(pattern) is dict:
        return {name: _filled(each, values) for name, each in cast("dict[Any, Any]", pattern).items()}
    if type(pattern) is slice:
        return slice(*(_filled(each, values) for each in (pattern.start, pattern.stop, pattern.step)))
    return pattern


def _at(part: nn.Module, place: str) -> torch.Tensor:
    path, _, name = place.rpartition(".")
    return getattr(part.get_submodule(path), name)


def _hold(part: nn.Module, model: nn.Module, place: str) -> None:
    """Hold what is at a place of a model at the same place, within containers that hold nothing else."""
    path, _, name = place.rpartition(".")
    for inner in filter(None, path.split(".")):
        part = vars(part)["_modules"].setdefault(inner, nn.Module())
    owner = model.get_submodule(path)
    for register in _REGISTERS:
        found = vars(owner)[register]
        if name in found:
            vars(part)[register][name] = found[name]
            return
    raise AttributeError(place)


def writes(step: Step) -> bool:
    """Tell whether a step writes into what it is given, as its name says."""
    name = step.target if isinstance(step.target, str) else getattr(step.target, "__name__", "")
    own = step.op == "function" and step.target in vars(operator).values() and name.startswith("i") and name != "index"
    marked = name.endswith("_") and not name.endswith("__")
    return (
        marked
        or dict(step.kwargs).get("inplace", False)
        or (own and hasattr(operator, f"__{name}__"))
        or (step.target is operator.setitem)
    )


def may_be_dropped(step: Step) -> bool:
    """Tell whether a step of which nobody uses the result does nothing else: it neither checks nor writes."""
    name = step.target if isinstance(step.target, str) else getattr(step.target, "__name__", "")
    known = (
        step.op in ("method", "tensor")
        or step.target is getattr
        or _is_of(step.target, "_operator", "operator", "torch")
    )
    return step.op != "module" and known and not writes(step) and "assert" not in name


def _is_of(f: Any, *modules: str) -> bool:
    return str(getattr(f, "__module__", None) or type(f).__module__).split(".")[0] in modules
