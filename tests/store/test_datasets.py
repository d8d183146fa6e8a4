"""Folders of rows by index: listed, and within as many bytes as the store; what was opened last stays longest."""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn

from memograd import Memo
from memograd.store import Disk, Memory, Tiered
from memograd.store._datasets import HEAD, folders, make_room, root_of

ROWS = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))


def model(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Linear(4, 64).requires_grad_(False).eval()


def fill(store: Disk, seed: int, dataset: str = "d/train") -> None:
    features = Memo(store).rows(model(seed), dataset=dataset, count=100, always=True)
    assert torch.equal(features(ROWS, index=range(100)), features(ROWS, index=range(100)))
    assert features.receipt.hits == 100


def test_folders_are_listed_with_their_datasets_and_bytes(tmp_path):
    store = Disk(tmp_path)
    assert folders(root_of(store)[0]) == []
    for seed, dataset in enumerate(["d/train", "d/train", "other"]):
        fill(store, seed, dataset)
    found = folders(tmp_path / "arrays")
    assert sorted(folder.dataset for folder in found) == ["d/train", "d/train", "other"]
    assert all(100 * 64 * 4 < folder.nbytes < 200 * 64 * 4 for folder in found)
    assert [folder.used for folder in found] == sorted((folder.used for folder in found), reverse=True)


def test_a_store_without_a_directory_has_none(tmp_path):
    assert root_of(None) is root_of(Memory()) is None
    assert root_of(Tiered(Memory(), Disk(tmp_path)))[0] == tmp_path / "arrays"


def test_former_states_of_a_model_go_when_there_is_no_room(tmp_path):
    store = Disk(tmp_path, max_bytes=100_000)
    for seed in range(6):
        fill(store, seed)
        assert sum(folder.nbytes for folder in folders(tmp_path / "arrays")) <= 100_000
    assert len(folders(tmp_path / "arrays")) == 3
    fill(store, 5)


def test_what_was_opened_last_stays_longest(tmp_path):
    for age, name in enumerate(["a", "b", "c"]):
        (tmp_path / name / "0").mkdir(parents=True)
        head = tmp_path / name / "0" / HEAD
        head.write_bytes(bytes(8192))
        os.utime(head, (1000 - age, 1000 - age))
    gone = make_room(tmp_path, 8192, 2 * 8192, tmp_path / "new" / "0")
    assert [folder.dataset for folder in gone] == ["c", "b"]
    assert [folder.dataset for folder in folders(tmp_path)] == ["a"]


@pytest.mark.filterwarnings("error")
def test_whoever_has_a_folder_open_that_goes_computes(tmp_path):
    store = Disk(tmp_path, max_bytes=60_000)
    features = Memo(store).rows(model(0), dataset="d", count=100, always=True)
    expected = features(ROWS, index=range(100))
    fill(store, 1)
    fill(store, 2)
    assert torch.equal(features(ROWS, index=range(100)), expected)
