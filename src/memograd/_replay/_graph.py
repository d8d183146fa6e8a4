"""The graph of a call: found by its leaves, and run back any number of times."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from memograd._replay._hooks import quieten, running
from memograd._replay._memory import address
from memograd._replay._run import Unrecordable

if TYPE_CHECKING:
    import weakref
    from collections.abc import Container, Iterable, Mapping, Sequence

    from memograd._replay._run import Saved


class Graph:
    """What lies between inputs and roots, kept to be run back any number of times.

    Args:
        inputs: its leaves; `stand_ins` are the ids of those that stand in for arguments.
    """

    __slots__ = ("inputs", "roots", "saved", "stand_ins")

    def __init__(
        self,
        inputs: list[Tensor | None],
        roots: list[Tensor],
        saved: list[weakref.ref[Saved]],
        stand_ins: Container[int],
    ) -> None:
        self.stand_ins = stand_ins
        self.inputs = inputs
        self.roots = roots
        self.saved = saved

    @property
    def changed(self) -> bool:
        """Tell whether something that it saved was changed in place: it cannot be run back, then."""
        return any(saved.changed for saved in self._alive())

    @property
    def nbytes(self) -> int:
        """Count the bytes that it saved, beside those of its own inputs."""
        held = {address(tensor) for tensor in self.inputs if tensor is not None}
        strided = (saved.tensor for saved in self._alive() if saved.tensor.layout == torch.strided)
        storages = {address(tensor): tensor.untyped_storage().nbytes() for tensor in strided}
        return sum(size for at, size in storages.items() if at not in held)

    def _alive(self) -> Iterable[Saved]:
        return (saved for saved in (ref() for ref in self.saved) if saved is not None)

    def back(self, grads: Sequence[Tensor | None], needed: Sequence[bool]) -> list[Tensor | None]:
        """Run back: what comes to each input from what came to the roots."""
        ends = [(root, grad) for root, grad in zip(self.roots, grads, strict=True) if grad is not None]
        # Whose flag was taken away since gets no gradient, as in the plain program.
        asked = [need and x is not None and x.requires_grad for x, need in zip(self.inputs, needed, strict=True)]
        wanted: list[Any] = [x for x, ask in zip(self.inputs, asked, strict=True) if ask]
        if not ends or not wanted:
            return [None] * len(self.inputs)
        for leaf in wanted:
            if id(leaf) not in self.stand_ins:
                quieten(leaf)
        roots, grads = zip(*ends, strict=True)
        with running():
            found = iter(torch.autograd.grad(roots, wanted, grads, retain_graph=True, allow_unused=True))
        return [next(found) if ask else None for ask in asked]


def leaves_of(
    roots: Sequence[Tensor], start: int | None, ends: Mapping[tuple[Any, int], Tensor] = MappingProxyType({})
) -> list[Tensor]:
    """Find the leaves of a graph. Raises `Unrecordable` for a node that cannot be run back apart from the rest.

    Args:
        start: the number that the first node of this graph could have: older ones are of another. None for all nodes.
        ends: edges at which the graph ends like at leaves, and the tensors that they lead to.
    """
    stack, met, leaves = [(root.grad_fn, root.output_nr) for root in roots], set[Any](), dict[int, Tensor]()
    while stack:
        edge: Any = stack.pop()
        node: Any = edge[0]
        if edge in ends:
            leaves[id(ends[edge])] = ends[edge]
        elif node is not None and node not in met:
            met.add(node)
            if type(node).__name__ == "AccumulateGrad":
                leaves[id(node.variable)] = node.variable
            else:
                if start is not None:
                    _check(node, start)
                stack.extend(node.next_functions)
    return list(leaves.values())


def _check(node: Any, start: int) -> None:
    if type(node).__name__ == "CheckpointFunctionBackward":
        raise Unrecordable("calls torch.utils.checkpoint with use_reentrant=True")
    if node._sequence_nr() < start:
        raise Unrecordable("reads a tensor that requires grad, is no leaf and is not among its arguments")
