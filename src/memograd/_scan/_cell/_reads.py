"""What a cell reads besides its arguments: the tensors that require grad, and the modules they are weights of.

One step is run and watched. What is found has *stand-ins* in a recorded piece, so that the piece's graph ends there; a
graph that ends elsewhere, too, is found out before anybody trusts it.
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from functools import partial
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence


class Strangers(Exception):  # noqa: N818 - control flow: the call is run without a budget, then
    """A piece has read a tensor that requires grad and that the look has not met."""


class Watch(TorchFunctionMode):
    """Notes the tensors that require grad and come from outside of this block.

    Attributes:
        found: these, in the order in which they are met.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[int, Tensor] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # Without grad mode, nothing that is made in here requires grad.
        for value in _tensors((*args, *(kwargs or {}).values())):
            if value.requires_grad and not torch.is_grad_enabled():
                self.found.setdefault(id(value), value)
        return func(*args, **(kwargs or {}))


class Instead(TorchFunctionMode):
    """Lets operations read stand-ins.

    Args:
        instead: by the ids of those that they stand in for.
    """

    def __init__(self, instead: Mapping[int, Tensor]) -> None:
        super().__init__()
        self.instead = instead

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return func(*map(self._of, args), **{name: self._of(value) for name, value in (kwargs or {}).items()})

    def _of(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.instead.get(id(value), value)
        if type(value) in {tuple, list}:
            return type(value)(map(self._of, value))
        return value


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif type(value) in {tuple, list}:
            yield from _tensors(value)


def modules_of(f: Any) -> list[nn.Module]:
    """List the modules that a callable names: itself, its object, in its closure and among its globals."""
    if isinstance(f, nn.Module):
        return [f]
    if isinstance(f, partial):
        part: Any = cast("Any", f)
        return [m for value in (part.func, *part.args, *part.keywords.values()) for m in modules_of(value)]
    if isinstance(f, MethodType):
        return [*modules_of(f.__self__), *modules_of(f.__func__)]
    if not isinstance(f, FunctionType):
        return [value for value in getattr(f, "__dict__", {}).values() if isinstance(value, nn.Module)]
    try:
        named = inspect.getclosurevars(f)
    except ValueError:  # a cell of the closure is still empty
        return []
    return [value for value in (*named.nonlocals.values(), *named.globals.values()) if isinstance(value, nn.Module)]


def _weights(roots: Sequence[nn.Module]) -> Iterator[tuple[Any, Any, Tensor]]:
    """Go through the places in which modules hold tensors that require grad: a dictionary or list, and where in it."""
    modules = {id(module): module for root in roots for module in root.modules()}
    for module in modules.values():
        held = vars(module)
        flat: list[Any] = held["_flat_weights"] if isinstance(module, nn.RNNBase) else []
        every: list[tuple[Any, Any, Any]] = [(flat, at, value) for at, value in enumerate(flat)]
        for holder in (held["_parameters"], held["_buffers"]):
            every += [(holder, name, value) for name, value in holder.items()]
        yield from (place for place in every if place[2] is not None and place[2].requires_grad)


class Reads:
    """The tensors that a cell reads and that require grad.

    Args:
        cell: the cell.
        watched: what a step was seen to read.

    Attributes:
        tensors: these, and all weights of the modules that the cell names: another step may read others of them.
    """

    def __init__(self, cell: Any, watched: Iterable[Tensor] = ()) -> None:
        self._places: list[tuple[Any, Any, int]] = []
        places: dict[int, int] = {}
        self.tensors: list[Tensor] = []
        for holder, name, value in _weights(modules_of(cell)):
            self._places.append((holder, name, self._take(value, places)))
        self._others = [self._take(value, places) for value in watched if id(value) not in places]

    def _take(self, tensor: Tensor, places: dict[int, int]) -> int:
        if id(tensor) not in places:
            places[id(tensor)] = len(self.tensors)
            self.tensors.append(tensor)
        return places[id(tensor)]

    @contextmanager
    def stand_ins(self, tensors: Sequence[Tensor]) -> Generator[None]:
        """Let the cell read other tensors in place of these."""
        for holder, name, at in self._places:
            holder[name] = tensors[at]
        try:
            if not self._others:
                yield
                return
            with Instead({id(self.tensors[at]): tensors[at] for at in self._others}):
                yield
        finally:
            for holder, name, at in self._places:
                holder[name] = self.tensors[at]


def check_ends(roots: Sequence[Tensor], leaves: Iterable[Tensor]) -> None:
    """Look where a graph ends.

    Raises:
        Strangers: not at these leaves alone.
    """
    known = {id(leaf) for leaf in leaves}
    waiting = [root.grad_fn for root in roots if root.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        behind = node.next_functions
        if not behind:
            leaf = getattr(node, "variable", None)
            if leaf is not None and id(leaf) not in known:
                raise Strangers(
                    f"the cell reads a tensor of shape {list(leaf.shape)} that requires grad and that its first step "
                    "did not read in sight"
                )
        for following, _ in behind:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
