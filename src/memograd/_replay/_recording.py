"""A recorded call: its result without who holds it, and the graph behind, for all who are given the same result."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from memograd._replay._graph import Graph, leaves_of
from memograd._replay._layout import lay_out
from memograd._replay._memory import copied, is_same_memory, version
from memograd._replay._run import RELEASED
from memograd._replay._trees import Seen
from memograd._replay._vjp import Give, Live, applied

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from memograd._replay._layout import Layout
    from memograd._replay._run import Run

    # A tensor among the arguments and what they hold, by its place there; or a leaf that is not among them.
    Input = int | Tensor


class _Gone:
    def __repr__(self) -> str:
        return "GONE"


GONE: Final = _Gone()


# What is of the call, and not of its result.
_GIVEN = ("arguments", "containers")


class Plan(NamedTuple):
    """What must be known beside a stored result to compute its gradients: plain data, which a store can hold.

    Attributes:
        inputs: the places of the tensors that have a gradient, among the arguments and what they hold.
        outputs: for each tensor in the result, whether it requires grad.
    """

    inputs: tuple[int, ...]
    outputs: tuple[bool, ...]


class _Node(NamedTuple):
    """A node that stands for the call. Held weakly: those who use its outputs keep it."""

    inputs: list[weakref.ref[Tensor]]
    versions: list[int]
    outputs: list[weakref.ref[Tensor]]


class Recording:
    """A call that was recorded under grad mode.

    Whoever uses an output keeps it alive, and nobody else has to. It refers to arguments by memory and not by graph.

    Args:
        seen: what the call saw: its arguments, its keyword arguments and what it has captured.
        graph: what runs back; without one, `later` makes it in the first backward.

    Attributes:
        beside: what its owner wants to know of it.
        bare_is_enough: whether its result may be stored without the graph.
    """

    __slots__ = (
        "__weakref__",
        "_later",
        "_node",
        "_versions",
        "bare_is_enough",
        "beside",
        "graph",
        "inputs",
        "layout",
        "seen",
        "values",
    )

    def __init__(
        self,
        seen: Seen,
        layout: Layout,
        values: Sequence[Tensor],
        inputs: list[Input],
        graph: Graph | None,
        later: Callable[[], Graph] | None = None,
    ) -> None:
        self.layout = layout
        self.values = [value.detach() for value in values]
        self.inputs = inputs
        self.graph = graph
        self.seen = _Pattern(seen)
        self.beside: Any = None
        self.bare_is_enough = True
        self._later = later
        self._versions = self._read()
        self._node: _Node | None = None

    @property
    def fresh(self) -> bool:
        """Tell whether nothing that it holds was changed in place."""
        return not self.broken and self._versions == self._read()

    def _read(self) -> list[int]:
        return [version(value) for value in (*self.values, *self.layout.constants)]

    @property
    def broken(self) -> bool:
        """Tell whether it can no longer be run back."""
        if self.graph is None:
            return self._later is None or not self.seen.unchanged
        return self.graph.changed

    @property
    def nbytes(self) -> int:
        """Count the bytes that its graph holds."""
        return 0 if self.graph is None else self.graph.nbytes

    def again(self, args: Sequence[Any], kwargs: Mapping[str, Any], captured: Sequence[Any] = ()) -> Any:
        """Give the result to another call with the same key, or GONE where it cannot be given: compute it, then."""
        try:
            seen = Seen((tuple(args), dict(kwargs), tuple(captured)))
            return self.give(seen) if self.fresh and self.seen.fits(seen) else GONE
        except Exception:  # noqa: BLE001 - whatever it is, it costs a computation, never the call
            return GONE

    def give(self, seen: Seen) -> Any:
        """Give the result to a call that saw this."""
        inputs = [seen.tensors[x] if isinstance(x, int) else x for x in self.inputs]
        return self.layout.filled(
            {
                "roots": applied(Give, *self._outputs(inputs)) if self.values else (),
                "constants": [copied(constant) for constant in self.layout.constants],
                "arguments": seen.tensors,
                "containers": seen.containers,
            }
        )

    def _outputs(self, inputs: list[Tensor]) -> Sequence[Tensor]:
        node = self._node
        if node is not None and _same(node, inputs):
            alive = [output for output in (ref() for ref in node.outputs) if output is not None]
            if len(alive) == len(node.outputs):
                return alive
        outputs = applied(Live, self, *inputs)
        self._node = _Node(_weak(inputs), [version(x) for x in inputs], _weak(outputs))
        return outputs

    def back(self, grads: Sequence[Tensor | None], needed: Sequence[bool]) -> list[Tensor | None]:
        """Run the graph back."""
        if self.graph is None:
            if self._later is None:
                raise RuntimeError(RELEASED)
            self.graph = self._later()
        return self.graph.back(grads, needed)

    @property
    def result_bytes(self) -> int:
        """Count the bytes of its result."""
        return sum(value.nbytes for value in (*self.values, *self.layout.constants))

    def bare(self) -> Any:
        """Copy its result, without grad; it must be made of the call's own tensors alone."""
        roots = [copied(value) for value in self.values]
        return self.layout.filled({"roots": roots, "constants": [copied(value) for value in self.layout.constants]})

    def release(self) -> None:
        """Let go of the graph: it cannot be run back any more. The rest may be being given to another thread."""
        self.graph = self._later = None

    @property
    def plan(self) -> Plan | None:
        """Say what a store must hold beside the result; None if the result alone, with that, is not enough."""
        places, parts = [x for x in self.inputs if isinstance(x, int)], self.layout.places.values()
        # Of two arguments that are one tensor, a later call may have two.
        if len(set(self.seen.pattern)) < len(self.seen.pattern) or not self.bare_is_enough:
            return None
        if len(places) < len(self.inputs) or any(part.source in _GIVEN or part.geometry for part in parts):
            return None
        return Plan(tuple(places), tuple(part.grad for part in parts))


