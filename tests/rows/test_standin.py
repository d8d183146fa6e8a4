"""Models whose code cannot be followed: they run as they are, with their frozen modules by rows."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, ViTConfig, ViTForImageClassification

from memograd import Memo

ROWS = 12


def remembered(model, **how):
    return Memo().rows(model, frozen=True, always=True, **how)


def bert() -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    config.problem_type = "single_label_classification"  # else the first call sets it, and the model is another
    model = BertForSequenceClassification(config).eval()
    model.bert.requires_grad_(False)
    return model


def texts(seed: int = 0) -> dict[str, torch.Tensor]:
    numbers = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 50, (ROWS, 9), generator=numbers)
    mask = (torch.arange(9) < torch.randint(3, 10, (ROWS, 1), generator=numbers)).long()
    return {"input_ids": ids * mask, "attention_mask": mask, "labels": torch.arange(ROWS) % 2}


def train(model, called, epochs=3):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    losses, given = [], texts()
    for epoch in range(epochs):
        for at in torch.randperm(ROWS, generator=torch.Generator().manual_seed(epoch)).split(4):
            loss = called(**{name: value[at] for name, value in given.items()}).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def test_a_classifier_of_transformers_is_fine_tuned_on_what_its_encoder_gave_once():
    plain, model = bert(), bert()
    features = remembered(model)
    torch.testing.assert_close(train(model, features), train(plain, plain))
    stats = features.stats()
    assert (stats.rows, stats.computed, stats.hits) == (3 * ROWS, ROWS, 2 * ROWS)
    assert features.frozen_part.modules == ("bert",)
    assert "takes any arguments" in features.frozen_part.until
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_what_it_gives_is_of_the_models_own_class():
    model = bert()
    assert type(remembered(model)(**texts())) is type(model(**texts()))


def test_an_encoder_in_train_mode_draws_as_in_the_plain_model_and_that_is_said():
    plain, model = bert().train(), bert().train()
    features = remembered(model)
    torch.manual_seed(1)
    with pytest.warns(UserWarning, match=r"embeddings.dropout \(Dropout\) draws for each row in train mode"):
        ours = train(model, features)
    torch.manual_seed(1)
    assert ours == train(plain, plain)


def test_images_are_rows():
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64, image_size=16, patch_size=4
    )
    model = ViTForImageClassification(config).eval()
    model.vit.requires_grad_(False)
    features, x = remembered(model), torch.randn(10, 3, 16, 16)
    for hits in (0, 10):
        torch.testing.assert_close(features(x).logits, model(x).logits)
        assert features.receipt.hits == hits


def test_rows_are_filled_and_forgotten_and_the_rest_is_not_run():
    class Counts(nn.Linear):
        calls = 0

        def forward(self, x):
            Counts.calls += 1
            return super().forward(x)

    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.base, self.head = nn.Linear(8, 8).requires_grad_(False), Counts(8, 2)

        def forward(self, x):
            y = self.base(x)
            return self.head(y if y.sum() > 0 else -y)

    features, x = remembered(Branches()), torch.randn(20, 8)
    Counts.calls = 0
    assert features.fill(x, batch_size=10).computed == 20
    calls = Counts.calls  # of trials
    features(x)
    assert features.receipt.hits == 20
    assert Counts.calls == calls + 1
    assert features.forget(x[:5]) == 5
    features(x)
    assert features.receipt.computed == 5


class Keeps(nn.Module):
    """Branches on its values, and keeps: an attribute, a counter, a list, a buffer."""

    def __init__(self):
        super().__init__()
        self.base, self.head = nn.Sequential(nn.Linear(8, 8)).requires_grad_(False), nn.Linear(8, 2)
        self.norm = nn.BatchNorm1d(8)
        self.register_buffer("seen", torch.zeros(()))
        self.calls, self.log = 0, []

    def forward(self, x):
        h = self.base(x)
        self.calls += 1
        self.log.append(len(x))
        self.seen += len(x)
        if h.abs().mean() > 0:
            self.last = h
        return self.head(self.norm(h))


def test_what_it_keeps_it_keeps_as_the_plain_model():
    plain = Keeps()
    model = copy.deepcopy(plain)
    features = remembered(model)
    for seed in range(6):
        x = torch.randn(16, 8, generator=torch.Generator().manual_seed(seed % 3))
        torch.testing.assert_close(features(x), plain(x))
    assert (model.calls, model.log) == (plain.calls, plain.log)
    torch.testing.assert_close(model.seen, plain.seen)
    torch.testing.assert_close(model.norm.running_mean, plain.norm.running_mean)
    torch.testing.assert_close(model.last, plain.last)
    assert type(model.base) is nn.Sequential
    assert features.stats().hits > 0


def test_hooks_of_the_model_are_called():
    model = Keeps()
    seen = []
    model.register_forward_hook(lambda module, given, y: seen.append((type(module), len(y))))
    features = remembered(model)
    features(torch.randn(16, 8))
    assert seen == [(Keeps, 16)]
    assert features.frozen_part.modules == ("base",)


def test_a_frozen_module_behind_one_that_is_trained_goes_on_giving_gradients():
    class Behind(nn.Module):
        def __init__(self):
            super().__init__()
            self.base, self.adapter, self.other = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
            self.base.requires_grad_(False)
            self.other.requires_grad_(False)

        def forward(self, x):
            h = self.base(x)
            y = self.other(self.adapter(h))
            return y if y.sum() > 0 else 2 * y

    plain = Behind()
    model = copy.deepcopy(plain)
    features, x = remembered(model), torch.randn(16, 8)
    for _ in range(2):
        for each in (features, plain):
            each.zero_grad()
            each(x).square().sum().backward()
        torch.testing.assert_close(model.adapter.weight.grad, plain.adapter.weight.grad)
    assert features.stats().hits == 16


def test_threads_have_stand_ins_of_their_own():
    plain = Keeps().eval()
    features, wrong = remembered(copy.deepcopy(plain)), []
    x = torch.randn(64, 8)
    expected = plain(x)

    def ask(seed):
        at = torch.randperm(64, generator=torch.Generator().manual_seed(seed))[:10]
        for _ in range(20):
            if not torch.allclose(features(x[at]), expected[at], atol=1e-5):
                wrong.append(seed)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("edit", [lambda m: m.base[0].weight.mul_(2), lambda m: m.base[0].bias.data.add_(1)])
def test_weights_that_change_are_seen(edit):
    plain = Keeps()
    features, x = remembered(copy.deepcopy(plain)), torch.randn(16, 8)
    features(x)
    for model in (plain, features):
        with torch.no_grad():
            edit(model)
    torch.testing.assert_close(features(x), plain(x))


def test_what_others_change_during_a_call_stays_and_what_the_call_changes_is_given_back():
    class Changes(nn.Module):
        def __init__(self):
            super().__init__()
            self.base, self.head = nn.Linear(8, 8).requires_grad_(False), nn.Linear(8, 2)
            self.old, self.rate, self.meanwhile = 1, 1.0, lambda: None

        def forward(self, x):
            h = self.base(x)
            self.meanwhile()
            if x.sum() < 1e9 and "old" in vars(self):
                del self.old
                self.more, self.extra = 2, nn.Linear(2, 2)
            return self.head(h)

    model = Changes()
    features = remembered(model)
    model.meanwhile = lambda: setattr(model, "rate", 3.0)
    features(torch.randn(4, 8))
    assert model.rate == 3.0
    assert not hasattr(model, "old")
    assert model.more == 2
    assert type(model.extra) is nn.Linear
    assert type(model.base) is nn.Linear
