"""Language models from ids to loss, plain and from the source, and who judges them.

The whole program is judged as a module is: its loss and every gradient, the embedding's among them, against a float64
copy of the plain program.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from tests.scan.batches import ids, modules
from tests.scan.judge import error, floor
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from memograd import Shared, memo

CLASSES = 5


@dataclass(frozen=True)
class Program:
    """A language model, and one batch of it.

    Attributes:
        embedding, rnn, head: its modules.
        table: (B, T) token ids.
        lengths: (B,) steps of each row.
        targets: (B, T) classes.
        ignored: the target that does not count.
        reduction: of the loss.
    """

    embedding: nn.Embedding
    rnn: nn.RNNBase
    head: nn.Linear
    table: Tensor
    lengths: Tensor
    targets: Tensor
    ignored: int = -100
    reduction: str = "mean"

    def copied(self, dtype: torch.dtype | None = None) -> Program:
        """Give a program with weights of its own."""
        parts = [copy.deepcopy(m).to(dtype) for m in (self.embedding, self.rnn, self.head)]
        return Program(*parts, self.table, self.lengths, self.targets, self.ignored, self.reduction)

    def run(self, forward: Any) -> dict[str, Tensor]:
        """Take a training step; give the loss and all gradients."""
        loss = forward(self)
        loss.backward()
        found = {"loss": loss.detach()}
        for part in ("embedding", "rnn", "head"):
            found |= {f"{part}.{name}": p.grad for name, p in getattr(self, part).named_parameters()}
        return found


def plain(p: Program) -> Tensor:
    """Run the program as PyTorch programs are written: packed, for rows of one step or more."""
    x = p.embedding(p.table)
    packed = pack_padded_sequence(x, p.lengths, batch_first=True, enforce_sorted=False)
    y, _ = pad_packed_sequence(p.rnn(packed)[0], batch_first=True, total_length=p.table.shape[1])
    ended = torch.arange(p.table.shape[1]) >= p.lengths[:, None]
    targets = p.targets.masked_fill(ended, p.ignored)
    return functional.cross_entropy(
        p.head(y).flatten(0, 1), targets.flatten(), ignore_index=p.ignored, reduction=p.reduction
    )


def memoized(p: Program) -> Tensor:
    """Run the program from the source."""
    s = Shared.prefixes(p.table, p.lengths)
    y, _ = memo.scan(p.rnn, engine="levels")(s.map(p.embedding))
    return y.map(p.head).cross_entropy(p.targets, p.ignored, p.reduction)


def assert_as_exact(program: Program, ours: Any = memoized) -> None:
    """Assert that the memoized program's errors against float64 are no larger than the plain program's."""
    exact = program.copied(torch.float64).run(plain)
    # The largest of eight: where terms cancel, one or two may move the sum by far less than it is uncertain.
    noise = [_shaken(program, seed).run(plain) for seed in range(8)]
    theirs, mine = program.copied().run(plain), program.copied().run(ours)
    eps = torch.finfo(program.head.weight.dtype).eps
    for name, truth in exact.items():
        allowed = floor(max(error(moved[name], truth) for moved in noise), truth, eps)
        assert error(mine[name], truth) <= 1.5 * error(theirs[name], truth) + allowed, name
        assert mine[name].dtype == theirs[name].dtype


class _Shaken(nn.Module):
    """Moves what passes by about one rounding, each value by its own share."""

    def __init__(self, eps: float, drawn: torch.Generator) -> None:
        super().__init__()
        self.eps, self.drawn = eps, drawn

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + self.eps * torch.randn(x.shape, generator=self.drawn, dtype=x.dtype))


def _shaken(program: Program, seed: int) -> Program:
    """Move every weight by about one rounding, and the logits too, which are the loss's operands."""
    shaken = _Shaken(torch.finfo(program.head.weight.dtype).eps, torch.Generator().manual_seed(seed))
    moved = program.copied(torch.float64)
    with torch.no_grad():
        for part in (moved.embedding, moved.rnn, moved.head):
            for p in part.parameters():
                p.copy_(shaken(p))
    moved.head.register_forward_hook(lambda _, __, logits: shaken(logits))
    return moved


@st.composite
def programs(draw: Any) -> Program:
    rnn = draw(modules([torch.float32, torch.float64]))
    given = draw(ids())
    dtype, size = rnn.weight_ih_l0.dtype, (rnn.proj_size or rnn.hidden_size) * (2 if rnn.bidirectional else 1)
    embedding = nn.Embedding(int(given.table.max()) + 1, rnn.input_size, dtype=dtype)
    head = nn.Linear(size, CLASSES, dtype=dtype)
    drawn = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    targets = torch.randint(0, CLASSES, given.table.shape, generator=drawn)
    targets[:, 0] = 1  # so that something counts
    options = draw(st.sampled_from([-100, 0, 3])), draw(st.sampled_from(["mean", "sum"]))
    return Program(embedding, rnn, head, given.table, given.lengths, targets, *options)


def a_program(cell=nn.LSTM, rows=7, steps=6, letters=3, **options):
    torch.manual_seed(0)
    table = torch.randint(0, letters, (rows, steps))
    lengths = torch.randint(1, steps + 1, (rows,))
    size = (options.get("proj_size") or 4) * (2 if options.get("bidirectional") else 1)
    parts = nn.Embedding(letters, 3), cell(3, 4, **options), nn.Linear(size, CLASSES)
    return Program(*parts, table, lengths, torch.randint(0, CLASSES, (rows, steps)))


def pick(states, cell):
    return states if cell is nn.LSTM else states[0]
