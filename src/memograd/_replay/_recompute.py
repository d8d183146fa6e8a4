"""Gradients of a result whose graph is gone: the call is run again inside backward, as it was run then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memograd._ambient._streams import read_streams, set_streams
from memograd._ambient._torch import under
from memograd._replay._graph import Graph
from memograd._replay._layout import Layout, Part
from memograd._replay._live import Recorded
from memograd._replay._memory import version
from memograd._replay._recording import GONE, Recording, recorded
from memograd._replay._run import Run, Unrecordable
from memograd._replay._then import Then
from memograd._replay._trees import Seen, swapped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from memograd._ambient._streams import State
    from memograd._ambient._torch import Modes
    from memograd._replay._recording import Plan


_INSTEAD = (
    'Go backward before it changes, hold graphs beyond their use (memo(live="64MiB")), or call the unmemoized function '
    "(f.__wrapped__)"
)
ANOTHER = (
    "a remembered call, whose graph is gone, is run again for its gradients, and would be another call by now: "
    f"something that it depends on (an argument, a weight, a training flag, a global) has changed since. {_INSTEAD}"
)
NOT_NOW = (
    "a remembered call, whose graph is gone, is run again for its gradients, and cannot be by now: it "
    f"{{error}}. {_INSTEAD}"
)
READ = (
    "a tensor has been modified by an inplace operation: of shape {shape}, read by a remembered call whose graph is "
    "gone and which is run again for its gradients, it is at version {now}; expected version {then}. "
    f"{_INSTEAD}"
)


def recompute(  # noqa: PLR0913, PLR0917 - all that a call was
    f: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    captured: Sequence[Any],
    value: Any,
    plan: Plan,
    modes: Modes,
    streams: Mapping[str, State] | None,
    unchanged: Callable[[], bool] = lambda: True,
) -> Recorded:
    """Give a stored result; if gradients come back to it, run `f` again then, and once.

    The output is GONE if the result is not of the form that the plan describes.

    Args:
        captured: as for `record`.
        value: the result, without grad. It is copied, but its content must stay what it is.
        plan: what the recording of the call said.
        modes: those of the call.
        streams: the random states that the call began with, if it draws.
        unchanged: tells, in the modes of the call, whether it would still be the same call.
    """
    seen = Seen((tuple(args), dict(kwargs), tuple(captured)))
    laid_out = _laid_out(value, plan)
    # Which of two that are one would a gradient be for?
    if laid_out is None or len(set(seen.pattern)) < len(seen.pattern):
        return Recorded(GONE, None, "the stored result is of another form than its plan")
    layout, roots = laid_out
    job = _Job(f, args, kwargs, seen, plan, modes, streams, unchanged)
    recording = Recording(seen, layout, roots, list(plan.inputs), None, job.graph)
    return Recorded(recording.give(seen), recording, "")


def _laid_out(value: Any, plan: Plan) -> tuple[Layout, list[Tensor]] | None:
    tensors = {id(tensor): tensor for tensor in Seen(value).direct}
    if len(tensors) != len(plan.outputs):
        return None
    sources: dict[str, list[Tensor]] = {"roots": [], "constants": []}
    places: dict[int, Part] = {}
    for (name, tensor), grad in zip(tensors.items(), plan.outputs, strict=True):
        source = "roots" if grad else "constants"
        places[name] = Part(source, len(sources[source]), None, grad)
        sources[source].append(tensor)
    return Layout(swapped(value, {}), places, sources["constants"]), sources["roots"]


class _Job:
    """A call that may have to be run again. It holds the arguments until then."""

    __slots__ = ("args", "f", "kwargs", "modes", "plan", "seen", "streams", "then", "unchanged", "versions")

    def __init__(
        self,
        f: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        seen: Seen,
        plan: Plan,
        modes: Modes,
        streams: Mapping[str, State] | None,
        unchanged: Callable[[], bool],
    ) -> None:
        self.f = f
        self.unchanged = unchanged
        self.args = args
        self.kwargs = kwargs
        self.seen = seen
        self.plan = plan
        self.modes = modes
        self.streams = streams
        self.versions = [version(tensor) for tensor in seen.tensors]
        self.then = Then(seen.tensors)

    def graph(self) -> Graph:
        """Run the call again, and give its graph, with the inputs in the order of the plan."""
        self.check()
        run = Run(self.seen)
        # The streams of one that draws nothing are left alone: other threads may be drawing from them.
        before = read_streams(self.streams or ())
        with under(self.modes), self.then.flags():
            with self.then.hooks():
                unchanged = self.unchanged()
            if not unchanged:
                raise RuntimeError(ANOTHER)
            try:
                run.prepare(self.args, self.kwargs)
                set_streams(dict(self.streams or {}))
                run.call(self.f)
                recording = recorded(run)
            except Unrecordable as error:
                raise RuntimeError(NOT_NOW.format(error=error)) from error
            finally:
                set_streams(before)
        return self.arranged(recording)

    def check(self) -> None:
        """Raise if something that the call reads was changed in place since."""
        for tensor, then in zip(self.seen.tensors, self.versions, strict=True):
            if version(tensor) != then:
                raise RuntimeError(READ.format(shape=list(tensor.shape), now=version(tensor), then=then))

    def arranged(self, recording: Recording | None) -> Graph:
        """Bring the inputs into the order of the plan."""
        if recording is None or recording.graph is None or recording.plan is None:
            raise RuntimeError("a remembered call, run again for its gradients, gave a result that requires no grad")
        if recording.plan.outputs != self.plan.outputs:
            raise RuntimeError("a remembered call, run again for its gradients, gave a result of another form")
        found = dict(zip(recording.inputs, recording.graph.inputs, strict=True))
        inputs = [found.get(place) for place in self.plan.inputs]
        return Graph(inputs, recording.graph.roots, recording.graph.saved, recording.graph.stand_ins)
