"""Any cell along a sequence, plain and within a budget: plain values and gradients, whatever the cell reads."""

from __future__ import annotations

import copy
import pickle
import threading
from functools import partial
from operator import is_

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from memograd import memo

STEPS, ROWS, INPUTS, HIDDEN = 60, 3, 5, 8


class Elman(nn.Module):
    """A cell with weights of its own."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.x, self.h, self.dropout = nn.Linear(INPUTS, HIDDEN), nn.Linear(HIDDEN, HIDDEN), dropout

    def forward(self, x, h):
        h = torch.tanh(self.x(x) + self.h(h))
        return functional.dropout(h, self.dropout, self.training) * 2, h


def loop(cell, xs, carry):
    ys = []
    for x in xs.unbind(0):
        y, carry = cell(x, carry)
        ys.append(y)
    return torch.stack(ys), carry


def inputs():
    torch.manual_seed(0)
    x = torch.randn(STEPS, ROWS, INPUTS, requires_grad=True)
    return x, torch.randn(ROWS, HIDDEN, requires_grad=True)


def smallest_of(cell, *call, **how):
    with pytest.raises(ValueError, match="expected at least") as raised:
        memo.scan(cell, budget=1, **how)(*call)
    return int(str(raised.value).partition("Write budget=")[2].split(" ")[0])


def tight(cell, *call, **how):
    """Wrap a cell with a budget in which it has to run steps again."""
    ample = memo.scan(cell, budget="1GiB", **how)
    ample(*call)
    least = smallest_of(cell, *call, **how)
    return memo.scan(cell, budget=least + (ample.receipt.within.peak - least) // 3, **how)


def gradients(result, of):
    ys, carry = result
    leaves = torch.utils._pytree.tree_leaves((ys, carry))
    return torch.autograd.grad(sum(t.square().sum() for t in leaves), of, retain_graph=True)


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()) + 1e-7)


def test_outputs_and_carry_have_the_bits_of_a_loop():
    (x, h), cell = inputs(), Elman()
    expected = loop(cell, x, h)
    for scan in (memo.scan(cell), tight(cell, x, h)):
        ys, carry = scan(x, h)
        assert torch.equal(ys, expected[0])
        assert torch.equal(carry, expected[1])


def test_gradients_reach_inputs_carry_and_weights():
    (x, h), cell = inputs(), Elman()
    of = [x, h, *cell.parameters()]
    expected = gradients(loop(cell, x, h), of)
    scan = tight(cell, x, h)
    assert_same(gradients(scan(x, h), of), expected)
    assert scan.receipt.within.ahead > 0
    assert scan.receipt.within.pieces > 1


def test_an_ample_budget_is_one_piece_and_gives_the_loops_bits():
    (x, h), cell = inputs(), Elman()
    of = [x, h, *cell.parameters()]
    scan = memo.scan(cell, budget="1GiB")
    assert all(map(torch.equal, gradients(scan(x, h), of), gradients(loop(cell, x, h), of)))
    assert scan.receipt.exact == "bits"
    assert scan.receipt.within.pieces == 1


def test_gradients_have_the_bits_that_the_same_pieces_have_without_a_budget():
    (x, h), cell = inputs(), Elman()
    of = [x, h, *cell.parameters()]
    scan = tight(cell, x, h)
    found = gradients(scan(x, h), of)
    from memograd._scan._cell import _module

    schedules = []

    def noted(*args, made=_module.planned, **how):
        schedules.append(made(*args, **how))
        return schedules[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_module, "planned", noted)
        scan(x, h)
    sums, coming, dx = [None] * 4, None, []
    states, carry = [], h.detach()
    cuts = list(schedules[0].pieces())
    for begin, end in cuts:
        states.append(carry)
        with torch.no_grad():
            _, carry = loop(cell, x[begin:end], carry)
    for (begin, end), state in zip(reversed(cuts), reversed(states), strict=True):
        piece, first = x[begin:end].detach().requires_grad_(), state.clone().requires_grad_()
        ys, last = loop(cell, piece, first)
        back = 2 * last.detach() if coming is None else coming
        got = torch.autograd.grad([ys, last], [piece, first, *cell.parameters()], [2 * ys.detach(), back])
        dx.insert(0, got[0])
        coming = got[1]
        sums = [g if s is None else s + g for s, g in zip(sums, got[2:], strict=True)]
    assert all(map(torch.equal, found, [torch.cat(dx), coming, *sums]))


def test_tensors_of_a_closure_are_read_whether_leaves_or_not():
    x, h = inputs()
    w, v = torch.randn(INPUTS, HIDDEN, requires_grad=True), torch.randn(HIDDEN, HIDDEN, requires_grad=True)
    made = 0.1 * v

    def cell(x, h):
        h = torch.tanh(x @ w + torch.cat([h]) @ made)
        return h, h

    expected = gradients(loop(cell, x, h), [x, h, w, v])
    scan = tight(cell, x, h)
    assert_same(gradients(scan(x, h), [x, h, w, v]), expected)
    assert scan.receipt.engine == "pieces"


@pytest.mark.parametrize("way", ["closure", "partial", "method", "list"])
def test_modules_are_found_where_functions_name_them(way):
    (x, h), module = inputs(), Elman()

    class Holder:
        def __init__(self):
            self.module = module

        def cell(self, x, h):
            return self.module(x, h)

    several = [module]
    cells = {
        "closure": lambda x, h: module(x, h),
        "partial": partial(lambda m, x, h: m(x, h), module),
        "method": Holder().cell,
        "list": lambda x, h: several[0](x, h),
    }
    of = [x, h, *module.parameters()]
    scan = tight(cells[way], x, h)
    assert_same(gradients(scan(x, h), of), gradients(loop(module, x, h), of))
    assert scan.receipt.engine == "pieces"


def test_a_recurrent_module_inside_a_cell_has_gradients():
    x, _ = inputs()
    rnn = nn.LSTM(INPUTS, HIDDEN)

    def cell(x, carry):
        y, carry = rnn(x[None], carry)
        return y[0], carry

    first = (torch.zeros(1, ROWS, HIDDEN), torch.zeros(1, ROWS, HIDDEN))
    scan = tight(cell, x, first)
    of = [x, *rnn.parameters()]
    assert_same(gradients(scan(x, first), of), gradients(rnn(x, first), of))
    assert scan.receipt.engine == "pieces"


def test_weights_that_a_later_step_chooses_have_gradients():
    x, h = inputs()
    layers = nn.ModuleList(nn.Linear(HIDDEN, HIDDEN) for _ in range(3))

    class Chosen(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = layers

        def forward(self, given, h):
            x, at = given
            h = torch.tanh(self.layers[int(at) % 3](h) + x.sum(-1, keepdim=True))
            return h, h

    at = torch.arange(STEPS)
    cell, of = Chosen(), [x, h, *layers.parameters()]
    ys, carry = [], h
    for k in range(STEPS):
        y, carry = cell((x[k], at[k]), carry)
        ys.append(y)
    scan = tight(cell, (x, at), h)
    assert_same(gradients(scan((x, at), h), of), gradients((torch.stack(ys), carry), of))


def test_a_tensor_that_only_a_later_step_reads_ends_in_a_plain_run_that_is_said():
    x, h = inputs()
    w, late = torch.ones(INPUTS, HIDDEN, requires_grad=True), torch.ones(HIDDEN, requires_grad=True)

    def cell(given, h):
        x, at = given
        h = torch.tanh(x @ w + h + (late if at >= STEPS - 2 else 0))
        return h, h

    scan = memo.scan(cell, budget=1 << 30)
    with pytest.warns(UserWarning, match="requires grad and that its first step did not read"):
        result = scan((x, torch.arange(STEPS)), h)
    assert scan.receipt.engine == "plain"
    assert all(g.abs().sum() > 0 for g in gradients(result, [x, h, w, late]))


def test_a_tensor_that_only_a_step_in_the_middle_reads_raises_before_a_gradient_is_lost():
    x, h = inputs()
    w, late = torch.ones(INPUTS, HIDDEN, requires_grad=True), torch.ones(HIDDEN, requires_grad=True)

    def cell(given, h):
        x, at = given
        h = torch.tanh(x @ w + h + (late if at == 20 else 0))
        return h, h

    xs = x, torch.arange(STEPS)
    ample = memo.scan(lambda g, h: (torch.tanh(g[0] @ w + h),) * 2, budget="1GiB")
    ample(xs, h)
    result = memo.scan(cell, budget=ample.receipt.within.peak // 2)(xs, h)
    with pytest.raises(RuntimeError, match="Let the first step read it, too"):
        gradients(result, [w, late])


NESTED = {
    "a tuple": (lambda h: (h, h + 1), lambda c: c[0] + c[1]),
    "a dictionary": (lambda h: {"a": h, "b": [h]}, lambda c: c["a"] * c["b"][0]),
    "with a number": (lambda h: (h, 3, None), lambda c: c[0] * c[1]),
}


@pytest.mark.parametrize("kind", NESTED)
def test_inputs_outputs_and_carry_may_be_nested(kind):
    x, h = inputs()
    nest, used = NESTED[kind]
    linear = nn.Linear(INPUTS, HIDDEN)

    def cell(xs, carry):
        h = torch.tanh(linear(xs["x"]) + used(carry))
        return {"y": (h, h.sum(-1))}, nest(h)

    ys, carry = [], nest(h)
    for step in x.unbind(0):
        y, carry = cell({"x": step}, carry)
        ys.append(y["y"][0])
    of = [x, h, *linear.parameters()]
    scan = tight(cell, {"x": x}, nest(h))
    found, last = scan({"x": x}, nest(h))
    assert torch.equal(found["y"][0], torch.stack(ys))
    assert type(last) is type(carry)
    expected = torch.autograd.grad(torch.stack(ys).square().sum(), of, retain_graph=True)
    assert_same(torch.autograd.grad(found["y"][0].square().sum(), of), expected)


def test_batch_first_swaps_the_first_two_dimensions():
    (x, h), cell = inputs(), Elman()
    rows = x.transpose(0, 1)
    scan = tight(cell, rows, h, batch_first=True)
    ys, _ = scan(rows, h)
    assert torch.equal(ys, loop(cell, x, h)[0].transpose(0, 1))
    assert torch.equal(memo.scan(cell, batch_first=True)(rows, h)[0], ys)


def test_a_cell_without_inputs_runs_for_a_length():
    w = torch.full((), 0.9, requires_grad=True)
    scan = memo.scan(lambda _, h: (h, h * w), budget="1GiB")
    ys, last = scan(None, torch.ones(4), length=10)
    assert ys.shape == (10, 4)
    torch.testing.assert_close(last, torch.full((4,), 0.9**10), check_stride=False)
    (grad,) = torch.autograd.grad(last.sum(), [w])
    torch.testing.assert_close(grad, torch.tensor(4 * 10 * 0.9**9))


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
def test_torchs_cells_give_what_the_whole_module_gives(kind):
    x, _ = inputs()
    cell = kind(INPUTS, HIDDEN)
    whole = getattr(nn, kind.__name__.removesuffix("Cell"))(INPUTS, HIDDEN)
    whole.load_state_dict({f"{key}_l0": value for key, value in cell.state_dict().items()})
    ys, last = tight(cell, x)(x)
    torch.testing.assert_close(ys, whole(x)[0])
    ys.square().sum().backward()
    found = [p.grad for p in cell.parameters()]
    whole(x)[0].square().sum().backward()
    assert_same(found, [p.grad for p in whole.parameters()])
    assert isinstance(last, tuple) == (kind is nn.LSTMCell)


def test_dropout_in_steps_that_run_again_draws_what_it_drew():
    x, h = inputs()
    cell = Elman(dropout=0.5)
    of = [x, h, *cell.parameters()]
    scan = tight(cell, x, h)
    torch.manual_seed(3)
    found = gradients(scan(x, h), of)
    after = torch.rand(3)
    torch.manual_seed(3)
    expected = gradients(loop(cell, x, h), of)
    assert torch.equal(after, torch.rand(3))
    assert_same(found, expected)


def test_draws_that_begin_later_are_replayed():
    x, h = inputs()
    linear = nn.Linear(INPUTS, HIDDEN)

    def cell(given, h):
        x, at = given
        h = torch.tanh(linear(x) + h)
        return (h * torch.rand(()) if at > 9 else h), h

    xs, of = (x, torch.arange(STEPS)), [x, h, *linear.parameters()]
    results = []
    for scan in (memo.scan(cell), memo.scan(cell, budget=30_000)):
        torch.manual_seed(1)
        results.append(gradients(scan(xs, h), of))
    assert_same(results[1], results[0])


class Counts(Elman):
    """Holds a state that is not in its carry."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def forward(self, x, h):
        self.count += 1
        return super().forward(x, h + self.count)


