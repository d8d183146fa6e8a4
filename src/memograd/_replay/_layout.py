"""How a result is put together: which of its tensors are a call's own, and which are an argument, or lie in one."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from memograd._replay._memory import Geometry, address, geometry, spans, whole
from memograd._replay._run import Unrecordable
from memograd._replay._traces import attributes
from memograd._replay._trees import Seen, swapped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from memograd._replay._run import Run


class Part(NamedTuple):
    """Where a tensor of the result comes from, or a container that the call was given.

    Attributes:
        source: "roots" (the call computed it, with a gradient), "constants" (without), "arguments" or "containers".
        at: which of them.
        geometry: how it lies in that one; None if it is that one.
    """

    source: str
    at: int
    geometry: Geometry | None
    grad: bool

    def made(self, sources: Mapping[str, Sequence[Any]]) -> Any:
        """Make it of this call's sources."""
        root = sources[self.source][self.at]
        if self.geometry is None:
            return root
        return self.geometry.of(root if self.grad or not root.requires_grad else root.detach())


class Layout:
    """A result without its content.

    Attributes:
        places: where what has this id in the skeleton comes from.
        constants: what the call computed and has no gradient.
    """

    __slots__ = ("constants", "places", "skeleton")

    def __init__(self, skeleton: Any, places: dict[int, Part], constants: list[Tensor]) -> None:
        self.skeleton = skeleton
        self.places = places
        self.constants = constants

    def filled(self, sources: Mapping[str, Sequence[Any]]) -> Any:
        """Put a result together."""
        return swapped(self.skeleton, {at: part.made(sources) for at, part in self.places.items()})

    @property
    def needs_grad(self) -> bool:
        """Tell whether anything in the result requires grad."""
        return any(part.grad for part in self.places.values())


def lay_out(run: Run) -> tuple[Layout, list[Tensor]]:
    """Take a result apart: its layout, and its roots. Raises `Unrecordable`."""
    given = run.containers
    found = Seen(run.output, given)
    bare: dict[int, Any] = {id(tensor): tensor.detach() for tensor in found.direct}
    slots = {name: _Slot() for name in found.reached}
    try:
        skeleton = swapped(run.output, bare | slots)
    except RecursionError:
        raise Unrecordable("returns a value that is nested too deeply, or contains itself") from None
    for other in (*found.others, *found.modules):
        raise Unrecordable(f"returns a value of type {type(other).__qualname__}, which may hold tensors")
    laying = _Laying(run)
    laying.lay({id(tensor): tensor for tensor in found.direct})
    places = {id(bare[name]): part for name, part in laying.places.items()}
    for name, slot in slots.items():
        grad = any(tensor.requires_grad for tensor in Seen(run.seen.containers[given[name]]).tensors)
        places[id(slot)] = Part("containers", given[name], None, grad)
    return Layout(skeleton, places, laying.constants), laying.roots


class _Slot:
    """Where a container that a call was given stands in its result."""

    __slots__ = ()


class _Laying:
    def __init__(self, run: Run) -> None:
        self.seen = run.seen
        self.reals = run.reals
        self.trial = run.trial
        self.addresses = {address(x): place for place, x in reversed([*enumerate(run.seen.tensors)]) if _is_strided(x)}
        self.places: dict[int, Part] = {}
        self.roots: list[Tensor] = []
        self.constants: list[Tensor] = []

    def lay(self, tensors: dict[int, Tensor]) -> None:
        """Find where each tensor comes from; those that share memory of the call's own come from one root."""
        own: defaultdict[int, list[Tensor]] = defaultdict(list)
        for tensor in tensors.values():
            if not _is_strided(tensor):
                raise Unrecordable(f"returns a tensor of type {type(tensor).__qualname__} and layout {tensor.layout}")
            part = self.of_given(tensor)
            if part is None:
                _check(tensor)
                own[address(tensor)].append(tensor)
            else:
                self.places[id(tensor)] = part
        for group in own.values():
            self.settle(group)

    def of_given(self, tensor: Tensor) -> Part | None:
        """Find a tensor among those that the call was given, or in one of them."""
        place = self.place(tensor)
        if place is not None:
            return Part("arguments", place, None, tensor.requires_grad)
        return self.of_view(tensor) if tensor.requires_grad else self.of_memory(tensor)

    def place(self, tensor: Tensor) -> int | None:
        """Find a tensor itself, or the one that it stands in for, among those that the call was given."""
        return self.seen.place(self.reals.get(id(tensor), tensor))

    def of_view(self, tensor: Tensor) -> Part | None:
        """Find the argument of which a tensor that requires grad is a view."""
        root = _origin(tensor)
        place = self.place(root)
        if place is None and not root.is_leaf:
            place = self.addresses.get(address(root))
            if place is None:
                return None
            # Of arguments that are views themselves nothing tells which views are theirs, but when they have stand-ins.
            if not self.trial:
                raise Unrecordable("returns a tensor that lies in the memory of an argument, and is no view of it")
            root = self.seen.tensors[place]
        if place is None or tensor.dtype != root.dtype:
            raise Unrecordable("returns a leaf that requires grad, or a view of it, that is not among its arguments")
        _check(tensor, root)
        return Part("arguments", place, geometry(tensor, root), grad=True)

    def of_memory(self, tensor: Tensor) -> Part | None:
        """Find the argument in whose memory a tensor without grad lies."""
        place = self.addresses.get(address(tensor))
        if place is None:
            return None
        root = self.seen.tensors[place]
        if tensor.dtype != root.dtype:
            raise Unrecordable("returns the memory of an argument as another dtype")
        _check(tensor, root)
        return Part("arguments", place, geometry(tensor, root), grad=False)

    def settle(self, group: list[Tensor]) -> None:
        """Let tensors that share memory come from one root."""
        root = _root(group)
        source, roots = ("roots", self.roots) if root.requires_grad else ("constants", self.constants)
        for tensor in group:
            lies = None if tensor is root else geometry(tensor, root)
            self.places[id(tensor)] = Part(source, len(roots), lies, tensor.requires_grad)
        roots.append(root)


def _is_strided(tensor: Tensor) -> bool:
    return type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided and not tensor.is_nested


def _check(tensor: Tensor, root: Tensor | None = None) -> None:
    """Raise `Unrecordable` for what a copy, or a view of another tensor, would not have."""
    flipped = (False, False) if root is None else (root.is_conj(), root.is_neg())
    if (tensor.is_conj(), tensor.is_neg()) != flipped:
        raise Unrecordable("returns a view that torch has yet to conjugate or to negate; the result is not remembered")
    if attributes(tensor):
        raise Unrecordable("returns a tensor with attributes of its own; the result is not remembered")


def _origin(tensor: Tensor) -> Tensor:
    base = tensor._base if tensor._is_view() else None
    return base if base is not None and base.requires_grad else tensor


def _root(group: list[Tensor]) -> Tensor:
    """Find the tensor in which all that share its memory lie."""
    if len(group) == 1:
        return group[0]
    origins = {id(_origin(tensor)): _origin(tensor) for tensor in group if tensor.requires_grad}
    root = next(iter(origins.values())) if origins else whole(group[0])
    if len(origins) > 1 or not all(tensor.dtype == root.dtype and spans(root, tensor) for tensor in group):
        raise Unrecordable("returns tensors that share memory and are no views of one of them")
    return root
