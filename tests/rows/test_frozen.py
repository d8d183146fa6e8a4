import copy
import random
from collections import OrderedDict
from functools import partial

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from memograd import Memo

LIMIT = 1.5


def model(seed: int = 0, *, middle: nn.Module | None = None) -> nn.Sequential:
    torch.manual_seed(seed)
    parts = [("first", nn.Linear(16, 32)), ("act", nn.ReLU()), ("second", nn.Linear(32, 32))]
    made = nn.Sequential(OrderedDict(parts)).requires_grad_(False)
    if middle is not None:
        made.add_module("middle", middle)
    made.add_module("head", nn.Sequential(nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 4)))
    return made


def data(rows: int = 96) -> tuple[torch.Tensor, torch.Tensor]:
    numbers = torch.Generator().manual_seed(1)
    return torch.randn(rows, 16, generator=numbers), torch.randint(0, 4, (rows,), generator=numbers)


def train(called: nn.Module, epochs: int = 3, x: torch.Tensor | None = None) -> list[float]:
    """Train in shuffled batches, as any script does."""
    rows, labels = data()
    rows = rows if x is None else x
    optimizer = torch.optim.SGD([p for p in called.parameters() if p.requires_grad], 0.1)
    losses = []
    torch.manual_seed(7)
    for _ in range(epochs):
        for at in torch.randperm(len(rows)).split(32):
            loss = nn.functional.cross_entropy(called(rows[at]), labels[at])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


remembered = partial(Memo().rows, frozen=True, always=True)


def test_a_script_that_trains_a_head_has_the_weights_that_it_has_without() -> None:
    plain, other = model(), model()
    by_rows = remembered(other)
    assert train(by_rows) == train(plain)
    for ours, theirs in zip(by_rows.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_from_the_second_epoch_on_no_row_goes_through_the_frozen_part() -> None:
    by_rows = remembered(model())
    train(by_rows, epochs=3)
    stats = by_rows.stats()
    assert (stats.rows, stats.computed, stats.hits) == (3 * 96, 96, 2 * 96)


def test_weights_are_the_same_whether_the_store_was_cold_or_warm() -> None:
    memo = Memo()
    first = memo.rows(model(), frozen=True, always=True)
    start = copy.deepcopy(first.state_dict())
    train(first)
    cold = copy.deepcopy(first.state_dict())
    first.load_state_dict(start)
    train(first)
    assert first.receipt.hits == 32
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, cold[name])


def test_what_is_frozen_and_what_ends_it_is_said() -> None:
    by_rows = remembered(model())
    by_rows(data()[0])
    assert by_rows.frozen_part == (("first", "act", "second"), "head.2.weight is trained")
    assert by_rows.receipt.reason.startswith("first to second are frozen, then head.2.weight is trained")


def test_where_all_is_frozen_all_is_remembered() -> None:
    plain = model().requires_grad_(False).eval()
    by_rows = remembered(plain)
    x, _ = data()
    first = by_rows(x)
    assert torch.equal(by_rows(x), first)
    assert (by_rows.receipt.hits, by_rows.frozen_part) == (96, None)


def test_where_nothing_is_frozen_calls_are_plain_and_that_is_said() -> None:
    by_rows = remembered(nn.Sequential(nn.Linear(16, 4)))
    with pytest.warns(UserWarning, match=r"no part of Sequential is frozen: 0\.weight is trained"):
        y = by_rows(data()[0])
    assert torch.equal(y, by_rows.__wrapped__(data()[0]))
    assert by_rows.receipt.engine == "plain"


