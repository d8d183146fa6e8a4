import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from memograd import Memo
from memograd.store import Disk

COUNT = 100


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 24)).requires_grad_(False).eval()


def samples() -> torch.Tensor:
    return torch.randn(COUNT, 16, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("named", [{}, {"dataset": "d/train", "count": COUNT}])
@pytest.mark.parametrize(
    "kind", [lambda x: x, list, lambda x: TensorDataset(x, torch.zeros(COUNT)), lambda x: DataLoader(x, 32)]
)
def test_a_dataset_that_is_filled_is_known(named, kind) -> None:
    features, x = Memo().rows(model(), **named), samples()
    done = features.fill(kind(x), batch_size=32)
    assert (done.samples, done.known, done.computed) == (COUNT, 0, COUNT)
    done = features.fill(kind(x), batch_size=32)
    assert (done.samples, done.known, done.computed) == (COUNT, COUNT, 0)
    if not isinstance(kind(x), DataLoader):
        y = features(x, **({"index": range(COUNT)} if named else {}))
        assert features.receipt.hits == COUNT
        assert torch.allclose(y, features.__wrapped__(x))


def test_the_frozen_part_of_a_model_is_filled_and_the_rest_is_not_run() -> None:
    plain = model()
    plain.add_module("head", nn.BatchNorm1d(24))
    features = Memo().rows(plain.train(), frozen=True)
    features.fill(samples())
    assert plain.head.num_batches_tracked == 0
    features(samples())
    assert (features.receipt.hits, int(plain.head.num_batches_tracked)) == (COUNT, 1)


def test_inputs_are_taken_of_samples() -> None:
    features = Memo().rows(model())
    rows = [{"image": each, "label": 0} for each in samples()]
    assert features.fill(rows, inputs=lambda row: row["image"]).computed == COUNT
    features(samples())
    assert features.receipt.hits == COUNT


def test_functions_are_filled() -> None:
    backbone = model()
    features = Memo().rows(lambda x: backbone(x) * 2)
    assert features.fill(samples()).samples == COUNT
    features(samples())
    assert features.receipt.hits == COUNT


def test_what_is_not_remembered_is_not_filled_and_that_is_said() -> None:
    live = nn.Sequential(nn.Linear(16, 4))
    with pytest.raises(ValueError, match="no row is remembered: no part of Sequential is frozen"):
        Memo().rows(live, frozen=True).fill(samples())
    with pytest.raises(ValueError, match="no row is remembered"):
        Memo().rows(live).fill(samples())
    with pytest.raises(TypeError, match="expected a tensor, a list, a dataset with a length"):
        Memo().rows(model()).fill(iter([1]))


def test_progress_is_shown_where_it_is_asked_for(capsys, monkeypatch) -> None:
    Memo().rows(model(), name="backbone").fill(samples(), progress=True)
    assert "backbone" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "rich.console", None)
    Memo().rows(model(), name="backbone").fill(samples(), 20, progress=True)
    assert "backbone: 20 of 100\n" in capsys.readouterr().err
    Memo().rows(model()).fill(samples())
    assert capsys.readouterr().err == ""


PROGRAM = """
import sys, time, torch
from pathlib import Path
from torch import nn
from memograd import Memo

class Slow(nn.Linear):
    def forward(self, input):
        time.sleep(0.02)
        return super().forward(input)

torch.manual_seed(0)
m = Slow(16, 8).requires_grad_(False).eval()
x = torch.randn(800, 16, generator=torch.Generator().manual_seed(3))
named = {"dataset": "d/train", "count": 800} if sys.argv[2] == "index" else {}
f = Memo(sys.argv[1]).rows(m, version="1", always=True, **named)
print("begun", flush=True)
done = f.fill(x, batch_size=8, progress=False)
print(done.samples, done.known, done.computed, flush=True)
y = f(x, **({"index": range(800)} if named else {}))
print(torch.allclose(y, torch.cat([m(part) for part in x.split(80)])))
"""


@pytest.mark.parametrize("kind", ["index", "content"])
def test_a_fill_that_was_stopped_goes_on_from_there(tmp_path, kind) -> None:
    run = [sys.executable, "-c", PROGRAM, str(tmp_path), kind]
    first = subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "begun\n"
    wait_for_files(tmp_path, kind)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=60)
    assert "KeyboardInterrupt" in said.splitlines()[-1]
    second = subprocess.run(run, capture_output=True, text=True, check=True, timeout=120)
    samples, known, computed = map(int, second.stdout.split()[1:4])
    assert samples == 800
    assert known > 0
    assert known + computed == 800
    assert second.stdout.split()[-1] == "True"


def wait_for_files(folder: Path, kind: str) -> None:
    """Wait until some rows are stored."""
    for _ in range(600):
        if kind == "content" and folder.exists() and any(True for _ in Disk(folder).infos()):
            return
        if list(folder.glob("arrays/d/train/*/samples/marks.raw")):
            time.sleep(1.0)
            return
        time.sleep(0.02)
