import inspect

import pytest
import torch
from torch import nn

from memograd._rows._cut import cut
from memograd._rows._follow import Unfollowed


def linear(a: int, b: int, *, trained: bool = False) -> nn.Linear:
    return nn.Linear(a, b).requires_grad_(trained)


def called(model: nn.Module, **bound: object) -> dict[str, object]:
    call = inspect.signature(model.forward).bind(**bound)
    call.apply_defaults()
    return dict(call.arguments)


def halves(model: nn.Module, **bound: object) -> tuple[object, object]:
    """Give what the model gives, and what its two parts give one after the other."""
    bound = called(model, **bound)
    found = cut(model, bound)
    middle = found.prefix(*(bound[name] for name in found.takes))
    crossing = middle if found.crosses != 1 else (middle,)
    return model(**bound), found.rest(*crossing, *(bound[name] for name in found.needs))


X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


def test_a_sequence_is_cut_behind_its_last_frozen_module() -> None:
    model = nn.Sequential(linear(4, 5), nn.ReLU(), linear(5, 3), nn.Tanh(), linear(3, 2, trained=True), nn.ReLU())
    found = cut(model, {"input": X})
    assert found.modules == ("0", "1", "2", "3")
    assert found.until == "4.weight is trained"
    plain, parts = halves(model, input=X)
    assert torch.equal(plain, parts)


def test_nested_sequences_are_cut_within() -> None:
    inner = nn.Sequential(linear(5, 5), linear(5, 3, trained=True))
    model = nn.Sequential(nn.Sequential(linear(4, 5), nn.ReLU()), inner)
    found = cut(model, {"input": X})
    assert found.modules == ("0", "1.0")
    assert found.until == "1.1.weight is trained"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(linear(4, 6), nn.ReLU())
        self.skip = linear(4, 6)
        self.register_buffer("mean", torch.ones(4))
        self.head = linear(6, 2, trained=True)
        self.scale = 3.0

    def forward(self, x, mask=None, *, negated=False):
        y = self.backbone((x - self.mean) * self.scale) + self.skip(x)
        if mask is not None:
            y = y * mask
        return {"logits": self.head(y.view(x.size(0), -1)), "size": x.size(0), "x": -x if negated else x}


def test_code_between_modules_is_followed() -> None:
    for kinds in ({}, {"mask": torch.rand(6, 1)}, {"mask": None, "negated": True}):
        model = Net()
        found = cut(model, called(model, x=X, **kinds))
        assert found.modules == ("backbone", "skip")
        assert found.until == "head.weight is trained"
        plain, parts = halves(model, x=X, **kinds)
        assert torch.equal(plain["logits"], parts["logits"])
        assert torch.equal(plain["x"], parts["x"])
        assert parts["size"] == 6


class Deep(nn.Module):
    """Its blocks are not followed where they need not be."""

    def __init__(self, trained: bool) -> None:
        super().__init__()
        self.first = linear(4, 4)
        self.lora = linear(4, 4, trained=trained)

    def forward(self, x):
        return self.first(x) + self.lora(x) if float(x.sum()) < 1e9 else x


def test_a_module_that_decides_by_its_values_is_one_step_where_it_is_frozen() -> None:
    model = nn.Sequential(Deep(trained=False), linear(4, 2, trained=True))
    assert cut(model, {"input": X}).modules == ("0",)


def test_what_cannot_be_followed_and_is_trained_in_part_ends_the_prefix_and_is_said() -> None:
    model = nn.Sequential(linear(4, 4), Deep(trained=True), linear(4, 2, trained=True))
    found = cut(model, {"input": X})
    assert found.modules == ("0",)
    assert "torch.fx cannot follow Deep.forward" in found.until
    plain, parts = halves(model, input=X)
    assert torch.equal(plain, parts)


class Lora(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.base = linear(4, 4)
        self.a = linear(4, 2, trained=True)
        self.b = linear(2, 4, trained=True)

    def forward(self, x):
        return self.base(x) + self.b(self.a(x))


def test_low_rank_weights_end_the_prefix_and_are_said_by_name() -> None:
    model = nn.Sequential(linear(4, 4), Lora(), linear(4, 2))
    found = cut(model, {"input": X})
    assert found.modules == ("0", "1.base")
    assert found.until == "1.a.weight is trained"
    plain, parts = halves(model, input=X)
    assert torch.equal(plain, parts)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (nn.BatchNorm1d(4).requires_grad_(False), "1: BatchNorm1d normalizes by the batch's statistics in train mode"),
        (nn.Dropout(0.5), "1: Dropout draws for each row in train mode"),
        (nn.Sequential(linear(4, 4), nn.Dropout(0.5)), "1.1: Dropout draws for each row in train mode"),
    ],
)
def test_what_is_no_function_of_its_input_in_train_mode_ends_the_prefix(module, said) -> None:
    model = nn.Sequential(linear(4, 4), module, linear(4, 4), linear(4, 2, trained=True))
    found = cut(model, {"input": X})
    assert found.until.startswith(said)
    assert found.modules[0] == "0"
    assert "2" not in found.modules
    model[1].eval()
    assert "2" in cut(model, {"input": X}).modules


def test_a_hook_ends_the_prefix() -> None:
    model = nn.Sequential(linear(4, 4), linear(4, 4), linear(4, 2, trained=True))
    model[1].register_forward_hook(lambda *_: None)
    found = cut(model, {"input": X})
    assert found.modules == ("0",)
    assert found.until.startswith("1: Linear has hooks")
    model.register_forward_hook(lambda *_: None)
    with pytest.raises(Unfollowed, match="Sequential has hooks"):
        cut(model, {"input": X})


def test_activations_in_place_belong_to_what_they_follow() -> None:
    model = nn.Sequential(linear(4, 4), nn.ReLU(inplace=True), linear(4, 2, trained=True))
    assert cut(model, {"input": X}).modules == ("0", "1")
    plain, parts = halves(model, input=X)
    assert torch.equal(plain, parts)


class Rewrites(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = linear(4, 4)
        self.head = linear(4, 2, trained=True)

    def forward(self, x):
        y = self.first(x)
        z = y.view(-1, 4)
        z.relu_()
        return self.head(y) + self.head(z)


def test_what_writes_into_what_others_read_is_not_cut() -> None:
    with pytest.raises(Unfollowed, match=r"what relu_\(\) gives is not used: it checks something, or writes to it"):
        cut(Rewrites(), {"x": X})


def test_with_nothing_frozen_there_is_no_part_and_the_reason_is_said() -> None:
    with pytest.raises(Unfollowed, match=r"no part of Sequential is frozen: 0\.weight is trained"):
        cut(nn.Sequential(linear(4, 4, trained=True), linear(4, 2)), {"input": X})


def test_parts_hold_the_very_same_weights() -> None:
    model = Net()
    found = cut(model, called(model, x=X))
    assert found.prefix.get_parameter("skip.weight") is model.skip.weight
    assert found.rest.get_parameter("head.weight") is model.head.weight
    assert found.prefix.mean is model.mean


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = linear(4, 4), linear(4, 2, trained=True)

    def forward(self, x, mask):
        y = self.head(self.backbone(x * mask.unsqueeze(-1)))
        return y * mask.unsqueeze(-1).to(y.dtype)


def test_what_is_made_of_arguments_alone_is_made_where_it_is_needed() -> None:
    bound = {"x": X, "mask": torch.ones(6)}
    found = cut(Masked(), bound)
    assert (found.crosses, found.takes, found.needs) == (1, ("x", "mask"), ("mask",))
    plain, parts = halves(Masked(), **bound)
    assert torch.equal(plain, parts)
