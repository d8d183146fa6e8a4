"""Strategies: recurrent modules of every kind, and batches that share much, little or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from tests.scan.judge import Trial
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

DTYPES = [torch.float32, torch.float64, torch.bfloat16]


@dataclass(frozen=True)
class Ids:
    """Which vector stands where: (B, T) ids, and the rows' lengths."""

    table: Tensor
    lengths: Tensor


@st.composite
def modules(draw: Any, dtypes: list[torch.dtype] = DTYPES, dropout: bool = False) -> nn.RNNBase:
    """Give a recurrent module with any options."""
    cell = draw(st.sampled_from([nn.LSTM, nn.GRU, nn.RNN]))
    hidden = draw(st.integers(1, 5))
    options = {
        "num_layers": draw(st.integers(2 if dropout else 1, 3)),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "bidirectional": draw(st.booleans()),
        "dtype": draw(st.sampled_from(dtypes)),
    }
    if cell is nn.LSTM and hidden > 1 and draw(st.booleans()):
        options["proj_size"] = draw(st.integers(1, hidden - 1))
    if cell is nn.RNN:
        # At the kink of a relu halves fall to either side of zero, and neither is wrong.
        half = options["dtype"] == torch.bfloat16
        options["nonlinearity"] = "tanh" if half else draw(st.sampled_from(["tanh", "relu"]))
    if dropout:
        options["dropout"] = draw(st.sampled_from([0.3, 0.8, 1.0]))
    torch.manual_seed(draw(st.integers(0, 2**16)))
    return cell(draw(st.integers(1, 4)), hidden, **options)


@st.composite
def ids(draw: Any, shortest: int = 1) -> Ids:
    """Give rows that are made to share much, little or nothing."""
    rows, steps = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    kind = draw(st.sampled_from(["few letters", "one prompt", "all equal", "no two alike", "nothing at the start"]))
    if kind == "few letters":
        table = torch.randint(0, 2, (rows, steps), generator=g)
    elif kind == "one prompt":  # long enough for a stretch of its own
        prompt = torch.randint(0, 3, (1, draw(st.integers(8, 11))), generator=g).expand(rows, -1)
        table = torch.cat([prompt, torch.randint(0, 3, (rows, steps), generator=g)], 1)
    elif kind == "all equal":
        table = torch.randint(0, 3, (1, steps), generator=g).repeat(rows, 1)
    elif kind == "no two alike":
        table = torch.arange(rows * steps).view(rows, steps)
    else:
        table = torch.randint(0, 2, (rows, steps), generator=g)
        table[:, 0] = torch.arange(rows)
    whole = [table.shape[1]] * rows
    lengths = st.just(whole) | st.lists(st.integers(shortest, table.shape[1]), min_size=rows, max_size=rows)
    return Ids(table, torch.tensor(draw(lengths)))


@st.composite
def trials(draw: Any, dtypes: list[torch.dtype] = DTYPES, autocast: bool = False) -> Trial:
    """Give a module, an input for it, first states, and what the loss depends on."""
    module = draw(modules(dtypes))
    given = draw(ids())
    x = draw(inputs(module, given))
    return Trial(
        module,
        x.requires_grad_() if isinstance(x, Tensor) and draw(st.booleans()) else x,
        draw(states(module, len(given.table))),
        on=draw(st.sampled_from([None, ("y",), ("h",), ("c",), ("h", "c")])),
        autocast=torch.bfloat16 if autocast else None,
        seed=draw(st.integers(0, 2**16)),
    )


@st.composite
def inputs(draw: Any, module: nn.RNNBase, given: Ids) -> Tensor | PackedSequence:
    """Lay ids out as vectors, padded or packed."""
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    letters = torch.randn(int(given.table.max()) + 1, module.input_size, generator=g).to(module.weight_ih_l0.dtype)
    table, lengths = given.table, given.lengths
    form = draw(st.sampled_from(["padded", "packed", "packed and sorted"]))
    if form == "packed and sorted":
        lengths, order = lengths.sort(descending=True)
        table = table[order]
    x = letters[table]
    if form == "padded":
        return x if module.batch_first else x.transpose(0, 1)
    x = x.requires_grad_(draw(st.booleans()))
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=form == "packed and sorted")
    return PackedSequence(packed.data.detach().requires_grad_(x.requires_grad), *packed[1:])


@st.composite
def states(draw: Any, module: nn.RNNBase, rows: int) -> Any:
    """Give first states: none, zeros, equal ones, two kinds, or one a row."""
    kind = draw(st.sampled_from(["none", "zeros", "equal", "two kinds", "one a row"]))
    if kind == "none":
        return None
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    distinct = {"zeros": 1, "equal": 1, "two kinds": 2, "one a row": rows}[kind]
    of_row = torch.randint(0, distinct, (rows,), generator=g) if kind != "one a row" else torch.arange(rows)
    depth = module.num_layers * (2 if module.bidirectional else 1)
    made = []
    for size in (module.proj_size or module.hidden_size, module.hidden_size)[: 2 if module.mode == "LSTM" else 1]:
        state = torch.randn(depth, distinct, size, generator=g).to(module.weight_ih_l0.dtype)[:, of_row]
        made.append((state * (kind != "zeros")).requires_grad_(draw(st.booleans())))
    return tuple(made) if len(made) > 1 else made[0]