@pytest.mark.parametrize(
    ("middle", "said"),
    [
        (nn.BatchNorm1d(32), "middle: BatchNorm1d normalizes by the batch's statistics in train mode"),
        (nn.Sequential(nn.Linear(32, 32), nn.Dropout(0.5)), r"middle\.1: Dropout draws for each row in train mode"),
    ],
)
def test_what_is_frozen_in_train_mode_only_in_name_is_said_once_and_run(middle, said) -> None:
    plain, other = (model(middle=copy.deepcopy(middle).requires_grad_(False)) for _ in range(2))
    by_rows = remembered(other)
    with pytest.warns(UserWarning, match=said):
        losses = train(by_rows)
    assert losses == train(plain)
    for ours, theirs in zip(by_rows.buffers(), plain.buffers(), strict=True):
        assert torch.equal(ours, theirs)
    other.middle.eval()
    by_rows(data()[0])
    assert "middle" in by_rows.frozen_part.modules or "middle.1" in by_rows.frozen_part.modules


class LowRank(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(32, 32).requires_grad_(False)
        self.a, self.b = nn.Linear(32, 2, bias=False), nn.Linear(2, 32, bias=False)

    def forward(self, x):
        return self.base(x) + self.b(self.a(x))


def test_low_rank_weights_within_are_trained_as_without() -> None:
    low = LowRank()
    plain, other = model(middle=copy.deepcopy(low)), model(middle=copy.deepcopy(low))
    by_rows = remembered(other)
    assert train(by_rows) == train(plain)
    assert by_rows.frozen_part == (("first", "act", "second", "middle.base"), "middle.a.weight is trained")


class Noise(nn.Module):
    def forward(self, x):
        return x + 0.1 * torch.randn_like(x)


def test_random_augmentation_in_front_is_found_and_the_draws_are_those_of_the_plain_script() -> None:
    plain = nn.Sequential(Noise(), model())
    by_rows = remembered(nn.Sequential(Noise(), model()))
    with pytest.warns(UserWarning, match="0: Noise draws random numbers"):
        losses = train(by_rows)
    assert losses == train(plain)
    assert by_rows.receipt.engine == "plain"


def test_random_modules_behind_the_frozen_part_draw_what_they_drew() -> None:
    plain, other = model(middle=Noise()), model(middle=Noise())
    by_rows = remembered(other)
    assert train(by_rows) == train(plain)
    assert by_rows.receipt.hits == 32
    assert by_rows.frozen_part.until.startswith("middle: Noise draws random numbers")


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = nn.Linear(16, 8).requires_grad_(False), nn.Linear(8, 4)
        self.scale = 2.0

    def shift(self) -> float:
        return LIMIT

    def forward(self, x, mask=None, *, doubled: bool = False):
        y = self.backbone(x) * self.scale + self.shift()
        y = y if mask is None else y * mask
        return self.head(2 * y if doubled else y)


def _same(by_rows: nn.Module, *args: object, **kwargs: object) -> None:
    for _ in range(2):
        assert torch.equal(by_rows(*args, **kwargs), by_rows.__wrapped__(*args, **kwargs))


def test_what_the_code_between_modules_reads_counts(monkeypatch) -> None:
    by_rows = remembered(Scaled())
    x, _ = data()
    _same(by_rows, x)
    assert by_rows.receipt.hits == 96
    by_rows.scale = 3.0
    _same(by_rows, x)
    monkeypatch.setitem(globals(), "LIMIT", 2.5)
    _same(by_rows, x)
    monkeypatch.setattr(Scaled, "shift", lambda self: -1.0)
    _same(by_rows, x)
    _same(by_rows, x, torch.ones(96, 1) / 2)
    _same(by_rows, x, mask=torch.ones(96, 1) / 3, doubled=True)
    _same(by_rows, x, None, doubled=True)


@pytest.mark.parametrize(
    "edit",
    [
        lambda m: m.first.weight.mul_(2),
        lambda m: m.second.bias.data.add_(1),
        lambda m: m.load_state_dict(model(3).state_dict()),
        lambda m: setattr(m, "act", nn.Tanh()),
        lambda m: setattr(m, "first", nn.Linear(16, 32).requires_grad_(False)),
        lambda m: m.second.requires_grad_(True),
        lambda m: m.first.register_forward_hook(lambda *a: a[-1] * 2),
        lambda m: m.to(torch.float64),
        lambda m: m.head.eval(),
    ],
)
@pytest.mark.filterwarnings("ignore:.*computed plainly|.*are remembered up to")
def test_edits_of_the_model_are_seen(edit) -> None:
    by_rows = remembered(model())
    x, _ = data()
    for epoch in range(3):
        if epoch == 2:
            with torch.no_grad():
                edit(by_rows.__wrapped__)
        x = x.to(by_rows.second.weight.dtype)
        torch.manual_seed(5)
        y = by_rows(x)
        torch.manual_seed(5)
        assert torch.equal(y, by_rows.__wrapped__(x))
        y.sum().backward()


def test_a_model_that_decides_by_the_type_of_what_it_gets_is_not_cut_wrongly() -> None:
    class Asks(Scaled):
        def forward(self, x):
            return self.head(self.backbone(x) if isinstance(x, torch.Tensor) and type(x) is torch.Tensor else x[:, :8])

    by_rows = remembered(Asks())
    _same(by_rows, data()[0])
    assert (by_rows.frozen_part.modules, by_rows.receipt.hits) == (("backbone",), 96)


def test_an_input_that_requires_grad_gets_its_gradient() -> None:
    by_rows = remembered(Scaled())
    x, other = (data()[0].requires_grad_() for _ in range(2))
    with pytest.warns(UserWarning, match="rows require grad"):
        by_rows(x).sum().backward()
    by_rows.__wrapped__(other).sum().backward()
    assert torch.equal(x.grad, other.grad)


def test_statistics_behind_the_frozen_part_move_once_a_call() -> None:
    plain, other = model(middle=nn.BatchNorm1d(32)), model(middle=nn.BatchNorm1d(32))
    by_rows = remembered(other)
    assert train(by_rows) == train(plain)
    assert torch.equal(other.middle.running_mean, plain.middle.running_mean)
    assert other.middle.num_batches_tracked == 9


def test_frozen_needs_a_module() -> None:
    with pytest.raises(TypeError, match=r"write memo\.rows\(model, frozen=True\)"):
        Memo().rows(lambda x: x, frozen=True)


class Between(nn.Module):
    """Does something between a frozen and a trained module that torch.fx does not see."""

    def __init__(self, how):
        super().__init__()
        self.how, self.base, self.head = how, nn.Linear(8, 8).requires_grad_(False), nn.Linear(8, 4)

    def forward(self, x):
        if self.how == "writes":
            x.mul_(2)
        h = self.base(x)
        if self.how == "draws" and random.random() < 0.5:
            h = h * 0
        if self.how == "asks for grad" and torch.is_grad_enabled():
            h = h * 2
        if self.how == "keeps":
            self.kept = h
        if self.how == "enters no_grad":
            with torch.no_grad():
                return self.head(h)
        return self.head(h)


@pytest.mark.parametrize("how", ["writes", "draws", "asks for grad", "keeps", "enters no_grad"])
@pytest.mark.filterwarnings("ignore::memograd.MemogradWarning")
def test_what_cannot_be_followed_between_modules_runs_as_the_plain_model(how):
    plain = Between(how)
    model = copy.deepcopy(plain)
    features, found = Memo().rows(model, frozen=True), []
    for run in (plain, features):
        random.seed(3)
        inputs = [torch.ones(16, 8) for _ in range(5)]
        found.append([*(run(x) for x in inputs), *inputs])
        with torch.no_grad():
            found[-1].append(run(torch.ones(16, 8)))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)
        assert a.requires_grad == b.requires_grad
    assert features.stats().hits > 0
    assert features.frozen_part.modules == ("base",)
    assert isinstance(getattr(model, "kept", X0), torch.Tensor)


