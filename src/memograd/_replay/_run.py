"""One call, run apart from what its arguments were made of, with a note of all that its graph saves.

NOTE [apart] What comes back to a leaf (a parameter, an argument) from the graph of a call is this call's part of its
gradient. Arguments that have a graph of their own have *stand-ins*: views of leaves over the same memory, so that the
graph of the call ends there.

NOTE [trial] Of a call that has run on stand-ins, and then cannot be recorded, the graph ends at them for good: an edge
of autograd is never another one later. It would have to be run again. So a function that is given such arguments is
first tried: run plainly, on its own arguments, and looked at afterwards. Only those that could have been recorded are
run apart from then on.
"""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from memograd._ambient._surroundings import modes_changed
from memograd._ambient._torch import read_modes
from memograd._replay._hooks import astray
from memograd._replay._memory import version
from memograd._replay._stashes import STASHES, stashes
from memograd._replay._traces import CONTAINERS, Traces
from memograd._replay._trees import Built, Seen, swapped
from memograd._replay._undo import Undo

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
MODES = "changes torch's modes; the result is not remembered"
# What a call raises because of the way in which it is run here.
_OURS = ("a view of a leaf Variable that requires grad", "Can't detach views in-place")
_HOOKED = "saved tensor hooks"


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


def unpacked(saved: Saved) -> Tensor:
    """Give back what a node has saved. Raises where it was changed since."""
    if saved.changed:
        shape, now = list(saved.tensor.shape), saved.tensor._version
        raise RuntimeError(CHANGED.format(shape=shape, now=now, then=saved.version))
    return saved.tensor


