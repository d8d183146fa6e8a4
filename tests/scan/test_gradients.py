"""Autograd sees what it would see of the plain module: per row, in parts, twice, accumulated, frozen, in place."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from tests.scan.judge import Trial, assert_fair, named
from torch import nn
from torch.utils.checkpoint import checkpoint

from memograd import Shared, memo

CELLS = [nn.LSTM, nn.GRU, nn.RNN]
EVERY = {
    "one layer": {},
    "three layers": {"num_layers": 3},
    "both directions": {"bidirectional": True, "num_layers": 2},
    "no bias": {"bias": False},
}


def few(rows=5, steps=6, size=3, dtype=torch.float32):
    """Give (B, T, E) rows of two letters, the first two of them equal."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, size, generator=g, dtype=dtype)[torch.randint(0, 2, (rows, steps), generator=g)]
    x[1:2] = x[0]
    return x


def pair(cell, **options):
    """Give a plain module, and a memoized one with weights of its own."""
    torch.manual_seed(0)
    plain = cell(3, 4, batch_first=True, **options)
    return plain, memo.scan(copy.deepcopy(plain), engine="levels")


def gradients(module):
    return [p.grad for p in module.parameters()]


def assert_all_close(ours, theirs):
    for mine, yours in zip(ours, theirs, strict=True):
        assert (mine is None) == (yours is None)
        if mine is not None:
            torch.testing.assert_close(mine, yours, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_rows_with_equal_bits_have_input_gradients_of_their_own(cell):
    plain, mine = pair(cell)
    ours, theirs = few().requires_grad_(), few().requires_grad_()
    weight = torch.randn(5, 6, 4)
    (mine(ours)[0] * weight).sum().backward()
    (plain(theirs)[0] * weight).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert not torch.allclose(ours.grad[0], ours.grad[1])


@pytest.mark.parametrize("cell", CELLS)
def test_a_learned_first_state_gets_the_sum_over_all_rows(cell):
    plain, mine = pair(cell)
    found = []
    for module in (mine, plain):
        learned = [torch.full((1, 1, 4), 0.3, requires_grad=True) for _ in range(2)]
        states = [s.expand(-1, 5, -1) for s in learned]
        y, _ = module(few(), tuple(states) if cell is nn.LSTM else states[0])
        y.square().sum().backward()
        found.append([s.grad for s in learned] + gradients(module))
    assert_all_close(*found)


@pytest.mark.parametrize("given", ["x", "h", "c", "h and c", "all"])
@pytest.mark.parametrize("options", EVERY)
def test_each_input_may_require_grad_alone(given, options):
    torch.manual_seed(0)
    module = nn.LSTM(3, 4, batch_first=True, **EVERY[options])
    depth = module.num_layers * (2 if module.bidirectional else 1)
    h, c = (torch.randn(depth, 1, 4).repeat(1, 5, 1) for _ in range(2))
    x = few()
    for name, value in {"x": x, "h": h, "c": c}.items():
        value.requires_grad_(given == "all" or name in given.split(" and "))
    assert_fair(Trial(module, x, (h, c)))


@pytest.mark.parametrize("on", [("y",), ("h",), ("c",), ("h", "c"), ("y", "c")])
@pytest.mark.parametrize("options", EVERY)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_a_loss_may_depend_on_some_of_the_outputs(on, options, requires_grad):
    """A gradient that the plain module leaves at None is None, one that it fills with zeros is zeros."""
    torch.manual_seed(0)
    module = nn.LSTM(3, 4, batch_first=True, **EVERY[options])
    trial = Trial(module, few().requires_grad_(requires_grad), on=on)
    assert_fair(trial)
    plain, mine = copy.deepcopy(module), memo.scan(copy.deepcopy(module), engine="levels")
    for each in (plain, mine):
        outputs = named(each(few()))
        sum(outputs[name].sum() for name in on).backward()
    assert [g is None for g in gradients(mine)] == [g is None for g in gradients(plain)]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_one_row_of_the_output_alone_may_be_used(cell, requires_grad):
    plain, mine = pair(cell)
    found = []
    for module in (mine, plain):
        x = few().requires_grad_(requires_grad)
        module(x)[0][1, 3].sum().backward()
        found.append([x.grad, *gradients(module)])
    assert_all_close(*found)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_backward_twice_gives_twice_the_gradient(cell, requires_grad):
    _, mine = pair(cell)
    x = few().requires_grad_(requires_grad)
    loss = mine(x)[0].square().sum()
    loss.backward(retain_graph=True)
    once = [g.clone() for g in [*gradients(mine), x.grad] if g is not None]
    loss.backward()
    for first, both in zip(once, [g for g in [*gradients(mine), x.grad] if g is not None], strict=True):
        torch.testing.assert_close(both, 2 * first)


@pytest.mark.parametrize("cell", CELLS)
def test_a_second_backward_without_retain_graph_is_refused_as_autograd_does(cell):
    _, mine = pair(cell)
    loss = mine(few())[0].sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time"):
        loss.backward()


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_accumulate_over_calls(cell):
    plain, mine = pair(cell)
    for module in (plain, mine):
        module(few())[0].square().sum().backward()
        module(few(rows=3))[0].square().sum().backward()
    assert_all_close(gradients(mine), gradients(plain))


@pytest.mark.parametrize("cell", CELLS)
def test_a_loss_of_several_calls_gets_the_gradient_of_each(cell):
    """Truncated backpropagation with the states handed on, and one call's output as the next call's input."""
    plain, mine = pair(cell)
    for module in (plain, mine):
        y, state = module(few())
        z, _ = module(few(), state)
        again, _ = module(y[..., :3])
        (y.sum() + z.square().sum() + again.square().sum()).backward()
    assert_all_close(gradients(mine), gradients(plain))


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_do_not_share_their_memory(cell):
    _, mine = pair(cell)
    found = torch.autograd.grad(mine(few())[0].sum(), list(mine.parameters()))
    for one, other in itertools.combinations(found, 2):
        assert one.untyped_storage().data_ptr() != other.untyped_storage().data_ptr()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("cell", CELLS)
def test_without_grad_the_outputs_are_the_plain_ones_and_require_none(cell, mode):
    plain, mine = pair(cell)
    with mode():
        ours, theirs = named(mine(few())), named(plain(few()))
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name])
        assert not ours[name].requires_grad
        assert ours[name].is_inference() == theirs[name].is_inference()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("cell", CELLS)
