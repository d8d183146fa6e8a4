"""The word list as a corpus: English words (Debian's wamerican, made from SCOWL), encoded once, cut into batches.

A word of n characters is n + 1 steps: the mark BEGIN and the characters go in, the characters and the mark END are
to be predicted. The list and its licence lie in `memograd/data`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

Order = Literal["sampled", "sorted"]
BEGIN, END, IGNORED = 0, 1, -100


def word_list() -> list[str]:
    """Return the words of the list, in its order."""
    return (files("memograd") / "data" / "words.txt").read_text("utf-8").split()


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Words as tensors: `ids` and `targets` are (words, longest + 1), `lengths` counts the steps of each word."""

    ids: Tensor
    targets: Tensor
    lengths: Tensor

    @property
    def steps(self) -> int:
        """Steps of all words together: what a plain program has to compute at least."""
        return int(self.lengths.sum())

    def to(self, device: torch.device) -> Batch:
        """Move ids and targets; `lengths` stays on the CPU, where torch wants it for packing."""
        return Batch(self.ids.to(device), self.targets.to(device), self.lengths)


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """Some of the words, sorted and encoded: row n holds the characters of word n."""

    characters: NDArray[np.int64]
    lengths: NDArray[np.int64]
    symbols: int

    @classmethod
    def draw(cls, count: int, seed: int) -> Corpus:
        """Draw `count` words from the list, all different, and sort them."""
        every = word_list()
        code = {character: n for n, character in enumerate(sorted(set("".join(every))), start=2)}
        drawn: list[int] = np.random.default_rng(seed).permutation(len(every))[:count].tolist()
        chosen = sorted(every[n] for n in drawn)
        rows = [[code[character] for character in word] for word in chosen]
        lengths = np.array([len(row) for row in rows])
        characters = np.zeros((len(rows), int(lengths.max())), np.int64)
        characters[np.arange(characters.shape[1]) < lengths[:, None]] = [c for row in rows for c in row]
        return cls(characters, lengths, 2 + len(code))

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """Make a batch of these rows, no wider than its longest word."""
        lengths = self.lengths[rows]
        ids = np.pad(self.characters[rows, : int(lengths.max())], ((0, 0), (1, 0)), constant_values=BEGIN)
        targets = np.roll(ids, -1, axis=1)
        targets[np.arange(len(rows)), lengths] = END
        targets[np.arange(ids.shape[1]) > lengths[:, None]] = IGNORED
        return Batch(torch.from_numpy(ids), torch.from_numpy(targets), torch.from_numpy(lengths + 1))

    def batches(self, size: int, order: Order, seed: tuple[int, int]) -> Iterator[Batch]:
        """Yield each word once, in batches of `size` (the last may be smaller).

        Args:
            size: words in a batch.
            order: "sampled" shuffles the words; "sorted" keeps neighbours together and shuffles the batches.
            seed: of the run and the epoch, from which the shuffle is drawn.
        """
        rng = np.random.default_rng(seed)
        rows = rng.permutation(len(self)) if order == "sampled" else np.arange(len(self))
        cuts = [rows[start : start + size] for start in range(0, len(rows), size)]
        for n in range(len(cuts)) if order == "sampled" else rng.permutation(len(cuts)):
            yield self.batch(cuts[n])
