"""One call, run apart from what its arguments were made of, with a note of all that its graph saves.

NOTE [apart] Tensor arguments that require grad stand in for themselves as leaves over the same memory, so that what
comes back to one of them is this call's part of its gradient, whatever else leads there. Parameters that the call finds
by itself need no stand-in: they are leaves.
"""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from memograd._replay._hooks import astray
from memograd._replay._memory import version
from memograd._replay._trees import Seen, is_as_built, swapped

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

_C: Any = torch._C  # pyright: ignore[reportPrivateUsage]
_sequence_number: Callable[[], int] = _C._autograd._get_sequence_nr

CHANGED = (
    "one of the variables needed for gradient computation has been modified by an inplace operation: a tensor of shape "
    "{shape} that a remembered call saved for backward is at version {now}; expected version {then}. Change a copy of "
    "it, or go backward before"
)
RELEASED = (
    "one of the variables needed for gradient computation has been modified by an inplace operation, and the graph of "
    "the remembered call was freed since. Go backward before"
)
CHANGES = "changes a tensor that it was given, or that it reads"
# What a call raises because of the way in which it is run here.
_OURS = ("leaf Variable that requires grad", "saved tensor hooks")


class Unrecordable(Exception):  # noqa: N818 - control flow: it ends in the plain call
    """Why the graph of a call cannot be held."""


class Scope:
    """An outermost recorded call in progress.

    Calls inside it belong to its graph, and none of them is set apart again. `known` is for what they gave: values of
    that graph, to be found again by the same key while it grows, and handed out by `connected`.
    """

    __slots__ = ("known", "open")

    def __init__(self) -> None:
        self.known: dict[Any, Any] = {}
        self.open = True


# A context variable, as a call that leaves an overfull stack is computed elsewhere, in the same context.
_scope: ContextVar[Scope | None] = ContextVar("memograd_replay", default=None)


def inside() -> Scope | None:
    """Give the outermost recorded call in progress here, None if there is none."""
    scope = _scope.get()
    return scope if scope is not None and scope.open else None


@contextmanager
def _opened() -> Generator[None]:
    scope = Scope()
    token = _scope.set(scope)
    try:
        yield
    finally:
        scope.open = False
        scope.known.clear()
        _scope.reset(token)


def connected(value: Any) -> Any:
    """Copy a value of the graph in progress, within that graph, so that changing the copy spoils nothing."""
    own = [tensor for tensor in Seen(value).direct if not (tensor.is_leaf and tensor.requires_grad)]
    return swapped(value, {id(tensor): tensor.clone() for tensor in own})


class Saved:
    """A tensor that a node has saved, and its version then, which torch itself no longer compares under hooks."""

    __slots__ = ("__weakref__", "tensor", "version")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach()
        self.version = tensor._version

    @property
    def changed(self) -> bool:
        """Tell whether it was changed in place since."""
        return self.tensor._version != self.version


def _packing(into: list[weakref.ref[Saved]]) -> Callable[[Tensor], Saved]:
    # Every node that saves something keeps this function: it must not hold the run, whose output holds the nodes.
    def pack(tensor: Tensor) -> Saved:
        saved = Saved(tensor)
        into.append(weakref.ref(saved))
        return saved

    return pack


def _unpacked(saved: Saved) -> Tensor:
    if saved.changed:
        shape, now = list(saved.tensor.shape), saved.tensor._version
        raise RuntimeError(CHANGED.format(shape=shape, now=now, then=saved.version))
    return saved.tensor


class Run:
    """One call of `f`, set apart.

    Attributes:
        stand_ins: the leaf that stands in for an argument, by the argument's id.
        saved: what its graph saved; weak, as a node that is gone needs it no longer.
    """

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.stand_ins: dict[int, Tensor] = {}
        self.saved: list[weakref.ref[Saved]] = []
        self.built: list[tuple[Any, list[Any]]] = []
        self.versions = [version(tensor) for tensor in seen.tensors]
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}
        self.start = 0
        self.ran = False
        self.ended = False
        self.output: Any = None

    def prepare(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Put stand-ins into the arguments."""
        given = tuple(args), dict(kwargs)
        self.stand_ins = {id(x): _stand_in(x) for x in Seen(given).direct if x.requires_grad}
        self.args, self.kwargs = swapped(given, self.stand_ins, self.built)

    def call(self, f: Callable[..., Any]) -> None:
        """Run it. Raises `Unrecordable` where it raised because of a stand-in."""
        self.start = _sequence_number()
        self.ran = True
        try:
            self._enter(f)
        except RuntimeError as error:
            # What has changed a tensor already is not run again: it would be changed twice.
            if any(ours in str(error) for ours in _OURS) and not self.has_changed:
                raise Unrecordable(f"cannot be recorded: {error}") from error
            raise
        # Not before: `f` may ask for gradients itself.
        for leaf in self.stand_ins.values():
            leaf.register_hook(astray)
        self.ended = True

    def _enter(self, f: Callable[..., Any]) -> None:
        _forget_casts()
        with _opened(), saved_tensors_hooks(_packing(self.saved), _unpacked):
            self.output = f(*self.args, **self.kwargs)

    def pass_on(self) -> bool:
        """Pass on what came to stand-ins while the call ran: it went backward itself. Tell whether it did."""
        found = [(self.seen.named(name), leaf) for name, leaf in self.stand_ins.items() if leaf.grad is not None]
        for tensor, leaf in found:
            tensor.backward(leaf.grad)
            leaf.grad = None
        return bool(found)

    @property
    def reals(self) -> dict[int, Tensor]:
        """Name the arguments by the ids of their stand-ins."""
        return {id(leaf): self.seen.named(at) for at, leaf in self.stand_ins.items()}

    def check(self) -> None:
        """Raise `Unrecordable` if the call changed containers that were made for it alone."""
        if not all(is_as_built(made, parts) for made, parts in self.built):
            raise Unrecordable("changes a list or dictionary among its arguments")

    @property
    def has_changed(self) -> bool:
        """Tell whether a tensor among the arguments was changed in place."""
        return self.versions != [version(tensor) for tensor in self.seen.tensors]


def _stand_in(tensor: Any) -> Tensor:
    leaf = tensor.detach().requires_grad_()
    if isinstance(tensor, nn.Parameter):
        leaf = nn.Parameter(leaf.detach())
    # What users have noted on it: whether a parameter is shared, say.
    for name, note in vars(tensor).items():
        setattr(leaf, name, note)
    return leaf


def _forget_casts() -> None:
    # Autocast keeps the casts of weights, with their graph, for all who use them until it ends: this call has its own.
    if _C._is_any_autocast_enabled():
        torch.clear_autocast_cache()