class _Pattern:
    """What a call saw, to be compared with what another sees: the key says that they are equal, and not how."""

    __slots__ = ("kept", "order", "others", "pattern", "requires", "versions")

    def __init__(self, seen: Seen) -> None:
        self.kept = [tensor.detach() for tensor in seen.tensors]
        self.versions = [version(tensor) for tensor in seen.tensors]
        self.requires = [tensor.requires_grad for tensor in seen.tensors]
        self.pattern = seen.pattern
        self.order = seen.order
        self.others = seen.others

    def fits(self, seen: Seen) -> bool:
        """Tell whether another call's tensors can stand in the places of these: whether they are these.

        The graph holds the memory of these. An equal tensor elsewhere stays what it is when these are changed.
        """
        return (
            self.pattern == seen.pattern
            and self.order == seen.order
            and self.requires == [tensor.requires_grad for tensor in seen.tensors]
            and len(self.others) == len(seen.others)
            and all(a is b for a, b in zip(self.others, seen.others, strict=True))
            and all(is_same_memory(a, b) for a, b in zip(self.kept, seen.tensors, strict=True))
        )

    @property
    def unchanged(self) -> bool:
        """Tell whether none of it was changed in place."""
        return self.versions == [version(tensor) for tensor in self.kept]


def _same(node: _Node, inputs: list[Tensor]) -> bool:
    # A tensor that was changed in place is at another place of its graph, even where its content is the same.
    return all(ref() is x for ref, x in zip(node.inputs, inputs, strict=True)) and node.versions == [
        version(x) for x in inputs
    ]


def _weak(tensors: Sequence[Tensor]) -> list[weakref.ref[Tensor]]:
    return [weakref.ref(tensor) for tensor in tensors]


def recorded(run: Run) -> Recording | None:
    """Make a recording of a run, None if nothing in its result requires grad. Raises `Unrecordable`.

    That of a trial has no graph of its own: it is good for its result and its plan.
    """
    layout, roots = lay_out(run)
    if not layout.needs_grad:
        return None
    reals, seen = run.reals, run.seen
    leaves = leaves_of(roots, run.start, run.ends)
    places = [seen.place(reals.get(id(leaf), leaf)) for leaf in leaves]
    inputs: list[Input] = [leaf if place is None else place for leaf, place in zip(leaves, places, strict=True)]
    graph = None if run.trial else Graph(list(leaves), roots, run.saved, frozenset(reals))
    recording = Recording(seen, layout, roots, inputs, graph)
    # Of a trial nothing tells whether it has asked for gradients, or gone backward, which a hit would not do.
    recording.bare_is_enough = not run.went_back
    return recording