def test_training_goes_on_after_a_call_without_grad(cell, mode):
    """Memory that was lent in inference mode is not handed to a graph that cannot take it."""
    plain, mine = pair(cell)
    for module in (plain, mine):
        with mode():
            module(few(200, 20))
        module(few(200, 20))[0].square().mean().backward()
    assert_all_close(gradients(mine), gradients(plain))


@pytest.mark.parametrize("cell", CELLS)
def test_without_grad_nothing_is_kept_for_a_backward_pass(cell, monkeypatch):
    from memograd._scan import _layer

    kept = []
    whole = _layer.forward
    monkeypatch.setattr(_layer, "forward", lambda *args, keep: kept.append(keep) or whole(*args, keep=keep))
    _, mine = pair(cell)
    with torch.no_grad():
        mine(few())
    assert kept == [False]


@pytest.mark.parametrize("frozen", ["all", "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"])
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_frozen_weights_get_no_gradient_and_the_rest_do(cell, requires_grad, frozen):
    torch.manual_seed(0)
    module = cell(3, 4, batch_first=True)
    for name, p in module.named_parameters():
        p.requires_grad_(frozen not in ("all", name))
    assert_fair(Trial(module, few().requires_grad_(requires_grad)))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_create_graph_alone_gives_the_same_gradients(cell, requires_grad):
    plain, mine = pair(cell)
    found = []
    for module in (mine, plain):
        x = few().requires_grad_(requires_grad)
        leaves = [*module.parameters(), *([x] if requires_grad else [])]
        found.append(torch.autograd.grad(module(x)[0].square().sum(), leaves, create_graph=True))
    assert_all_close([g.detach() for g in found[0]], [g.detach() for g in found[1]])
    assert all(g.requires_grad for g in found[0])


