"""A training step within a budget of bytes: plain gradients, the same bits as with more bytes, and no more bytes."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.scan.judge import Trial, assert_no_worse, results
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from memograd import Shared, memo

KINDS = [nn.RNN, nn.LSTM, nn.GRU]
OPTIONS = [
    {},
    {"num_layers": 2},
    {"batch_first": True},
    {"bias": False},
    {"bidirectional": True, "num_layers": 2},
    {"dtype": torch.float64},
]
STEPS, ROWS, INPUTS, HIDDEN = 60, 3, 5, 8


def tight(module, x, **call):
    """Wrap a module with a budget in which it has to run steps again."""
    memo.scan(module, budget="1GiB")(x, **call)
    ample = memo.scan(module, budget="1GiB")
    ample(x, **call)
    least = smallest_of(module, x, **call)
    return memo.scan(module, budget=least + (ample.receipt.within.peak - least) // 3)


def smallest_of(module, x, **call):
    with pytest.raises(ValueError, match="expected at least") as raised:
        memo.scan(module, budget=1)(x, **call)
    return int(str(raised.value).partition("Write budget=")[2].split(" ")[0])


def batch(kind="dense", *, batch_first=False, dtype=torch.float32):
    torch.manual_seed(0)
    x = torch.randn(STEPS, ROWS, INPUTS, dtype=dtype)
    if kind == "prompt":
        x[:40] = x[:40, :1]
    if batch_first:
        x = x.transpose(0, 1).contiguous()
    return pack_padded_sequence(x, [STEPS, 7, 31], batch_first, enforce_sorted=False) if kind == "packed" else x


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", ["dense", "packed", "prompt"])
@pytest.mark.parametrize("cell", KINDS)
def test_results_and_gradients_are_the_plain_ones(cell, kind, options):
    module = cell(INPUTS, HIDDEN, **options)
    trial = Trial(module, batch(kind, batch_first=module.batch_first, dtype=options.get("dtype", torch.float32)))
    ours = tight(copy.deepcopy(module), trial.x) if not module.bidirectional else memo.scan(module, budget="2MiB")
    theirs, shape = results(copy.deepcopy(module), trial)
    found, ours_shape = results(ours, trial)
    assert ours_shape == shape
    assert_no_worse(found, theirs, trial)
    assert ours.receipt.within is not None
    assert ours.receipt.within.ahead > 0 or module.bidirectional


@pytest.mark.parametrize("cell", KINDS)
def test_first_states_and_inputs_have_gradients(cell):
    module = cell(INPUTS, HIDDEN, num_layers=2)
    state = torch.randn(2, ROWS, HIDDEN, requires_grad=True)
    hx = (state, torch.randn(2, ROWS, HIDDEN, requires_grad=True)) if cell is nn.LSTM else state
    trial = Trial(module, batch().requires_grad_(), hx)
    theirs, _ = results(copy.deepcopy(module), trial)
    found, _ = results(tight(copy.deepcopy(module), trial.x), trial)
    assert_no_worse(found, theirs, trial)


def test_a_projected_lstm_keeps_within_its_budget():
    module = nn.LSTM(INPUTS, HIDDEN, proj_size=3, num_layers=2)
    trial = Trial(module, batch())
    theirs, _ = results(copy.deepcopy(module), trial)
    found, _ = results(tight(copy.deepcopy(module), trial.x), trial)
    assert_no_worse(found, theirs, trial)


@pytest.mark.parametrize("cell", KINDS)
def test_gradients_have_the_bits_that_the_same_pieces_have_without_a_budget(cell, monkeypatch):
    from memograd._scan import _within

    module, x = cell(INPUTS, HIDDEN, num_layers=2), batch()
    scan = tight(module, x)
    plans = []

    def noted(*args, made=_within.schedule_of):
        plan, looks_back = made(*args)
        plans.append(plan)
        return plan, looks_back

    monkeypatch.setattr(_within, "schedule_of", noted)
    few = gradients(scan, x)
    assert plans[0].ahead > 0
    lengths = [end - begin for begin, end in plans[0].pieces()]
    monkeypatch.setattr(_within, "schedule_of", lambda *_: (Equal(lengths), True))
    every = gradients(scan, x)
    assert all(torch.equal(a, b) for a, b in zip(few, every, strict=True))


class Equal:
    """A plan that keeps every state: it runs each piece once ahead, whatever that takes."""

    def __init__(self, lengths):
        from memograd._replay._plan import Costs

        ends = [sum(lengths[: k + 1]) for k in range(len(lengths))]
        self.cut = list(zip([0, *ends[:-1]], ends, strict=True))
        self.steps, self.costs, self.peak, self.kept, self.ahead = ends[-1], Costs(0, 0), 0, 0, 0

    def pieces(self):
        return iter(self.cut)

    def actions(self):
        from memograd._replay._plan import Ahead, Back, Drop, Keep, Record, Restore, Turn

        for begin, end in self.cut[:-1]:
            yield from (Ahead(begin, end), Keep(end))
        first = True
        for begin, end in reversed(self.cut):
            if not first:
                yield Restore(begin)
            yield Record(begin, end)
            if first:
                yield Turn()
            if begin:
                yield Drop(begin)
            yield Back(begin, end)
            first = False


def gradients(module, x):
    module.zero_grad(set_to_none=True)
    y, _ = module(x)
    y.square().sum().backward()
    return [y.detach(), *(p.grad for p in module.parameters())]


def test_dropout_draws_again_what_it_drew_and_leaves_the_stream_as_one_pass_does():
    module, x = nn.LSTM(INPUTS, HIDDEN, num_layers=2, dropout=0.5, dtype=torch.float64), batch(dtype=torch.float64)
    scan = tight(module, x)
    torch.manual_seed(7)
    y, _ = scan(x)
    after = torch.get_rng_state()
    y.square().sum().backward()
    assert torch.equal(torch.get_rng_state(), after)
    # The gradient of a weight by finite differences, the same masks being drawn again.
    at, eps = (0, 0), 1e-5
    slope = []
    for sign in (1, -1):
        with torch.no_grad():
            scan.weight_hh_l0[at] += sign * eps
        torch.manual_seed(7)
        slope.append(scan(x)[0].square().sum().item())
        with torch.no_grad():
            scan.weight_hh_l0[at] -= sign * eps
    assert scan.weight_hh_l0.grad[at].item() == pytest.approx((slope[0] - slope[1]) / (2 * eps), rel=1e-4)


def test_a_second_way_back_gives_the_same_bits():
    module, x = nn.LSTM(INPUTS, HIDDEN), batch()
    scan = tight(module, x)
    loss = scan(x)[0].square().sum()
    first = torch.autograd.grad(loss, list(scan.parameters()), retain_graph=True)
    again = torch.autograd.grad(loss, list(scan.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_weight_that_changes_before_backward_is_seen():
    scan = tight(nn.GRU(INPUTS, HIDDEN), batch())
    y, _ = scan(batch())
    with torch.no_grad():
        scan.weight_hh_l0.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("cell", KINDS)
def test_outputs_may_be_changed_before_backward(cell, batch_first):
    module, x = cell(INPUTS, HIDDEN, batch_first=batch_first), batch(batch_first=batch_first)
    ours = tight(copy.deepcopy(module), x)
    y, last = ours(x)
    y.mul_(2)
    (y.sum() + (last[1] if cell is nn.LSTM else last).sum()).backward()
    y, last = module(x)
    ((2 * y).sum() + (last[1] if cell is nn.LSTM else last).sum()).backward()
    for a, b in zip(ours.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell", KINDS)
def test_a_second_way_back_gives_the_same_gradients_again(cell):
    ours = tight(cell(INPUTS, HIDDEN), batch())
    y, _ = ours(batch())
    y.sum().backward(retain_graph=True)
    once = [p.grad.clone() for p in ours.parameters()]
    y.detach().zero_()
    y.sum().backward()
    assert all(torch.equal(p.grad, 2 * grad) for p, grad in zip(ours.parameters(), once, strict=True))


@pytest.mark.parametrize("cell", KINDS)
def test_outputs_are_let_go_after_the_way_back(cell):
    import weakref

    ours = tight(cell(INPUTS, HIDDEN), batch())
    y, _ = ours(batch())
    loss, memory = y.sum(), weakref.ref(y.untyped_storage())
    loss.backward()
    del y
    assert memory() is None
    assert loss.grad_fn is not None


def test_differentiating_twice_raises():
    scan = tight(nn.GRU(INPUTS, HIDDEN), batch())
    y, _ = scan(batch())
    (grad,) = torch.autograd.grad(y.square().sum(), scan.weight_hh_l0, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward is not supported"):
        grad.sum().backward()


def test_a_shared_input_keeps_within_its_budget():
    ids = torch.tensor([[1, 2, 3, 4] * 10, [1, 2, 3, 4] * 9 + [1, 2, 0, 0], [2, 2, 3, 4] * 10])
    embedding, lstm = nn.Embedding(5, INPUTS), nn.LSTM(INPUTS, HIDDEN, batch_first=True)
    shared = Shared.prefixes(ids, torch.tensor([40, 38, 40]))
    plain, within = memo.scan(lstm), memo.scan(lstm, budget=30_000)
    found = []
    for scan in (plain, within):
        embedding.zero_grad()
        scan.zero_grad()
        y, (h, _) = scan(shared.map(embedding))
        (y.values.square().sum() + h.sum()).backward()
        found.append([y.values.detach(), h.detach(), embedding.weight.grad, *(p.grad for p in scan.parameters())])
    assert within.receipt.within.ahead > 0
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_autocast_is_as_it_was_when_steps_are_run_again():
    module, x = nn.LSTM(INPUTS, HIDDEN), batch()
    trial = Trial(module, x, autocast=torch.bfloat16)
    theirs, _ = results(copy.deepcopy(module), trial)
    found, _ = results(memo.scan(copy.deepcopy(module), budget=20_000), trial)
    assert_no_worse(found, theirs, trial)


def test_an_input_without_a_batch_is_one_row():
    module, x = nn.LSTM(INPUTS, HIDDEN), batch()[:, 0]
    y, (h, c) = memo.scan(module, budget="1MiB")(x)
    plain, (plain_h, plain_c) = module(x)
    assert y.shape == plain.shape
    assert h.shape == plain_h.shape
    torch.testing.assert_close((y, h, c), (plain, plain_h, plain_c))


def test_nothing_is_planned_where_nothing_goes_back():
    scan = memo.scan(nn.LSTM(INPUTS, HIDDEN), budget=1)
    with torch.no_grad():
        y, _ = scan(batch())
    assert torch.equal(y, scan.__wrapped__(batch())[0])
    assert scan.receipt.within is None


def test_a_budget_that_is_too_small_says_what_to_write_and_that_is_enough():
    module, x = nn.LSTM(INPUTS, HIDDEN), batch()
    least = smallest_of(module, x)
    scan = memo.scan(module, budget=least)
    scan(x)[0].sum().backward()
    assert scan.receipt.within.peak <= least


@pytest.mark.parametrize("budget", ["lots", 0, -1, 2.5])
def test_a_budget_that_is_no_size_is_refused(budget):
    with pytest.raises((TypeError, ValueError), match=r"memo\.scan.*budget="):
        memo.scan(nn.LSTM(4, 4), budget=budget)


@pytest.mark.parametrize("cell", KINDS)
def test_no_more_bytes_are_taken_than_the_budget_has(cell):
    torch.manual_seed(0)
    module, x, dy = cell(16, 64), torch.randn(200, 4, 16), torch.randn(200, 4, 64)
    least = smallest_of(module, x)
    for budget in (int(1.2 * least), 2 * least, 4 * least):
        scan = memo.scan(module, budget=budget)
        scan(x)  # trials are made at the first call
        taken = peak(scan, x, dy) - dy.nbytes - sum(p.nbytes for p in module.parameters())
        assert taken <= 1.05 * budget, (taken / budget, scan.receipt)


def peak(scan, x, dy):
    """Give the most bytes that a step held at once, by torch's account."""
    scan.zero_grad(set_to_none=True)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        scan(x)[0].backward(dy)
    held = highest = 0
    changes = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    for change in sorted(changes, key=lambda e: e.start_ns()):
        held += change.nbytes()
        highest = max(highest, held)
    return highest
