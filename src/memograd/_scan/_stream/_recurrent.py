"""The streamed loss of `nn.LSTM`, `nn.GRU` and `nn.RNN`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from memograd._replay._plan import Costs
from memograd._scan._batch import Batch
from memograd._scan._budget import STREAM, sizes, unseen
from memograd._scan._course import Lanes
from memograd._scan._pieces import Job, Pieces
from memograd._scan._states import States, first_states
from memograd._scan._stream._feed import Feed, source_of
from memograd._scan._stream._loss import Result, Stream, loss_of
from memograd._scan._stream._losses import REDUCTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from torch import Tensor, nn

    from memograd._scan._stack import Stack
    from memograd._scan._within import Bounds


@dataclass(frozen=True)
class Asked:
    """What is asked of a streamed loss; `Scan.loss` says what each is."""

    targets: Any
    fn: Callable[..., Tensor]
    reduction: str
    bounds: Bounds
    bar: bool | None

    def __post_init__(self) -> None:
        if self.reduction not in REDUCTIONS:
            raise ValueError(f"memo.scan: got reduction={self.reduction!r}; expected 'mean' or 'sum'.")
        if not callable(self.fn):
            raise TypeError(
                f"memo.scan: got {type(self.fn).__name__} for fn; expected a function of outputs and targets that "
                "gives a loss. Write scan.loss(xs, targets, nn.functional.mse_loss)."
            )

    def target_feed(self, steps: int, device: Any, *, batch_first: bool) -> Feed | None:
        """Give the targets, of as many steps as there are inputs."""
        if self.targets is None:
            return None
        source = source_of(self.targets, int(batch_first), "targets")
        if source.steps != steps:
            raise ValueError(
                f"memo.scan: got targets of {source.steps:,} steps for inputs of {steps:,}; expected as many."
            )
        return Feed(source, device, rows_first=batch_first)


def recurrent_loss(module: nn.RNNBase, stack: Stack, xs: Any, hx: Any, asked: Asked) -> tuple[Result, int]:
    """Take the loss of a recurrent module over a sequence.

    Args:
        module: the module; `stack` is what it consists of.
        xs: inputs of any length.
        hx: first states, as the plain module takes them; None for zeros.
        asked: what of.

    Returns:
        The result, its last state layer by layer; and the rows.
    """
    if module.bidirectional:
        raise ValueError(
            "memo.scan: got a bidirectional module; expected one direction: the other one would begin at the end of "
            "what is read piece by piece. Write y, _ = scan(xs)."
        )
    source, device = source_of(xs, int(module.batch_first), "xs"), stack.weights[0][0][0].device
    feed, x = Feed(source, device), source.read(0, 1).to(device)
    rows, states = x.shape[1] if x.dim() > 1 else 0, _first(module, x, hx)
    first = [t[k] for k in range(len(stack.weights)) for t in states.tensors]

    def job(steps: int) -> Job:
        return Job(stack, Lanes(steps, rows, device))

    def pieces(begin: int, end: int) -> Pieces:
        given: Any = feed.behind(begin)
        return Pieces(job(end - begin), given)

    def shaped(outputs: Sequence[Tensor], steps: int) -> Tensor:
        y = outputs[0].view(steps, rows, -1)
        return y.transpose(0, 1) if module.batch_first else y

    known: dict[Hashable, int] = {}

    def costs(trial: Callable[[int], int], lengths: Sequence[int]) -> Costs:
        step, fixed = sizes(trial, lengths, known, None)
        extra = unseen(job(1), x, looks_back=False)
        carry = sum(t.nbytes for t in first) + STREAM * bool(stack.dropout)
        return Costs(carry, step + extra.step, fixed + extra.fixed)

    targets = asked.target_feed(source.steps, device, batch_first=module.batch_first)
    stream = Stream(
        pieces, costs, source.steps, first, pieces(0, 1).job.flat, shaped, asked.fn, targets,
        asked.reduction == "mean", asked.bounds, asked.bar,
    )  # fmt: skip
    return loss_of(stream), rows


def _first(module: nn.RNNBase, x: Tensor, hx: Any) -> States:
    """Give the first states; what is wrong with a step or with states the plain module says."""
    step = x.transpose(0, 1) if module.batch_first and x.dim() > 1 else x
    batch = Batch.of(module, step) if x.dim() == 3 else None
    first = None if batch is None else first_states(module, batch.x, len(batch.rows), hx)
    if first is None:
        module.__wrapped__(step, hx)  # pyright: ignore[reportCallIssue]
        raise ValueError(
            f"memo.scan: got xs of steps {list(x.shape[1:])} {x.dtype}; expected (B, {module.input_size}) of floats on "
            "CPU or CUDA, in plain tensors and out of transforms."
        )
    return first.states