class Run:
    """One call of `f`, set apart, or tried.

    Args:
        captured: what `f` reads beside its arguments.

    Attributes:
        stand_ins: what stands in for an argument, by the argument's id; `leaves` are those they are views of.
        trial: whether it is run plainly.
        saved: what its graph saved; weak, as a node that is gone needs it no longer.
        modes: those that it began in.
    """

    def __init__(self, seen: Seen, captured: Sequence[Any] = ()) -> None:
        self.seen = seen
        self.captured = captured
        self.stand_ins: dict[int, Tensor] = {}
        self.leaves: dict[int, Tensor] = {}
        self.trial = False
        self.saved: list[weakref.ref[Saved]] = []
        self.built: list[Built] = []
        self.versions = [version(tensor) for tensor in seen.tensors]
        self.args: Sequence[Any] = ()
        self.kwargs: Mapping[str, Any] = {}
        self.start = self.begun = 0
        self.ran = False
        self.went_back = False
        self.output: Any = None
        self.modes = read_modes()
        self.inner: list[Tensor] = []
        self._on_copies = self._on_given = Traces()
        self._undo: Undo | None = None

    def prepare(self, args: Sequence[Any], kwargs: Mapping[str, Any], *, trial: bool = False) -> None:
        """Put stand-ins into the arguments, where they need any; not for a trial."""
        self.start = _sequence_number()
        self.args, self.kwargs = args, kwargs
        given = Seen((tuple(args), dict(kwargs)))
        self.inner = [x for x in given.direct if x.requires_grad and not x.is_leaf]
        self.trial = trial and bool(self.inner)
        if self.inner and not trial:
            self.leaves = {id(x): _leaf(x) for x in self.inner}
            self.stand_ins = {name: _stand_in(leaf, self.seen.named(name)) for name, leaf in self.leaves.items()}
            self.args, self.kwargs = swapped((tuple(args), dict(kwargs)), self.stand_ins, self.built)
            self._undo = Undo(self.seen)
        copied = {id(built.old) for built in self.built}
        self._on_copies = Traces(self.stand_ins.values(), (), [built.new for built in self.built])
        self._on_given = Traces(
            [x for x in given.direct if id(x) not in self.stand_ins],
            self.seen.tensors,
            [container for container in given.containers if id(container) not in copied],
        )

    def call(self, f: Callable[..., Any]) -> None:
        """Run it. Raises `Unrecordable` where it raised because of the way in which it is run here."""
        self.begun = _sequence_number()
        self.ran = True
        try:
            self._enter(f)
        except RuntimeError as error:
            ours = (_HOOKED, *_OURS) if self.stand_ins else (_HOOKED,)
            # What has changed a tensor already is not run again: it would be changed twice.
            if any(text in str(error) for text in ours) and not self.has_changed:
                raise Unrecordable(f"cannot be recorded: {error}") from error
            raise
        # Not before: `f` may ask for gradients itself.
        for leaf in self.leaves.values():
            leaf.register_hook(astray)

    def _enter(self, f: Callable[..., Any]) -> None:
        _forget_casts()
        with _opened(), self._watched():
            self.output = f(*self.args, **self.kwargs)

    @contextmanager
    def _watched(self) -> Generator[None]:
        handles: list[Any] = [tensor.register_hook(self._note) for tensor in self.inner if self.trial]
        try:
            with saved_tensors_hooks(_packing(self.saved), unpacked):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _note(self, _: Tensor) -> None:
        self.went_back = True

    def pass_on(self) -> bool:
        """Pass on what came to stand-ins while the call ran: it went backward itself. Tell whether it did."""
        found = [(self.seen.named(name), leaf) for name, leaf in self.leaves.items() if leaf.grad is not None]
        for tensor, leaf in found:
            tensor.backward(leaf.grad, retain_graph=True)
            leaf.grad = None
        return bool(found)

    @property
    def reals(self) -> dict[int, Tensor]:
        """Name the arguments by the ids of their stand-ins, and of the leaves that these are views of."""
        both = (*self.stand_ins.items(), *self.leaves.items())
        return {id(tensor): self.seen.named(name) for name, tensor in both}

    @property
    def containers(self) -> dict[int, int]:
        """Name the containers that the call was given, or that it reads: which of those seen each of them is."""
        places = {id(container): place for place, container in enumerate(self.seen.containers)}
        return places | {id(built.new): places[id(built.old)] for built in self.built if id(built.old) in places}

    @property
    def ends(self) -> dict[tuple[Any, int], Tensor]:
        """Name the arguments at which the graph of a trial ends by the edges that lead there."""
        return {(x.grad_fn, x.output_nr): x for x in self.inner} if self.trial else {}

    def check(self) -> None:
        """Raise `Unrecordable` if the call has left traces on what was made for it alone, or has kept parts of it."""
        lost = self._on_copies.found()
        if lost:
            raise Unrecordable(lost)
        if stashes([*self.args, *self.kwargs.values(), *self.captured], self.begun):
            raise Unrecordable(STASHES)

    def left(self) -> str:
        """Say what the call has left on what it was given, beside its result, if anything."""
        if self.has_changed:
            return CHANGES
        return self._on_given.found() or (MODES if self.modes_changed else "")

    @property
    def modes_changed(self) -> bool:
        """Tell whether the call has left other modes of torch than it began in."""
        return bool(modes_changed(self.modes))

    def put_back(self) -> bool:
        """Make as if the call had not run, as far as that is known; tell whether it can be run a second time."""
        if self.left() not in {"", CONTAINERS} or self._undo is None:
            return False
        self._undo.put_back()
        return True

    @property
    def has_changed(self) -> bool:
        """Tell whether a tensor among the arguments was changed in place."""
        return self.versions != [version(tensor) for tensor in self.seen.tensors]


def needs_stand_ins(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Tell whether something among the arguments has a graph of its own."""
    return any(x.requires_grad and not x.is_leaf for x in Seen((tuple(args), dict(kwargs))).direct)


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_()


def _stand_in(leaf: Tensor, tensor: Tensor) -> Tensor:
    new = leaf.view_as(leaf)
    # What users have noted on it: whether a parameter is shared, say.
    for name, note in vars(tensor).items():
        setattr(new, name, note)
    if tensor.retains_grad:
        new.retain_grad()
    return new


def _forget_casts() -> None:
    # Autocast keeps the casts of weights, with their graph, for all who use them until it ends: this call has its own.
    if _C._is_any_autocast_enabled():
        torch.clear_autocast_cache()