class Norm(Elman):
    """Changes its buffers."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(HIDDEN)

    def forward(self, x, h):
        y, h = super().forward(x, h)
        return self.norm(y), h


class Generates(Elman):
    """Draws from a stream of its own."""

    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x, h):
        return super().forward(x, h + torch.rand((), generator=self.generator))


class InPlace(Elman):
    """Changes its carry."""

    def forward(self, x, h):
        y, _ = super().forward(x, h)
        return y, h.add_(y)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Counts, "changes the attribute 'count'"),
        (Norm, "a buffer, or a frozen weight"),
        (InPlace, "in place"),
        (Generates, "holds a state elsewhere"),
    ],
)
def test_a_cell_that_cannot_run_again_runs_plain_and_says_so(kind, reason):
    x, h = inputs()
    plain, ours = kind(), kind()
    ours.load_state_dict(plain.state_dict())
    scan = memo.scan(ours, budget=50_000)
    with pytest.warns(UserWarning, match=reason):
        found, _ = scan(x, h.detach().clone())
    assert scan.receipt.engine == "plain"
    assert reason in scan.receipt.reason
    assert scan.receipt.within is None
    if kind is InPlace:
        assert found.shape == (STEPS, ROWS, HIDDEN)


def test_a_window_cuts_gradients_as_detaching_by_hand_does():
    (x, h), cell = inputs(), Elman()
    of = [x, h, *cell.parameters()]
    ys, carry = [], h
    for begin in range(0, STEPS, 7):
        y, carry = loop(cell, x[begin : begin + 7], carry.detach() if begin else carry)
        ys.append(y)
    expected = torch.autograd.grad(torch.cat(ys).square().sum(), of)
    for scan in (memo.scan(cell, window=7), tight(cell, x, h, window=7)):
        assert_same(torch.autograd.grad(scan(x, h)[0].square().sum(), of), expected)


@settings(deadline=None, max_examples=25)
@given(steps=st.integers(1, 40), share=st.floats(0, 1), window=st.none() | st.integers(1, 12))
def test_any_length_budget_and_window_gives_the_loops_gradients(steps, share, window):
    torch.manual_seed(steps)
    cell = Elman()
    x, h = torch.randn(steps, 2, INPUTS, requires_grad=True), torch.randn(2, HIDDEN, requires_grad=True)
    of = [x, h, *cell.parameters()]
    ample = memo.scan(cell, budget="1GiB", window=window)
    ample(x, h)
    least = smallest_of(cell, x, h, window=window)
    scan = memo.scan(cell, budget=least + int(share * max(ample.receipt.within.peak - least, 0)), window=window)
    found, expected = scan(x, h), memo.scan(cell, window=window)(x, h)
    assert torch.equal(found[0], expected[0])
    assert_same(gradients(found, of), gradients(expected, of))
    assert scan.receipt.within.peak <= scan.budget


def test_a_weight_that_changes_before_backward_is_seen():
    (x, h), cell = inputs(), Elman()
    ys, _ = tight(cell, x, h)(x, h)
    with torch.no_grad():
        cell.h.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        ys.sum().backward()


@pytest.mark.parametrize("what", ["a buffer", "a frozen weight", "an attribute", "a weight put in its place"])
def test_what_a_step_reads_and_changed_before_backward_raises(what):
    (x, h), cell = inputs(), Elman()
    cell.register_buffer("offset", torch.zeros(HIDDEN))
    cell.gain = 1.0
    plain = cell.forward
    cell.forward = lambda x, h: plain(x, h + cell.offset * cell.gain)
    cell.x.bias.requires_grad_(what != "a frozen weight")
    ys, _ = tight(cell, x, h)(x, h)
    with torch.no_grad():
        match what:
            case "a buffer":
                cell.offset.add_(1)
            case "a frozen weight":
                cell.x.bias.add_(1)
            case "an attribute":
                cell.gain = 2.0
            case _:
                cell.h.weight = nn.Parameter(torch.zeros(HIDDEN, HIDDEN))
    placed = cell.h.weight
    with pytest.raises(RuntimeError, match=r"was changed since the forward pass|modified by an inplace operation"):
        ys.sum().backward()
    assert cell.h.weight is placed


def test_a_cell_that_is_set_to_eval_before_backward_goes_back_as_it_went():
    (x, h), cell = inputs(), Elman(dropout=0.5)
    of, found = [x, h, *cell.parameters()], []
    for scan in (memo.scan(cell), tight(cell, x, h)):
        cell.train()
        torch.manual_seed(0)
        result = scan(x, h)
        cell.eval()
        found.append(gradients(result, of))
        assert not cell.training
    assert_same(found[1], found[0])


def test_threads_share_a_cell():
    (x, h), cell = inputs(), Elman()
    of = [*cell.parameters()]
    scan, expected = tight(cell, x, h), gradients(loop(cell, x, h), [*cell.parameters()])
    found = []

    def work(call):
        found.extend(gradients(call(x, h), of) for _ in range(6))

    threads = [threading.Thread(target=work, args=(call,)) for call in (scan, scan, partial(loop, cell))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 18
    for each in found:
        assert_same(each, expected)
    assert all(isinstance(p, nn.Parameter) for p in cell.x._parameters.values())


def test_a_state_that_was_found_is_as_it_was_before_it_was_looked_for():
    x, h = inputs()
    plain, ours = Counts(), Counts()
    ours.load_state_dict(plain.state_dict())
    with pytest.warns(UserWarning, match="count"):
        found = memo.scan(ours, budget=50_000)(x, h)
    assert torch.equal(found[0], loop(plain, x, h)[0])
    assert ours.count == plain.count


def test_a_cell_may_differentiate_inside():
    x, h = inputs()
    w = torch.randn(INPUTS, HIDDEN, requires_grad=True)

    def cell(x, h):
        with torch.enable_grad():
            at = h.detach().requires_grad_()
            (slope,) = torch.autograd.grad(torch.tanh(at).sum(), at)
        h = torch.tanh(x @ w + 0.5 * h + slope)
        return h, h

    of = [x, h, w]
    scan = tight(cell, x, h)
    assert_same(gradients(scan(x, h), of), gradients(loop(cell, x, h), of))
    assert scan.receipt.engine == "pieces"


def test_inputs_of_any_strides_run_within_a_budget():
    (x, h), cell = inputs(), Elman()
    strided = x.detach().permute(2, 1, 0).contiguous().permute(2, 1, 0)
    scan = memo.scan(cell, budget="1MiB")
    scan(strided, h)
    assert scan.receipt.engine == "pieces"


def test_hooks_of_weights_fire_once_a_backward():
    (x, h), cell = inputs(), Elman()
    seen = []
    cell.h.weight.register_hook(lambda g: seen.append(g))
    tight(cell, x, h)(x, h)[0].sum().backward()
    assert len(seen) == 1


def test_backward_twice_gives_twice_the_gradient():
    (x, h), cell = inputs(), Elman()
    ys, _ = tight(cell, x, h)(x, h)
    ys.sum().backward(retain_graph=True)
    once = cell.h.weight.grad.clone()
    ys.sum().backward()
    torch.testing.assert_close(cell.h.weight.grad, 2 * once)


def test_differentiating_twice_raises():
    (x, h), cell = inputs(), Elman()
    ys, _ = tight(cell, x, h)(x, h)
    (g,) = torch.autograd.grad(ys.square().sum(), [x], create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        g.sum().backward()


def test_the_wrapper_holds_the_cells_state_and_modes():
    cell = Elman()
    scan = memo.scan(cell, budget="1MiB")
    assert scan.state_dict().keys() == cell.state_dict().keys()
    assert all(map(is_, scan.parameters(), cell.parameters()))
    scan.eval()
    assert not cell.training
    assert not cell.x.training
    scan.to(torch.float64)
    assert cell.x.weight.dtype == torch.float64


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda scan: pickle.loads(pickle.dumps(scan))])  # noqa: S301
def test_a_copy_trains_weights_of_its_own(copied):
    x, h = inputs()
    scan = memo.scan(Elman(), budget="1MiB")
    other = copied(scan)
    other(x, h)[0].sum().backward()
    assert all(p.grad is None for p in scan.parameters())
    assert all(p.grad is not None for p in other.parameters())
    assert other.__wrapped__.x.weight is other.x.weight


def test_without_grad_nothing_is_planned():
    (x, h), cell = inputs(), Elman()
    scan = memo.scan(cell, budget=1)
    with torch.no_grad():
        assert torch.equal(scan(x, h)[0], loop(cell, x, h)[0])
    assert scan.receipt.within is None


def test_halves_under_autocast_give_the_loops_gradients():
    (x, h), cell = inputs(), Elman()
    of = [x, h, *cell.parameters()]

    def cast(scan):
        with torch.autocast("cpu", torch.bfloat16):
            return scan(x, h.bfloat16())

    first = cast(partial(loop, cell))
    scan = memo.scan(cell, budget="1GiB")
    assert torch.equal(cast(scan)[0], first[0])
    found = torch.autograd.grad(cast(scan)[0].float().square().sum(), of)
    expected = torch.autograd.grad(cast(partial(loop, cell))[0].float().square().sum(), of)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.05 * float(b.abs().max()))


REFUSED = {
    "no tuple": (lambda _, h: h, TypeError, "got Tensor from the cell; expected a tuple of two"),
    "three": (lambda _, h: (h, h, h), TypeError, "expected a tuple of two"),
    "another form": (lambda _, h: (h, (h, h)), TypeError, "expected the same form at each step"),
    "an object": (lambda _, h: (object(), h), TypeError, "got object in y_t"),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("budget", [None, "1MiB"])
def test_what_is_no_cell_is_refused_with_what_to_write(kind, budget):
    (x, h), (cell, error, message) = inputs(), REFUSED[kind]
    with pytest.raises(error, match=message):
        memo.scan(cell, budget=budget)(x, h)


def test_inputs_of_two_lengths_are_refused():
    x, h = inputs()
    with pytest.raises(ValueError, match="expected one length T"):
        memo.scan(Elman())((x, x[1:]), h)
    with pytest.raises(ValueError, match="expected one length T"):
        memo.scan(Elman())(None, h)


def test_a_carry_that_grows_runs_plain_and_says_so():
    x, h = inputs()
    scan = memo.scan(lambda x, c: (x, torch.cat([c, h])), budget="1MiB")
    with pytest.warns(UserWarning, match=r"the carry changes from \[3, 8\]"):
        _, last = scan(x, h)
    assert last.shape == (ROWS * (STEPS + 1), HIDDEN)


@pytest.mark.parametrize("window", [0, -1, 2.0, True, "7"])
def test_a_window_that_is_none_is_refused(window):
    with pytest.raises(ValueError, match=r"memo.scan: got window="):
        memo.scan(Elman(), window=window)