X0 = torch.zeros(())
KEPT: list[object] = []


class Buffers(nn.Module):
    """Reads a buffer between its modules: as a number, as a condition; or writes to one."""

    def __init__(self, how):
        super().__init__()
        self.how, self.base, self.head = how, nn.Linear(8, 8).requires_grad_(False), nn.Linear(8, 4)
        self.register_buffer("scale", torch.tensor(2.0))
        self.made = torch.tensor(3.0)

    def forward(self, x):
        h = self.base(x)
        if self.how == "number":
            h = h * self.scale.item()
        if self.how == "condition":
            h = h * 3 if self.scale > 2.5 else h
        if self.how == "writes":
            self.scale.add_(1.0)
        if self.how == "tensor that is no buffer":
            h = h * self.made
        if self.how == "asserts":
            torch._assert((h < 1e3).all(), "too great")
        if self.how == "keeps elsewhere":
            KEPT.append(h)
        return self.head(h * self.scale)


@pytest.mark.parametrize(
    "how", ["read", "number", "condition", "writes", "tensor that is no buffer", "asserts", "keeps elsewhere"]
)
@pytest.mark.filterwarnings("ignore::memograd.MemogradWarning")
def test_buffers_and_what_is_beside_them_between_modules_count_as_in_the_plain_model(how):
    KEPT.clear()
    plain = Buffers(how)
    model = copy.deepcopy(plain)
    features, x = remembered(model), data()[0][:, :8]
    for number in (2.0, 2.0, 3.0, 3.0, 1.0):
        for each in (plain, model):
            each.scale.fill_(number)
            each.made.fill_(number)
        assert torch.equal(features(x), plain(x))
        assert torch.equal(model.scale, plain.scale)
    assert all(isinstance(each, torch.Tensor) for each in KEPT)
    assert len(KEPT) == (10 if how == "keeps elsewhere" else 0)
    if how == "asserts":
        with pytest.raises(AssertionError, match="too great"):
            features(1e6 * x)


