"""A loss over a sequence that is read piece by piece: the loss and gradients of the whole, whatever the source."""

from __future__ import annotations

import tempfile

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from memograd import memo

KINDS = [nn.RNN, nn.LSTM, nn.GRU]
STEPS, ROWS, INPUTS, HIDDEN, CLASSES = 300, 3, 5, 8, 4


class Leaky(nn.Module):
    """A cell with weights of its own."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.x, self.h, self.dropout = nn.Linear(INPUTS, HIDDEN), nn.Linear(HIDDEN, HIDDEN), dropout

    def forward(self, x, h):
        h = torch.tanh(self.x(x) + self.h(h))
        return functional.dropout(h, self.dropout, self.training), h


def data(*, batch_first=False):
    torch.manual_seed(0)
    x, target = torch.randn(STEPS, ROWS, INPUTS), torch.randint(0, CLASSES, (STEPS, ROWS))
    return (x.transpose(0, 1).contiguous(), target.transpose(0, 1).contiguous()) if batch_first else (x, target)


def head_and_loss(reduction="mean"):
    torch.manual_seed(1)
    head = nn.Linear(HIDDEN, CLASSES)
    return head, lambda y, t: functional.cross_entropy(head(y).flatten(0, 1), t.flatten(), reduction=reduction)


def smallest_of(call):
    with pytest.raises(ValueError, match="expected at least") as raised:
        call()
    return int(str(raised.value).partition("Write budget=")[2].split(" ")[0])


def tight(module, *call, factor=1.3, **how):
    """Wrap a module with a budget in which it has to run steps again."""
    least = smallest_of(lambda: memo.scan(module, budget=1).loss(*call, **how))
    return memo.scan(module, budget=int(factor * least))


def assert_close(found, expected):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * max(float(b.detach().abs().max()), 1e-3))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"batch_first": True}, {"bias": False}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_are_those_of_the_whole(kind, options, reduction):
    module, (head, fn) = kind(INPUTS, HIDDEN, **options), head_and_loss(reduction)
    x, target = data(batch_first=module.batch_first)
    of = [*module.parameters(), *head.parameters()]
    expected = fn(module(x)[0], target)
    scan = tight(module, x, target, fn, reduction=reduction)
    loss = scan.loss(x, target, fn, reduction=reduction)
    torch.testing.assert_close(loss, expected)
    assert_close(torch.autograd.grad(loss, of), torch.autograd.grad(expected, of))
    assert scan.receipt.within.ahead > 0
    assert scan.receipt.within.peak <= scan.budget


def test_a_cell_has_the_loss_and_gradients_of_a_loop():
    cell, (head, fn), (x, target) = Leaky(), head_and_loss(), data()
    h = torch.randn(ROWS, HIDDEN, requires_grad=True)
    of = [h, *cell.parameters(), *head.parameters()]
    expected = fn(memo.scan(cell)(x, h)[0], target)
    scan = tight(cell, x, target, fn, carry=h)
    loss, last = scan.loss(x, target, fn, carry=h, return_state=True)
    torch.testing.assert_close(loss, expected)
    assert_close(torch.autograd.grad(loss, of), torch.autograd.grad(expected, of))
    assert torch.equal(last, memo.scan(cell)(x, h)[1])
    assert scan.receipt.within.ahead > 0


def test_torchs_cells_begin_with_zeros():
    x, target = data()
    _, fn = head_and_loss()
    cell, whole = nn.GRUCell(INPUTS, HIDDEN), nn.GRU(INPUTS, HIDDEN)
    whole.load_state_dict({f"{key}_l0": value for key, value in cell.state_dict().items()})
    torch.testing.assert_close(memo.scan(cell, budget="1MiB").loss(x, target, fn), fn(whole(x)[0], target))


def sources(x, target, folder):
    np.save(folder / "x.npy", x.numpy())
    np.save(folder / "t.npy", target.numpy())
    mapped = [np.load(folder / name, mmap_mode="r") for name in ("x.npy", "t.npy")]
    return {
        "arrays": (x.numpy(), target.numpy()),
        "mapped from files": tuple(mapped),
        "an iterator": (iter(x.split(37)), (t for t in target.split(11))),
        "a list of arrays": ([c.numpy() for c in x.split(50)], [*target.split(50)]),
        "big-endian": (x.numpy().astype(">f4"), target.numpy().astype(">i8")),
    }


@pytest.mark.parametrize("kind", ["arrays", "mapped from files", "an iterator", "a list of arrays", "big-endian"])
def test_every_source_gives_what_a_tensor_gives(kind, tmp_path):
    module, (head, fn), (x, target) = nn.LSTM(INPUTS, HIDDEN), head_and_loss(), data()
    of = [*module.parameters(), *head.parameters()]
    scan = tight(module, x, target, fn, factor=2)
    expected = scan.loss(x, target, fn)
    grads = torch.autograd.grad(expected, of)
    found = scan.loss(*sources(x, target, tmp_path)[kind], fn)
    torch.testing.assert_close(found, expected)
    assert_close(torch.autograd.grad(found, of), grads)


def test_chunks_of_rows_first_are_joined_along_time():
    module, (_, fn) = nn.GRU(INPUTS, HIDDEN, batch_first=True), head_and_loss()
    x, target = data(batch_first=True)
    scan = memo.scan(module, budget="1MiB")
    found = scan.loss(iter(x.split(70, 1)), iter(target.split(110, 1)), fn)
    torch.testing.assert_close(found, scan.loss(x, target, fn))


@pytest.mark.parametrize("kind", KINDS)
def test_first_states_have_gradients_and_the_last_state_is_given(kind):
    module, (_, fn), (x, target) = kind(INPUTS, HIDDEN, num_layers=2), head_and_loss(), data()
    state = torch.randn(2, ROWS, HIDDEN, requires_grad=True)
    other = torch.randn(2, ROWS, HIDDEN, requires_grad=True)
    hx, of = ((state, other), [state, other]) if kind is nn.LSTM else (state, [state])
    y, last = module(x, hx)
    loss, found = tight(module, x, target, fn, hx=hx).loss(x, target, fn, hx=hx, return_state=True)
    assert_close(torch.autograd.grad(loss, of), torch.autograd.grad(fn(y, target), of))
    assert_close(found if kind is nn.LSTM else [found], last if kind is nn.LSTM else [last])
    assert not any(t.requires_grad for t in (found if kind is nn.LSTM else [found]))


def test_a_loss_without_targets_takes_outputs_alone():
    module, (x, _) = nn.LSTM(INPUTS, HIDDEN), data()
    loss = memo.scan(module, budget="1MiB").loss(x, None, lambda y: y.square().mean())
    torch.testing.assert_close(loss, module(x)[0].square().mean())


def test_what_comes_back_to_the_loss_scales_the_gradients():
    module, (_, fn), (x, target) = nn.GRU(INPUTS, HIDDEN), head_and_loss(), data()
    scan, of = memo.scan(module, budget="1MiB"), [*module.parameters()]
    once = torch.autograd.grad(scan.loss(x, target, fn), of)
    assert_close(torch.autograd.grad(3 * scan.loss(x, target, fn), of), [3 * g for g in once])


def test_a_window_is_truncated_backpropagation():
    module, (head, fn), (x, target) = nn.LSTM(INPUTS, HIDDEN), head_and_loss("sum"), data()
    of, state, total = [*module.parameters(), *head.parameters()], None, 0
    for a, t in zip(x.split(70), target.split(70), strict=True):
        y, state = module(a, state)
        total, state = total + fn(y, t), tuple(s.detach() for s in state)
    for budget in (None, "128KiB"):
        scan = memo.scan(module, budget=budget, window=70)
        loss = scan.loss(x, target, fn, reduction="sum")
        torch.testing.assert_close(loss, total)
        assert_close(torch.autograd.grad(loss, of), torch.autograd.grad(total, of, retain_graph=True))
        assert "gradients are cut every 70 steps" in scan.receipt.reason


def test_without_grad_the_loss_alone_is_taken_and_nothing_is_kept():
    module, (_, fn), (x, target) = nn.LSTM(INPUTS, HIDDEN), head_and_loss(), data()
    scan = tight(module, x, target, fn)
    with torch.no_grad():
        loss = scan.loss(x, target, fn)
    torch.testing.assert_close(loss, fn(module(x)[0], target))
    assert not loss.requires_grad


def test_dropout_of_steps_is_replayed_and_that_of_the_loss_is_its_own():
    torch.manual_seed(0)
    cell, target = Leaky(dropout=0.5), torch.zeros(STEPS, ROWS, HIDDEN)
    x, h = torch.randn(STEPS, ROWS, INPUTS), torch.zeros(ROWS, HIDDEN)
    fn, of = functional.mse_loss, [*cell.parameters()]
    torch.manual_seed(5)
    expected = fn(memo.scan(cell)(x, h)[0], target)
    grads = torch.autograd.grad(expected, of)
    scan = tight(cell, x, target, fn, carry=h, factor=2)
    torch.manual_seed(5)
    loss = scan.loss(x, target, fn, carry=h)
    torch.testing.assert_close(loss, expected)
    assert_close(torch.autograd.grad(loss, of), grads)
    torch.manual_seed(5)
    noisy = scan.loss(x, target, lambda y, t: fn(functional.dropout(y, 0.5), t), carry=h)
    assert not torch.equal(noisy, loss)


def test_draws_of_a_cell_that_begin_later_are_replayed():
    cell, (x, _) = nn.Linear(INPUTS + HIDDEN, HIDDEN), data()

    def noisy(x, h):
        h = torch.tanh(cell(torch.cat((x, h), 1)))
        return (h * torch.rand(()) if x.sum() > 4 else h), h

    h, of, found = torch.zeros(ROWS, HIDDEN), [*cell.parameters()], []
    for budget in (None, "48KiB"):
        torch.manual_seed(4)
        loss = memo.scan(noisy, budget=budget).loss(x, None, lambda y: y.square().mean(), carry=h)
        found.append([loss, *torch.autograd.grad(loss, of), torch.rand(3)])
    assert_close(found[1], found[0])


@pytest.mark.parametrize("window", [None, 50])
def test_steps_and_loss_that_draw_leave_the_streams_where_the_steps_leave_them(window):
    cell, (x, _) = Leaky(dropout=0.5), data()
    h = torch.zeros(ROWS, HIDDEN)
    torch.manual_seed(2)
    memo.scan(cell)(x, h)
    after = torch.rand(3)
    torch.manual_seed(2)
    memo.scan(cell, budget="256KiB", window=window).loss(
        x, None, lambda y: functional.dropout(y, 0.5).square().mean(), carry=h
    )
    assert torch.equal(torch.rand(3), after)


def test_a_loss_that_draws_draws_anew_in_each_call():
    module, (x, _) = nn.LSTM(INPUTS, HIDDEN), data()
    scan = memo.scan(module, budget="256KiB")
    a, b = (scan.loss(x, None, lambda y: functional.dropout(y, 0.5).square().mean()) for _ in range(2))
    assert not torch.equal(a, b)


def test_a_head_that_changes_its_statistics_is_refused():
    module, (x, _), norm = nn.LSTM(INPUTS, HIDDEN), data(), nn.BatchNorm1d(HIDDEN)
    scan = memo.scan(module, budget="256KiB")
    with pytest.raises(ValueError, match=r"changes a tensor .* Write head\.eval\(\)"):
        scan.loss(x, None, lambda y: norm(y.flatten(0, 1)).square().mean())
    assert norm.num_batches_tracked == 0
    norm.eval()
    scan.loss(x, None, lambda y: norm(y.flatten(0, 1)).square().mean())


def test_a_step_that_takes_more_than_the_budget_is_not_tried_sixteen_at_a_time():
    from torch.profiler import ProfilerActivity, profile

    module, head, x = nn.LSTM(4, 16), nn.Linear(16, 2_000), torch.randn(400, 8, 4)
    target = torch.randint(0, 2_000, (400, 8))

    def fn(y, t):
        return functional.cross_entropy(head(y).flatten(0, 1), t.flatten())

    scan = memo.scan(module, budget=int(1.5 * smallest_of(lambda: memo.scan(module, budget=1).loss(x, target, fn))))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        scan.loss(x, target, fn).backward()
    held = most = 0
    for event in sorted(found.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    given = 2 * sum(p.nbytes for p in (*module.parameters(), *head.parameters()))  # gradients, and what is scaled by 1
    assert most - given <= 1.05 * scan.budget


def test_inference_mode_takes_the_loss_alone():
    module, (_, fn), (x, target) = nn.LSTM(INPUTS, HIDDEN), head_and_loss(), data()
    with torch.inference_mode():
        loss = memo.scan(module, budget="64KiB").loss(x, target, fn)
    torch.testing.assert_close(loss, fn(module(x)[0], target).detach())


@pytest.mark.parametrize("where", ["at the end", "at the beginning"])
def test_targets_that_are_left_out_are_noticed_wherever_they_stand(where):
    module, (head, _), (x, target) = nn.LSTM(INPUTS, HIDDEN), head_and_loss(), data()
    target[299 if where == "at the beginning" else 290 :, :2] = -100
    if where == "at the beginning":
        target = target.flip(0)

    def fn(y, t):
        return functional.cross_entropy(head(y).flatten(0, 1), t.flatten())

    with pytest.raises(ValueError, match="let fn give the sum over steps"):
        memo.scan(module, budget="160KiB").loss(x, target, fn)


@pytest.mark.parametrize("wrong", ["sum said to be mean", "mean said to be sum"])
def test_a_reduction_that_is_not_the_functions_is_refused(wrong):
    given, said = ("sum", "mean") if wrong.startswith("sum") else ("mean", "sum")
    module, (_, fn), (x, target) = nn.LSTM(INPUTS, HIDDEN), head_and_loss(given), data()
    with pytest.raises(ValueError, match=f"got reduction='{said}' .* Write reduction='{given}'"):
        memo.scan(module, budget="1MiB").loss(x, target, fn, reduction=said)


def test_a_head_that_only_later_steps_read_raises_before_its_gradient_is_lost():
    module, (x, target), late = nn.LSTM(INPUTS, HIDDEN), data(), torch.ones(HIDDEN, requires_grad=True)
    seen = []

    def fn(y, t):
        seen.append(len(y))
        return (y * (late if len(seen) > 8 else 1)).mean() + 0 * t.float().mean()

    with pytest.raises(RuntimeError, match="Let the loss function read it at each step"):
        memo.scan(module, budget="64KiB").loss(x, target, fn)


REFUSED = {
    "chunks with a gradient": (
        lambda x, t: ([x[:50].requires_grad_(), x[50:]], t, lambda y, _: y.mean()),
        ValueError,
        "got a chunk from xs that requires grad",
    ),
    "no function": (lambda x, t: (x, t, None), TypeError, "got NoneType for fn"),
    "a loss that is no number": (lambda x, t: (x, t, lambda y, _: y), TypeError, "expected one number"),
    "targets of another length": (
        lambda x, t: (x, t[1:], lambda y, _: y.mean()),
        ValueError,
        "299 steps for inputs",
    ),
    "inputs of another size": (lambda x, t: (x[..., 1:], t, lambda y, _: y.mean()), RuntimeError, "input.size"),
    "a number": (lambda _, t: (3, t, lambda y, _: y.mean()), TypeError, "got int for xs"),
    "text": (lambda _, t: ("x.npy", t, lambda y, _: y.mean()), TypeError, "mmap_mode='r'"),
    "no chunks": (lambda _, t: (iter(()), t, lambda y, _: y.mean()), ValueError, "got no chunks from xs"),
    "chunks of two sizes": (
        lambda x, t: (iter([x[:5], x[5:, :2]]), t, lambda y, _: y.mean()),
        ValueError,
        "chunks that differ in length alone",
    ),
    "inputs with a gradient": (lambda x, t: (x.requires_grad_(), t, lambda y, _: y.mean()), ValueError, "require grad"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_fit_is_refused_with_what_to_write(kind):
    given, error, message = REFUSED[kind]
    with pytest.raises(error, match=message):
        memo.scan(nn.LSTM(INPUTS, HIDDEN), budget="1MiB").loss(*given(*data()))


def test_a_bidirectional_module_and_an_unknown_reduction_are_refused():
    x, target = data()
    with pytest.raises(ValueError, match="bidirectional"):
        memo.scan(nn.LSTM(INPUTS, HIDDEN, bidirectional=True), budget="1MiB").loss(x, target, lambda y, _: y.mean())
    with pytest.raises(ValueError, match="reduction='max'; expected 'mean' or 'sum'"):
        memo.scan(nn.LSTM(INPUTS, HIDDEN)).loss(x, target, lambda y, _: y.mean(), reduction="max")


def test_an_interrupt_leaves_no_files_no_gradients_and_the_streams_where_they_were(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    module, (x, target) = Leaky(dropout=0.5), data()
    calls = []

    def fn(y, _):
        calls.append(1)
        if len(calls) > 9:
            raise KeyboardInterrupt
        return y.mean()

    before = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        memo.scan(module, budget="24KiB").loss(iter(x.split(50)), target, fn, carry=torch.zeros(ROWS, HIDDEN))
    assert torch.equal(torch.get_rng_state(), before)
    assert [*tmp_path.iterdir()] == []
    assert all(p.grad is None for p in module.parameters())
    assert [*module.x._parameters] == ["weight", "bias"]
    assert isinstance(module.x.weight, nn.Parameter)


def test_a_bar_shows_where_it_is_asked_for(capsys):
    module, (x, target) = nn.LSTM(INPUTS, HIDDEN), data()
    memo.scan(module, budget="64KiB").loss(x, target, lambda y, _: y.mean(), progress=True)
    assert "scan.loss" in capsys.readouterr().err
    memo.scan(module, budget="64KiB").loss(x, target, lambda y, _: y.mean())
    assert capsys.readouterr().err == ""
