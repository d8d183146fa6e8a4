"""The word list and the batches made of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from memograd._cli._demo import LISTED
from memograd._demo._words import BEGIN, END, IGNORED, Corpus, word_list


def spelled(batch, row):
    """Give a row back as numbers of its characters, without marks and padding."""
    return tuple(batch.ids[row, 1 : batch.lengths[row]].tolist())


def test_the_list_has_the_number_of_words_that_the_command_line_allows():
    words = word_list()
    assert len(words) == len(set(words)) == LISTED
    assert {"international", "internally", "zygote"} <= set(words)


def test_a_batch_reads_begin_and_characters_and_predicts_characters_and_end():
    batch = Corpus.draw(50, seed=1).batch(np.arange(50))
    for ids, targets, length in zip(batch.ids.tolist(), batch.targets.tolist(), batch.lengths.tolist(), strict=True):
        assert ids[0] == BEGIN
        assert ids[1:length] == targets[: length - 1]
        assert targets[length - 1] == END
        assert set(targets[length:]) <= {IGNORED}
        assert min(ids[1:length]) > END


def test_a_batch_is_no_wider_than_its_longest_word():
    batch = Corpus.draw(50, seed=1).batch(np.array([3, 4]))
    assert batch.ids.shape == batch.targets.shape == (2, batch.lengths.max())
    assert batch.steps == batch.lengths.sum()


def test_the_characters_spell_the_words_that_were_drawn():
    corpus = Corpus.draw(LISTED, seed=0)
    alphabet = sorted(set("".join(word_list())))
    batch = corpus.batch(np.arange(LISTED))
    words = ["".join(alphabet[code - 2] for code in spelled(batch, row)) for row in range(0, LISTED, 1000)]
    assert words == sorted(word_list())[::1000]


@pytest.mark.parametrize("order", ["sampled", "sorted"])
def test_an_epoch_has_every_word_once(order):
    corpus = Corpus.draw(100, seed=1)
    batches = list(corpus.batches(32, order, (0, 1)))
    assert sorted(len(batch.ids) for batch in batches) == [4, 32, 32, 32]
    assert len({spelled(batch, row) for batch in batches for row in range(len(batch.ids))}) == 100


@pytest.mark.parametrize("order", ["sampled", "sorted"])
def test_seed_and_epoch_decide_the_batches(order):
    corpus = Corpus.draw(300, seed=1)

    def ids(*seed):
        return torch.cat([batch.ids[:, 1] for batch in corpus.batches(32, order, seed)])

    assert torch.equal(ids(0, 1), ids(0, 1))
    assert not torch.equal(ids(0, 1), ids(0, 2))
    assert not torch.equal(ids(0, 1), ids(1, 1))


def test_sorted_batches_hold_neighbours():
    corpus = Corpus.draw(300, seed=1)
    for batch in corpus.batches(32, "sorted", (0, 1)):
        rows = [spelled(batch, row) for row in range(len(batch.ids))]
        assert rows == sorted(rows)
