"""What a cell reads besides its arguments: the tensors that require grad, and the modules they are weights of.

One step is run and watched. What is found has *stand-ins* in a recorded piece, so that the piece's graph ends there; a
graph that ends elsewhere, too, is found out before anybody trusts it.
"""

from __future__ import annotations

import inspect
from functools import partial
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence


class Strangers(Exception):  # noqa: N818 - control flow: the call is run without a budget, then
    """A piece has read a tensor that requires grad and that the look has not met."""


class Watch(TorchFunctionMode):
    """Notes the tensors that come from outside of this block.

    Args:
        given: those that do not count.

    Attributes:
        found: those that require grad, in the order in which they are met.
        constants: the others.
    """

    def __init__(self, given: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.found: dict[int, Tensor] = {}
        self.constants: dict[int, Tensor] = {}
        # What was made in here must live until the end: names of what is gone are given out again.
        self._made = {id(t): t for t in given}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for value in _tensors((*args, *(kwargs or {}).values())):
            if id(value) not in self._made:
                (self.found if value.requires_grad else self.constants).setdefault(id(value), value)
        result = func(*args, **(kwargs or {}))
        self._made.update((id(t), t) for t in _tensors((result,)))
        return result


class Instead(TorchFunctionMode):
    """Lets operations of this thread read stand-ins.

    Args:
        instead: by the ids of those that they stand in for.

    Attributes:
        leaves: those that were made in here.
    """

    def __init__(self, instead: Mapping[int, Tensor]) -> None:
        super().__init__()
        self.instead = instead
        self.leaves: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        before = {id(t) for t in _tensors(args) if t.requires_grad}
        result = func(*map(self._of, args), **{name: self._of(value) for name, value in (kwargs or {}).items()})
        if isinstance(result, Tensor) and result.requires_grad and result.is_leaf and id(result) not in before:
            self.leaves.append(result)
        return result

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


class Reads:
    """The tensors that a cell reads and that require grad.

    Args:
        cell: the cell.
        watched: what a step was seen to read.

    Attributes:
        tensors: these, and all weights of the modules that the cell names: another step may read others of them.
    """

    def __init__(self, cell: Any, watched: Iterable[Tensor] = ()) -> None:
        weights = (t for root in modules_of(cell) for t in (*root.parameters(), *root.buffers()) if t.requires_grad)
        self.tensors = [*{id(t): t for t in (*weights, *watched)}.values()]

    def stand_ins(self, tensors: Sequence[Tensor]) -> Instead:
        """Let operations of this thread read other tensors in place of these: the modules are left alone."""
        return Instead({id(mine): other for mine, other in zip(self.tensors, tensors, strict=True)})


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
