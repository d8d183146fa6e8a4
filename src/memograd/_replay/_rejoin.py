"""What a call on stand-ins gave, where it can neither be recorded nor be run again: its graph ends at them.

So it gets a node of its own, which runs that graph back to the arguments that the stand-ins are for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from memograd._replay._graph import Graph, leaves_of
from memograd._replay._signature import attributes
from memograd._replay._traces import attributes as notes
from memograd._replay._trees import Seen, swapped
from memograd._replay._vjp import Live, applied

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from memograd._replay._run import Run


class _Rest:
    """As much of a recording as its node needs."""

    __slots__ = ("graph", "values")

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values = [root.detach() for root in graph.roots]

    def back(self, grads: Sequence[Tensor | None], needed: Sequence[bool]) -> list[Tensor | None]:
        """Run the graph back."""
        return self.graph.back(grads, needed)


def rejoined(run: Run) -> Any:
    """Give the output of a run on stand-ins with gradients that reach the arguments."""
    others = Seen(run.output).others
    within = [dict(attributes(other)) for other in others]
    reals, given = run.reals, Seen((run.output, within)).direct
    roots = [x for x in {id(x): x for x in given}.values() if x.grad_fn is not None and id(x) not in reals]
    new: dict[int, Any] = {id(built.new): built.old for built in run.built} | reals
    new |= {id(root): end for root, end in zip(roots, _ends(run, roots), strict=True)}
    # What cannot be taken apart was made by the call: it may be changed.
    for other, named in zip(others, within, strict=True):
        for name, part in named.items():
            replaced = swapped(part, new, [])
            if replaced is not part:
                vars(other)[name] = replaced
    return swapped(run.output, new, [])


def _ends(run: Run, roots: list[Tensor]) -> Sequence[Tensor]:
    if not roots:
        return ()
    leaves, reals = leaves_of(roots, None), run.reals
    rest = _Rest(Graph(list(leaves), roots, run.saved, frozenset(reals)))
    with torch.enable_grad():
        ends = applied(Live, rest, *(reals.get(id(leaf), leaf) for leaf in leaves))
    for root, end in zip(roots, ends, strict=True):
        for name, note in notes(root).items():
            setattr(end, name, note)
        if root.retains_grad:
            end.retain_grad()
    return ends
