"""The language model, and four programs for its loss, of which the values are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from memograd import Shared
from memograd._demo._words import IGNORED
from memograd._share._trie import chains

if TYPE_CHECKING:
    from torch import Tensor

    from memograd._demo._words import Batch

EMBEDDING = 64


class Computed(NamedTuple):
    """A loss, and how many steps of the LSTM it took."""

    loss: Tensor
    steps: int


class CharacterModel(nn.Module):
    """Predict each next character of a word: embedding, LSTM, linear head."""

    def __init__(self, symbols: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, EMBEDDING)
        self.lstm: nn.Module = nn.LSTM(EMBEDDING, hidden, batch_first=True)
        self.head = nn.Linear(hidden, symbols)


def packed_loss(model: CharacterModel, batch: Batch) -> Computed:
    """Compute the loss as torch's manual advises for rows of unlike length: no step beyond a word's end."""
    ids = pack_padded_sequence(batch.ids, batch.lengths, batch_first=True, enforce_sorted=False)
    out, _ = model.lstm(PackedSequence(model.embedding(ids.data), *ids[1:]))
    targets = pack_padded_sequence(batch.targets, batch.lengths, batch_first=True, enforce_sorted=False)
    return Computed(cross_entropy(model.head(out.data), targets.data), batch.steps)


def padded_loss(model: CharacterModel, batch: Batch) -> Computed:
    """Compute the loss as most people write it; the head sees the words' own steps only."""
    out, _ = model.lstm(model.embedding(batch.ids))
    own = batch.targets != IGNORED
    return Computed(cross_entropy(model.head(out[own]), batch.targets[own]), batch.ids.numel())


def shared_loss(model: CharacterModel, batch: Batch) -> Computed:
    """Compute the loss over distinct prefixes: every layer and the loss run once for each."""
    return _loss_over(model, Shared.prefixes(batch.ids, batch.lengths), batch)


def unshared_loss(model: CharacterModel, batch: Batch) -> Computed:
    """Compute the loss as `shared_loss` does, but over every step of the data: what is left is the engine."""
    prefixes = Shared.prefixes(batch.ids, batch.lengths)
    node = torch.from_numpy(prefixes.trie.node).to(batch.ids.device)
    source = node if prefixes.source is None else prefixes.source[node]
    return _loss_over(model, Shared(prefixes.distinct, chains(prefixes.trie.rows), source), batch)


def _loss_over(model: CharacterModel, prefixes: Shared, batch: Batch) -> Computed:
    out, _ = model.lstm(prefixes.map(model.embedding))
    return Computed(out.map(model.head).cross_entropy(batch.targets), len(prefixes))


PLAIN = {"packed": packed_loss, "padded": padded_loss}