@pytest.mark.parametrize("steps", [6, 30])
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_double_backward_is_refused_and_never_taken_for_zero(cell, requires_grad, steps):
    """A gradient penalty must not pass for a constant; 30 equal steps of a prompt take the fused kernel's way."""
    _, mine = pair(cell)
    x = torch.cat([few(rows=1, steps=steps).expand(5, -1, -1), few()], 1).requires_grad_(requires_grad)
    for leaf in [mine.weight_hh_l0, *([x] if requires_grad else [])]:
        y, _ = mine(x)
        (g,) = torch.autograd.grad(y.square().sum(), leaf, create_graph=True)
        with pytest.raises(RuntimeError, match=r"double backward is not supported.* plain module.*scan.__wrapped__"):
            (y.sum() + g.square().sum()).backward()


@pytest.mark.parametrize("cell", CELLS)
def test_the_advice_on_double_backward_works(cell):
    plain, mine = pair(cell)
    found = []
    for module in (mine.__wrapped__, plain):
        y, _ = module(few())
        (g,) = torch.autograd.grad(y.square().sum(), module.weight_hh_l0, create_graph=True)
        g.square().sum().backward()
        found.append([p.grad for p in module.parameters()])
    assert_all_close(*found)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_outputs_changed_in_place_never_give_a_wrong_gradient(cell, requires_grad):
    """The plain LSTM of a CPU refuses this; what may not be changed must say so, what may must be right."""
    plain, mine = pair(cell)
    (plain(few())[0] * 2 + 1).square().sum().backward()
    y, _ = mine(few().requires_grad_(requires_grad))
    y.mul_(2).add_(1)
    y.square().sum().backward()
    assert_all_close(gradients(mine), gradients(plain))


def test_a_shared_output_changed_in_place_is_noticed():
    _, mine = pair(nn.LSTM)
    s, _ = mine(few(), shared=True)
    s.values.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        s.values.sum().backward()


def change_weight(module, x, name):
    y, _ = module(x)
    with torch.no_grad():
        getattr(module, name).add_(1)
    y.sum().backward()


@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"])
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_a_weight_changed_in_place_before_backward_is_noticed_or_does_not_matter(cell, requires_grad, name):
    """Where the plain module lets it pass, it passes; where it is noticed, autograd's own words say so."""
    plain, mine = pair(cell)
    reference = copy.deepcopy(plain)
    reference(few())[0].sum().backward()
    try:
        change_weight(plain, few().requires_grad_(requires_grad), name)
        passes = True
    except RuntimeError:
        passes = False
    try:
        change_weight(mine, few().requires_grad_(requires_grad), name)
    except RuntimeError as error:
        assert not passes and "modified by an inplace operation" in str(error)  # noqa: PT017, PT018
    else:
        assert_all_close(gradients(mine), gradients(reference))


@pytest.mark.parametrize("cell", CELLS)
def test_the_recurrent_weight_changed_in_place_before_backward_is_always_noticed(cell):
    _, mine = pair(cell)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        change_weight(mine, few(), "weight_hh_l0")


@pytest.mark.parametrize("cell", CELLS)
def test_an_input_changed_in_place_before_backward_is_noticed(cell):
    _, mine = pair(cell)
    x = few()
    y, _ = mine(x)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_checkpointing_gives_the_same_gradients(cell, reentrant):
    plain, mine = pair(cell)
    found = []
    for module in (mine, plain):
        x = few().requires_grad_()
        y, _ = checkpoint(module, x, use_reentrant=reentrant)
        y.square().sum().backward()
        found.append([x.grad, *gradients(module)])
    assert_all_close(*found)


def test_saved_tensors_may_be_kept_elsewhere():
    plain, mine = pair(nn.LSTM)
    for module in (plain, mine):
        with torch.autograd.graph.save_on_cpu():
            y, _ = module(few())
        y.square().sum().backward()
    assert_all_close(gradients(mine), gradients(plain))


def test_anomaly_detection_finds_nothing_wrong():
    _, mine = pair(nn.LSTM)
    with pytest.warns(UserWarning, match="Anomaly Detection"), torch.autograd.detect_anomaly():
        mine(few().requires_grad_())[0].square().sum().backward()


