import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from torch import nn

from memograd import Memo

COUNT = 100


def model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 24)).requires_grad_(False).eval()


def samples() -> torch.Tensor:
    return torch.randn(COUNT, 16, generator=torch.Generator().manual_seed(3))


def by_index(memo: Memo, module: nn.Module | None = None, **how: object):
    return memo.rows(model() if module is None else module, always=True, dataset="d/train", count=COUNT, **how)


@pytest.fixture(params=["memory", "disk"])
def memo(request, tmp_path) -> Memo:
    return Memo() if request.param == "memory" else Memo(tmp_path)


def epoch(features, x: torch.Tensor, seed: int = 0) -> int:
    """Ask for all samples in a shuffled order; count those that were computed."""
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(seed))
    computed = 0
    for at in order.split(32):
        y = features(x[at], index=at)
        assert torch.equal(y, features.__wrapped__(x)[at])
        computed += features.receipt.computed
    return computed


def test_the_second_epoch_computes_nothing_in_whatever_order(memo) -> None:
    features = by_index(memo)
    assert [epoch(features, samples(), seed) for seed in range(3)] == [COUNT, 0, 0]


def test_another_process_finds_the_rows(tmp_path) -> None:
    epoch(by_index(Memo(tmp_path)), samples())
    program = (
        "import sys, torch\n"
        "from torch import nn\n"
        "from memograd import Memo\n"
        "torch.manual_seed(0)\n"
        "m = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 24)).requires_grad_(False).eval()\n"
        "x = torch.randn(100, 16, generator=torch.Generator().manual_seed(3))\n"
        "f = Memo(sys.argv[1]).rows(m, always=True, dataset='d/train', count=100)\n"
        "y = f(x, index=range(100))\n"
        "print(f.receipt.hits, torch.allclose(y, m(x)))\n"
    )
    run = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(run, env=os.environ, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["100", "True"]


def test_rows_lie_in_one_file_that_numpy_maps(tmp_path) -> None:
    features = by_index(Memo(tmp_path))
    x = samples()
    y = features(x, index=range(COUNT))
    (file,) = tmp_path.glob("arrays/d/train/*/0/rows.raw")
    assert np.array_equal(np.memmap(file, np.float32, "r", shape=(COUNT, 24)), y.numpy())


def test_a_sample_that_was_edited_is_computed_and_that_is_said(memo) -> None:
    features, x = by_index(memo), samples()
    epoch(features, x)
    x[[3, 8]] += 1
    with pytest.warns(UserWarning, match="of 2 samples another was known under their index"):
        y = features(x[:10], index=range(10))
    assert torch.equal(y, features.__wrapped__(x)[:10])
    assert (features.receipt.hits, features.receipt.computed) == (8, 2)
    assert "2 samples are others" in features.receipt.reason
    assert epoch(features, x) == 0


def test_a_dataset_that_was_shuffled_gives_no_wrong_row(memo) -> None:
    features, x = by_index(memo), samples()
    epoch(features, x)
    with pytest.warns(UserWarning, match="edited or shuffled"):
        assert epoch(features, x.flip(0)) == COUNT


def test_one_bit_of_a_sample_is_another_sample(memo) -> None:
    features, x = by_index(memo), samples()
    epoch(features, x)
    x[5, 7] = torch.nextafter(x[5, 7], torch.tensor(9.0))
    with pytest.warns(UserWarning, match="of 1 samples"):
        features(x[:10], index=range(10))
    assert features.receipt.computed == 1


@pytest.mark.parametrize(
    "edit",
    [
        lambda m: m[0].weight.mul_(2),
        lambda m: m[2].bias.data.add_(1),
        lambda m: m.load_state_dict(model(3).state_dict()),
        lambda m: m.double(),
        lambda m: setattr(m, "1", nn.Tanh()),
    ],
)
def test_a_model_that_was_edited_is_another(memo, edit) -> None:
    features, x = by_index(memo), samples()
    epoch(features, x)
    edit(features.__wrapped__)
    x = x.to(features[0].weight.dtype)
    assert epoch(features, x) == COUNT


def test_equal_samples_have_a_row_at_each_index(memo) -> None:
    features, x = by_index(memo), samples()
    x[50:] = x[:50]
    assert epoch(features, x) <= COUNT
    assert epoch(features, x, 1) == 0


def test_results_of_many_tensors_have_a_file_each(tmp_path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model()

        def forward(self, x):
            y = self.inner(x)
            return {"tokens": y.view(-1, 4, 6).to(torch.bfloat16), "kind": y.argmax(1), "pair": (y.sum(1), y > 0)}

    x = samples()
    for cold in (True, False):
        features = by_index(Memo(tmp_path), Two())
        y = features(x, index=range(COUNT))
        assert features.receipt.hits == (0 if cold else COUNT)
        plain = features.__wrapped__(x)
        assert torch.equal(y["tokens"], plain["tokens"])
        assert torch.equal(y["kind"], plain["kind"])
        assert torch.equal(y["pair"][1], plain["pair"][1])
        assert y["pair"][0].dtype == torch.float32
    assert len(list(tmp_path.glob("arrays/d/train/*/*/rows.raw"))) == 5


def test_what_a_caller_changes_is_his_own(memo) -> None:
    features, x = by_index(memo), samples()
    for _ in range(2):
        features(x, index=range(COUNT)).zero_()
    assert torch.equal(features(x, index=range(COUNT)), features.__wrapped__(x))


def test_calls_without_indices_are_as_ever(memo) -> None:
    features, x = by_index(memo), samples()
    for _ in range(2):
        y = features(x)
    assert features.receipt.hits == COUNT
    assert torch.equal(y, features.__wrapped__(x))


def test_threads_may_ask_for_different_samples(memo) -> None:
    features, x = by_index(memo), samples()
    plain = features.__wrapped__(x)
    wrong = []

    def ask(seed: int) -> None:
        numbers = torch.Generator().manual_seed(seed)
        for _ in range(20):
            at = torch.randint(0, COUNT, (16,), generator=numbers)
            if not torch.equal(features(x[at], index=at), plain[at]):
                wrong.append(at)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.filterwarnings("ignore:could not:memograd.MemogradWarning")
def test_a_thread_may_forget_all_while_others_ask(memo) -> None:
    features, x = by_index(memo), samples()
    expected, stopped, wrong = features.__wrapped__(x), threading.Event(), []

    def forgets() -> None:
        while not stopped.wait(0.002):
            features.cache_clear()

    def asks(seed: int) -> None:
        try:
            for k in range(20):
                at = torch.randint(0, COUNT, (10,), generator=torch.Generator().manual_seed(100 * seed + k))
                torch.testing.assert_close(features(x[at], index=at), expected[at])
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test tells
            wrong.append(error)

    threads = [threading.Thread(target=asks, args=(seed,)) for seed in range(3)]
    forgetting = threading.Thread(target=forgets)
    for thread in (forgetting, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stopped.set()
    forgetting.join()
    assert wrong == []


def test_a_torn_row_is_computed_again(tmp_path) -> None:
    x = samples()
    epoch(by_index(Memo(tmp_path)), x)
    (file,) = tmp_path.glob("arrays/d/train/*/0/rows.raw")
    with file.open("r+b") as raw:
        raw.seek(5 * 24 * 4 + 3)
        raw.write(b"\xff\x00\xff")
    features = by_index(Memo(tmp_path))
    assert epoch(features, x) == 1


def test_a_frame_that_is_damaged_costs_a_computation(tmp_path) -> None:
    x = samples()
    epoch(by_index(Memo(tmp_path)), x)
    (file,) = tmp_path.glob("arrays/d/train/*/frame.safetensors")
    file.write_bytes(file.read_bytes()[:40])
    with pytest.warns(UserWarning, match="could not open the rows by index"):
        epoch(by_index(Memo(tmp_path)), x)


def test_forget_and_clear_take_rows_out(memo) -> None:
    features, x = by_index(memo), samples()
    epoch(features, x)
    assert features.forget(x[:7], index=range(7)) == 7
    assert epoch(features, x) == 7
    features.cache_clear()
    assert epoch(features, x) == COUNT


def test_a_partly_frozen_model_has_its_frozen_part_by_index(memo) -> None:
    plain = model().train()
    plain.add_module("head", nn.Linear(24, 3))
    features, x = by_index(memo, plain, frozen=True), samples()
    for hits in (0, COUNT):
        y = features(x, index=range(COUNT))
        assert features.receipt.hits == hits
        assert torch.equal(y, plain(x))
    assert features.frozen_part.until == "head.weight is trained"
    y.sum().backward()
    assert plain.head.weight.grad is not None


@pytest.mark.parametrize(
    ("how", "kind", "said"),
    [
        ({"dataset": "train"}, ValueError, r"count=len\(train\)"),
        ({"dataset": "../train", "count": 3}, ValueError, "expected a name of letters"),
        ({"dataset": ["x"], "count": 3}, ValueError, "expected a name of letters"),
        ({"count": 3}, TypeError, "without a dataset"),
    ],
)
def test_options_that_do_not_fit_are_refused(how, kind, said) -> None:
    with pytest.raises(kind, match=said):
        Memo().rows(model(), **how)


def test_indices_that_do_not_fit_are_refused() -> None:
    features = by_index(Memo())
    with pytest.raises(IndexError, match=r"index got 100, expected 0 to 99 as of dataset 'd/train'"):
        features(samples(), index=range(1, COUNT + 1))
    with pytest.raises(TypeError, match="expected an integer for each row"):
        features(samples(), index=torch.rand(COUNT))
    with pytest.raises(ValueError, match="index got 3 indices for 100 rows"):
        features(samples(), index=[1, 2, 3])


def test_an_array_in_memory_keeps_within_max_bytes() -> None:
    features = by_index(Memo(), max_bytes=1000)
    with pytest.warns(UserWarning, match="more than max_bytes"):
        y = features(samples(), index=range(COUNT))
    assert torch.equal(y, features.__wrapped__(samples()))


def test_a_module_within_that_is_called_with_other_rows_than_samples_is_known_by_content() -> None:
    class Flattens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base, self.head = nn.Linear(4, 8).requires_grad_(False), nn.Linear(8, 2)

        def forward(self, x):
            h = self.base(x.reshape(-1, 4))
            return self.head(h if h.sum() < 1e9 else -h).view(len(x), -1)

    plain = Flattens()
    features, x = by_index(Memo(), plain, frozen=True), samples()
    for _ in range(2):
        assert torch.allclose(features(x, index=range(COUNT)), plain(x), atol=1e-6)
    assert features.receipt.hits == 4 * COUNT
    with pytest.raises(ValueError, match="index got 3 indices for 100 rows"):
        features(x, index=[1, 2, 3])