class Writes(nn.Module):
    """A trained module that writes, seldom, into what it is given."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, h):
        if h[0, 0] > 0.5:
            h.mul_(2)
        return self.linear(h)


class Beside(nn.Module):
    def __init__(self, live, *, view):
        super().__init__()
        self.a, self.b = (nn.Linear(8, 8).requires_grad_(False) for _ in range(2))
        self.live, self.view = live, view

    def forward(self, x):
        h = self.a(x)
        seen = h.view(-1, 2, 4) if self.view else h
        y = self.live(h)
        return y + self.b(h) + seen.flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize("view", [True, False])
@pytest.mark.filterwarnings("ignore::memograd.MemogradWarning")
def test_what_a_trained_module_may_write_to_is_read_after_it(view):
    plain = Beside(Writes(), view=view)
    features = remembered(copy.deepcopy(plain))
    for seed in range(10):
        x = torch.randn(8, 8, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(features(x), plain(x))


def test_what_only_reads_beside_the_frozen_part_leaves_it_frozen():
    features = remembered(Beside(nn.Linear(8, 8), view=False))
    features(data()[0][:, :8])
    assert features.frozen_part.modules == ("a", "b")


class Sentences(nn.Module):
    def __init__(self):
        super().__init__()
        config = BertConfig(
            vocab_size=32, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
        )
        self.encoder = BertModel(config, add_pooling_layer=False).eval().requires_grad_(False)
        self.head = nn.Linear(32, 4)

    def forward(self, input_ids, attention_mask):
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        rows, places, _ = hidden.shape
        mask = attention_mask.view(rows, places, 1)
        return self.head((hidden * mask).sum(1) / mask.sum(1))


def test_a_pretrained_encoder_behind_which_shapes_are_read_is_cut():
    model = Sentences()
    features, ids = remembered(model), torch.randint(0, 32, (20, 7))
    mask = torch.ones(20, 7, dtype=torch.int64)
    for _ in range(2):
        assert torch.equal(features(ids, mask), model(ids, mask))
    assert (features.receipt.hits, features.frozen_part.modules) == (20, ("encoder",))
