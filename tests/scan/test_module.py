"""To the rest of PyTorch a memoized module is a recurrent module with the wrapped module's own weights."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from tests.scan.pairs import CELLS, assert_same, few, module, shared
from torch import nn

from memograd import Memo, memo


@pytest.mark.parametrize("cell", CELLS)
def test_it_is_an_instance_of_what_it_wraps(cell):
    assert isinstance(shared(module(cell)), cell)


def test_repr_is_that_of_a_module():
    options = {"num_layers": 2, "bidirectional": True}
    assert repr(shared(module(**options))) == "Scan" + repr(module(**options))


def test_the_parameters_are_the_very_same():
    plain = module(num_layers=2, bidirectional=True)
    mine = shared(plain)
    assert [name for name, _ in mine.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert all(p is q for p, q in zip(mine.parameters(), plain.parameters(), strict=True))
    assert list(mine.state_dict()) == list(plain.state_dict())


def test_inside_a_model_it_adds_no_keys():
    model = nn.Module()
    model.rnn = module()
    before = list(model.state_dict())
    model.rnn = shared(model.rnn)
    assert list(model.state_dict()) == before
    assert [type(m).__name__ for m in model.modules()] == ["Module", "ScanLSTM"]


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("side", ["memoized", "plain"])
def test_weights_loaded_into_either_are_those_of_both(side, assign):
    plain = module()
    mine = shared(plain)
    mine(few())
    other = nn.LSTM(3, 4, batch_first=True)
    (mine if side == "memoized" else plain).load_state_dict(other.state_dict(), assign=assign)
    assert_same(mine, other)
    assert_same(plain, other)
    assert all(p is q for p, q in zip(mine.parameters(), plain.parameters(), strict=True))


@pytest.mark.parametrize("side", ["memoized", "plain"])
def test_a_weight_set_on_either_is_that_of_both(side):
    plain = module()
    mine = shared(plain)
    other = nn.LSTM(3, 4, batch_first=True)
    for name, p in other.named_parameters():
        setattr(mine if side == "memoized" else plain, name, p)
    assert_same(mine, other)
    assert_same(plain, other)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("cell", CELLS)
def test_five_steps_of_training_give_the_losses_of_the_plain_run(cell, optimizer):
    losses = []
    for wrap in (shared, lambda m: m):
        trained = wrap(module(cell))
        descent = optimizer(trained.parameters(), lr=0.01)
        run = []
        for _ in range(5):
            descent.zero_grad()
            loss = trained(few())[0].square().mean()
            loss.backward()
            descent.step()
            run.append(loss.item())
        losses.append(run)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0][-1] < losses[0][0]


@pytest.mark.parametrize("cell", CELLS)
def test_the_wrapped_module_trains_along(cell):
    plain = module(cell)
    mine = shared(plain)
    mine(few())[0].sum().backward()
    with torch.no_grad():
        for p in plain.parameters():
            p.sub_(p.grad, alpha=0.1)
    assert_same(mine, plain)


def test_to_converts_both():
    plain = module()
    mine = shared(plain).to(torch.float64)
    assert {p.dtype for p in plain.parameters()} == {torch.float64}
    assert_same(mine, plain, few().double())
    plain.to(torch.float32)
    assert_same(mine, plain)


def test_to_empty_on_meta_and_back():
    mine = shared(module()).to("meta")
    assert mine(few().to("meta"))[0].device.type == "meta"
    mine = mine.to_empty(device="cpu")
    mine.load_state_dict(module().state_dict())
    assert_same(mine, module())


@pytest.mark.parametrize("cell", CELLS)
def test_a_deep_copy_has_weights_of_its_own(cell):
    mine = shared(module(cell))
    mine(few())
    other = copy.deepcopy(mine)
    assert_same(other, mine)
    assert not {p.data_ptr() for p in other.parameters()} & {p.data_ptr() for p in mine.parameters()}
    assert all(p is q for p, q in zip(other.parameters(), other.__wrapped__.parameters(), strict=True))
    expected = mine(few())[0].detach()
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    torch.testing.assert_close(mine(few())[0], expected)
    assert other(few())[0].count_nonzero() == 0
    assert other.engine == "levels"


@pytest.mark.parametrize("cell", CELLS)
def test_pickled_it_comes_back_with_its_weights(cell):
    mine = shared(module(cell, num_layers=2))
    other = pickle.loads(pickle.dumps(mine))  # noqa: S301 - our own
    assert_same(other, mine)
    other(few())[0].sum().backward()
    assert all(p is q for p, q in zip(other.parameters(), other.__wrapped__.parameters(), strict=True))
    assert mine.weight_hh_l0.grad is None


def test_torch_save_and_load_keep_it():
    mine = shared(module())
    file = io.BytesIO()
    torch.save(mine, file)
    file.seek(0)
    assert_same(torch.load(file, weights_only=False), mine)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("engine", ["levels", "plain"])
def test_hooks_fire_once(before, engine):
    seen = []
    plain = module()

    def register(on):
        on.register_forward_pre_hook(lambda *_: seen.append("before forward"))
        on.register_forward_hook(lambda *_: seen.append("after forward"))
        on.register_full_backward_hook(lambda *_: seen.append("backward"))
        on.register_full_backward_pre_hook(lambda *_: seen.append("before backward"))
        on.weight_hh_l0.register_hook(lambda _: seen.append("gradient"))
        on.weight_hh_l0.register_post_accumulate_grad_hook(lambda _: seen.append("accumulated"))

    if before:
        register(plain)
    mine = memo.scan(plain, engine=engine)
    if not before:
        register(mine)
    mine(few().requires_grad_())[0].sum().backward()
    expected = ["before forward", "after forward", "before backward", "gradient", "accumulated", "backward"]
    assert sorted(seen) == sorted(expected)


def test_a_hook_may_change_the_input_and_the_output():
    mine = shared(module())
    mine.register_forward_pre_hook(lambda _, args: (args[0] * 2,))
    mine.register_forward_hook(lambda _, __, out: (out[0] + 1, out[1]))
    torch.testing.assert_close(mine(few())[0], module()(few() * 2)[0] + 1)


def test_a_gradient_hook_sees_the_whole_gradient():
    """A prompt takes another way than its answers, and each way has its share of one weight's gradient."""
    x = torch.cat([few(rows=1, steps=20).expand(5, -1, -1), few()], 1)
    seen = []
    mine, plain = shared(module()), module()
    mine.weight_hh_l0.register_hook(seen.append)
    mine(x)[0].square().sum().backward()
    plain(x)[0].square().sum().backward()
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], plain.weight_hh_l0.grad, rtol=1e-4, atol=1e-5)


def test_the_modes_are_its_own():
    mine = shared(module(num_layers=2, dropout=0.5))
    assert mine.training
    assert not mine.eval().training
    model = nn.ModuleList([mine])
    assert model.train()[0].training


def test_wrapped_twice_is_wrapped_once():
    plain = module()
    once = shared(plain)
    twice = memo.scan(once, engine="plain")
    assert twice.__wrapped__ is plain
    assert (once.engine, twice.engine) == ("levels", "plain")
    assert_same(twice, once)


def test_of_any_memo_it_is_the_same():
    assert_same(Memo().scan(module(), engine="levels"), module())


def test_a_subclass_that_keeps_the_forward_is_taken():
    class Named(nn.LSTM):
        name = "mine"

    torch.manual_seed(0)
    mine = shared(Named(3, 4, batch_first=True))
    assert_same(mine, module())
    assert mine.receipt.engine == "levels"


def test_the_arguments_have_the_plain_names():
    mine = shared(module())
    state = (torch.randn(1, 5, 4), torch.randn(1, 5, 4))
    torch.testing.assert_close(mine(input=few(), hx=state)[0], module()(input=few(), hx=state)[0])