@pytest.mark.parametrize("cell", CELLS)
def test_a_graph_that_is_dropped_gives_its_memory_back(cell):
    """What is kept for backward goes with the graph, not with the module."""
    from memograd._scan import _buffers

    _buffers.release_buffers()
    _, mine = pair(cell)
    for _ in range(3):
        loss = mine(few(300, 10))[0].sum()
    del loss
    assert len(_buffers._idle) <= 4


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_in_half_precision_inputs_keep_their_type(cell):
    for dtype in (torch.bfloat16, torch.float16):
        torch.manual_seed(0)
        mine = memo.scan(cell(3, 4, batch_first=True, dtype=dtype), engine="levels")
        x = few().to(dtype).requires_grad_()
        mine(x)[0].sum().backward()
        assert {x.grad.dtype, *(g.dtype for g in gradients(mine))} == {dtype}


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("steps", [6, 30])
@pytest.mark.parametrize("cell", CELLS)
def test_features_made_in_inference_mode_may_be_trained_on(cell, steps, batch_first):
    """A frozen backbone's features, say; the plain module takes them, batch first at least."""
    torch.manual_seed(0)
    plain = cell(3, 4, batch_first=batch_first)
    mine = memo.scan(copy.deepcopy(plain), engine="levels")
    with torch.inference_mode():
        x = few(steps=steps) if batch_first else few(steps=steps).transpose(0, 1).contiguous()
        ids = torch.zeros(3, 12, dtype=torch.long)
        s = Shared.prefixes(ids).map(lambda v: torch.ones(len(v), 3))
    mine(x)[0].sum().backward()
    plain(x.clone())[0].sum().backward()
    assert_all_close(gradients(mine), gradients(plain))
    mine(s)[0].values.sum().backward()


@pytest.mark.xfail(reason="the backward pass has no batching rule", strict=True)
@pytest.mark.parametrize("cell", CELLS)
def test_many_backward_passes_may_be_taken_at_once(cell):
    """Vectorized jacobians stand on this: it maps over the backward pass."""
    plain, mine = pair(cell)
    found = []
    for module in (mine, plain):
        y, _ = module(few())
        incoming = torch.randn(3, *y.shape, generator=torch.Generator().manual_seed(0))
        found.append(torch.autograd.grad(y, list(module.parameters()), incoming, is_grads_batched=True))
    assert_all_close(*found)


# Dropout between layers: what the plain call draws independently is drawn as the plain call draws it.


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_dropout_draws_what_the_plain_call_draws(cell, batch_first, bidirectional, packed, requires_grad):
    """From the same seed: the same values, the same gradients, and the random stream is left at the same place."""
    torch.manual_seed(0)
    plain = cell(3, 4, num_layers=3, dropout=0.4, batch_first=batch_first, bidirectional=bidirectional)
    found = []
    for module in (memo.scan(copy.deepcopy(plain), engine="levels"), plain):
        x = few() if batch_first else few().transpose(0, 1)
        if packed:
            lengths = torch.tensor([6, 6, 2, 4, 4])
            x = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=batch_first, enforce_sorted=False)
        elif requires_grad:
            x = x.detach().requires_grad_()
        torch.manual_seed(1)
        outputs = named(module(x))
        sum(o.square().sum() for o in outputs.values()).backward()
        grad = [] if packed else [x.grad]
        found.append([*(o.detach() for o in outputs.values()), *grad, *gradients(module), torch.rand(3)])
    assert_all_close(*found)


@pytest.mark.parametrize("cell", CELLS)
def test_in_eval_mode_dropout_does_nothing_and_all_layers_share(cell):
    torch.manual_seed(0)
    plain = cell(3, 4, num_layers=2, dropout=0.4, batch_first=True).eval()
    mine = memo.scan(plain, engine="levels")
    torch.testing.assert_close(mine(few())[0], plain(few())[0])
    assert_fair(Trial(plain, few().requires_grad_()))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_dropout_of_nothing_and_of_everything(share):
    torch.manual_seed(0)
    assert_fair(Trial(nn.LSTM(3, 4, num_layers=2, dropout=share, batch_first=True), few()))
