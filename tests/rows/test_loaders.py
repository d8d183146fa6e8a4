"""Rows in the workers of a `DataLoader`, in processes as they are."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from memograd import Memo


class Told(nn.Linear):
    def forward(self, input):
        with open(sys.argv[2], "a") as log:
            log.write(f"{os.getpid()} {len(input)}\\n")
        return super().forward(input)


class Features(Dataset):
    def __init__(self, features, x):
        self.features, self.x = features, x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, at):
        with torch.no_grad():
            return self.features(self.x[at : at + 1])[0], at


def main(way, *more):
    torch.manual_seed(0)
    model = Told(16, 8).requires_grad_(False).eval()
    x = torch.randn(24, 16)
    x[12:] = x[:12]  # two workers want each of them
    how = {"per_worker": True} if "apart" in more else {}
    features = Memo().rows(model, version="1", always=True, **how)
    with torch.no_grad():
        features(x[:1])
    open(sys.argv[2], "w").close()
    loader = DataLoader(Features(features, x), 4, num_workers=2, multiprocessing_context=way)
    for epoch in range(2):
        for y, at in loader:
            assert torch.allclose(y, model(x[at]), atol=1e-6)
    print(os.getpid(), features.stats().computed, features.stats().hits)


if __name__ == "__main__":
    main(*sys.argv[1:2], *sys.argv[3:])
"""


def run(tmp_path, *args: str) -> tuple[list[int], list[str]]:
    """Run the program; give what it prints, and the processes in which the model ran."""
    script, log = tmp_path / "program.py", tmp_path / "log"
    script.write_text(PROGRAM, "utf-8")
    line = [sys.executable, "-W", "error", script, args[0], log, *args[1:]]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=250, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert "memograd-" not in done.stderr  # the folder in which it is asked
    return [int(word) for word in done.stdout.split()], [each.split()[0] for each in log.read_text().splitlines()]


@pytest.mark.parametrize("way", ["fork", "spawn", "forkserver"])
def test_workers_ask_the_process_that_has_the_model_and_each_row_is_computed_once(tmp_path, way) -> None:
    (pid, computed, hits), where = run(tmp_path, way)
    assert computed == 12
    assert hits == 1 + 2 * 24 - 12
    assert set(where) == {str(pid)}


def test_workers_compute_by_themselves_where_that_is_asked_for(tmp_path) -> None:
    (pid, computed, _), where = run(tmp_path, "fork", "apart")
    assert computed == 1
    assert len(set(where) - {str(pid)}) >= 2


def test_a_model_by_rows_that_goes_to_a_spawned_worker_goes_without_its_weights() -> None:
    program = (
        "import io, pickle, torch\n"
        "from multiprocessing import context\n"
        "from memograd import Memo\n"
        "f = Memo().rows(torch.nn.Linear(512, 512).requires_grad_(False))\n"
        "whole = len(pickle.dumps(f))\n"
        "context.set_spawning_popen(object())\n"
        "print(whole > 2**20, len(pickle.dumps(f)) < 1000, pickle.loads(pickle.dumps(f)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("True True memo.rows(Linear) of another process")


def test_nobody_without_the_key_is_answered(tmp_path) -> None:
    program = (
        "from multiprocessing import AuthenticationError\n"
        "from multiprocessing.connection import Client\n"
        "from memograd._rows._asked import office\n"
        "address = office.address()\n"
        "try:\n"
        "    Client(address, authkey=b'guess')\n"
        "except AuthenticationError:\n"
        "    print('refused')\n"
        "import multiprocessing\n"
        "Client(address, authkey=multiprocessing.current_process().authkey).close()\n"
        "print('open')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["refused", "open"]


def test_a_worker_whose_question_is_refused_computes_itself(tmp_path) -> None:
    program = (
        "import torch, warnings\n"
        "from torch.utils.data import DataLoader\n"
        "from memograd import Memo\n"
        "features = Memo().rows(torch.nn.Linear(4, 2), always=True)\n"
        "def collate(rows):\n"
        "    with warnings.catch_warnings(record=True) as said:\n"
        "        warnings.simplefilter('always')\n"
        "        y = features(torch.stack(rows))\n"
        "    return y.detach(), str(said[0].message) if said else ''\n"
        "for y, said in DataLoader(torch.ones(4, 4), 4, num_workers=1, collate_fn=collate, "
        "multiprocessing_context='fork'):\n"
        "    print(tuple(y.shape), 'a worker computes rows itself' in said, 'requires grad' in said)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "(4, 2) True True"
