"""Results that require grad, when the graph that gave them is gone: the store has the values, backward runs f again."""

import gc
import warnings

import pytest
import torch
from torch import nn

from memograd import Memo


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


@pytest.fixture
def x():
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(1), requires_grad=True)


def counted(**options):
    """A memoized call of a module, and a list to which each run of its body adds. No key sees the list."""
    ran = []

    @Memo()(version="1", **options)
    def f(net, x):
        ran.append(1)
        return net(x)

    return f, ran


def gradients(f, net, x):
    net.zero_grad()
    x.grad = None
    y = f(net, x)
    (y * y).sum().backward()
    return [y.detach().clone(), x.grad.clone(), *(p.grad.clone() for p in net.parameters())]


def assert_same(a, b):
    assert len(a) == len(b)
    assert all(map(torch.equal, a, b))


def test_a_result_is_given_again_when_its_graph_is_gone(net, x):
    f = Memo()(lambda net, x: net(x))
    plain = gradients(f.__wrapped__, net, x)
    for _ in range(3):
        assert_same(gradients(f, net, x), plain)
        gc.collect()
    assert f.cache_info()[:2] == (2, 1)
    assert f.cached(net, x)


def test_the_call_is_run_again_in_backward_alone_and_once_for_all_who_use_it(net, x):
    f, ran = counted()
    gradients(f, net, x)
    ran.clear()
    y, z = f(net, x), f(net, x)
    assert ran == []
    (y.sum() + z.sum()).backward()
    assert ran == [1]


def test_a_result_that_nobody_goes_back_through_is_never_run_again(net, x):
    f, ran = counted()
    f(net, x)
    gc.collect()
    ran.clear()
    assert f(net, x).requires_grad
    assert ran == []


def test_changing_what_a_hit_gave_spoils_nothing(net, x):
    f, _ = counted()
    plain = f.__wrapped__(net, x).detach()
    for _ in range(3):
        y = f(net, x)
        assert torch.equal(y.detach(), plain)
        y.data.zero_()
        del y
        gc.collect()


def test_a_changed_weight_is_another_call(net, x):
    f, ran = counted()
    gradients(f, net, x)
    with torch.no_grad():
        net[0].weight.mul_(2)
    assert_same(gradients(f, net, x), gradients(f.__wrapped__, net, x))
    assert f.cache_info().misses == 2
    assert len(ran) == 3


def test_what_was_drawn_is_drawn_again_in_backward(x):
    net = nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.5), nn.Linear(64, 3))
    f, ran = counted()

    def run(f):
        torch.manual_seed(3)
        return [*gradients(f, net, x), torch.rand(2)]

    plain = run(f.__wrapped__)
    for _ in range(3):
        assert_same(run(f), plain)
        gc.collect()
    assert f.cache_info()[:2] == (2, 1)
    assert len(ran) == 4


def test_another_state_of_the_stream_is_another_call(x):
    net = nn.Dropout(0.5)
    f, _ = counted()
    torch.manual_seed(3)
    first, second = f(net, x), f(net, x)
    torch.manual_seed(3)
    assert_same([first, second], [net(x), net(x)])
    assert f.cache_info().misses == 2


def test_a_live_graph_of_what_was_drawn_is_shared_and_moves_the_stream(x):
    net = nn.Dropout(0.5)
    f, ran = counted()
    torch.manual_seed(3)
    y, after = f(net, x), torch.rand(2)
    torch.manual_seed(3)
    z = f(net, x)
    assert torch.equal(y, z)
    assert torch.equal(torch.rand(2), after)
    assert ran == [1]


def test_the_modes_of_the_call_are_in_force_when_it_is_run_again(net, x):
    f, _ = counted()

    def run(f):
        net.zero_grad()
        x.grad = None
        with torch.autocast("cpu", torch.bfloat16):
            y = f(net, x)
        y.float().sum().backward()
        return [y.detach().clone(), x.grad.clone(), *(p.grad.clone() for p in net.parameters())]

    plain = run(f.__wrapped__)
    for _ in range(2):
        assert_same(run(f), plain)
        gc.collect()
    assert f.cache_info().hits == 1


def test_a_large_result_is_stored_when_it_is_computed_a_second_time(net):
    f = Memo()(lambda x: x * 2)
    x = torch.ones(1 << 19, requires_grad=True)
    sizes = []
    for _ in range(3):
        f(x).sum().backward()
        gc.collect()
        sizes.append(f.cache_info().currsize)
    assert sizes == [0, 1, 1]
    assert f.cache_info()[:2] == (1, 2)


def test_graphs_are_held_beyond_their_use_as_asked(net, x):
    f, ran = counted(live="1MiB")
    gradients(f, net, x)
    gc.collect()
    gradients(f, net, x)
    assert len(ran) == 1


def test_forgetting_forgets_graphs_too(net, x):
    f, ran = counted(live="1MiB")
    y = f(net, x)
    assert f.forget(net, x)
    assert not f.cached(net, x)
    z = f(net, x)
    assert len(ran) == 2
    f.cache_clear()
    assert not f.cached(net, x)
    (y.sum() + z.sum()).backward()
    assert len(ran) == 2


def test_a_memoized_call_within_is_run_again_with_the_call(net, x):
    memo = Memo()
    inner = memo(lambda net, x: net(x).relu())
    outer = memo(lambda net, x: inner(net, x) * inner(net, x))
    plain = gradients(lambda net, x: net(x).relu() * net(x).relu(), net, x)
    inner(net, x).sum().backward()
    for _ in range(3):
        for a, b in zip(gradients(outer, net, x), plain, strict=True):
            torch.testing.assert_close(a, b)
        gc.collect()
    assert outer.cache_info()[:2] == (2, 1)


def test_a_generator_among_the_arguments_is_not_run_again_from_where_it_has_come_to(x):
    f = Memo()(lambda x, g: x * torch.rand(5, 4, generator=g))

    def run(f):
        x.grad = None
        y = f(x, torch.Generator().manual_seed(1))
        y.sum().backward()
        return [y.detach().clone(), x.grad.clone()]

    plain = run(f.__wrapped__)
    for _ in range(3):
        assert_same(run(f), plain)
        gc.collect()


def test_a_result_in_a_mapping_of_the_users_prints_as_its_values(x):
    store = {}
    f = Memo(store)(lambda x: (x.detach().sum() * 0 + 3) * x.sum() / x.sum())
    f(x)
    ((key, kept),) = store.items()
    assert "x=<" in repr(key)
    assert repr(kept).startswith("tensor(3.")
    assert "grad" not in repr(kept)


def ones(count=1):
    return torch.ones(count, requires_grad=True)


def test_two_equal_tensors_are_not_taken_for_one_that_was_passed_twice():
    f = Memo()(lambda a, b: (a * b).sum())
    a, b = ones(), ones()
    f(a, a)
    gc.collect()
    f(a, b).backward()
    assert (a.grad.item(), b.grad.item()) == (1, 1)


def test_an_argument_that_the_code_reads_as_well_gets_both_gradients():
    w = torch.full((1,), 2.0, requires_grad=True)
    f = Memo()(lambda a: (a * a * w).sum())
    for _ in range(3):
        w.grad = None
        f(w).backward()
        assert w.grad.item() == 12


@pytest.mark.parametrize("differentiate", [torch.autograd.functional.hessian, torch.autograd.functional.hvp])
def test_differentiating_twice_raises(differentiate):
    f = Memo()(lambda x: (x**3).sum())
    f(ones(2) * 1)  # The first call that is given a tensor with a graph of its own is a plain one.
    more = (torch.ones(2),) if differentiate is torch.autograd.functional.hvp else ()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="differentiate twice through a memoized call"):
            differentiate(f, torch.ones(2), *more)


def test_a_step_within_a_graph_raises_where_it_is_differentiated():
    f = Memo()(lambda w, x: ((w * x) ** 2).sum())
    w, x = ones(2), torch.tensor([1.0, 2.0])
    fast = w - 0.1 * torch.autograd.grad(f(w, x), w, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="differentiate twice"):
        torch.autograd.grad(f(fast, x + 1), w)


def test_what_a_caller_within_changes_spoils_nothing():
    memo = Memo()
    inner = memo(lambda x: (x * 2, torch.zeros(3)))

    @memo
    def outer(x):
        a, mask = inner(x)
        a.mul_(10)
        mask.add_(10)
        b, other = inner(x)
        return (a + b + other).sum()

    x = ones(3)
    y = outer(x)
    y.backward()
    assert y.item() == 66
    assert x.grad.tolist() == [22, 22, 22]


SCALE = 2.0


def test_what_would_be_another_call_by_now_is_not_run_again(monkeypatch):
    f = Memo()(lambda x: (x * SCALE).sum())
    x = ones(3)
    f(x)
    y = f(x)
    monkeypatch.setitem(globals(), "SCALE", 5.0)
    with pytest.raises(RuntimeError, match="would be another call by now"):
        y.backward()
    assert x.grad is None


def test_a_module_that_trains_again_is_not_run_again_in_backward():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).eval()
    f, x = Memo()(lambda net, x: net(x).sum()), torch.ones(4, 2)
    f(net, x)
    y = f(net, x)
    net.train()
    with pytest.raises(RuntimeError, match="would be another call by now"):
        y.backward()
    assert net[1].num_batches_tracked == 0


def test_a_draw_for_ever_has_the_gradient_of_its_value():
    f = Memo()(lambda x: nn.functional.dropout(x, 0.5), rng="freeze")
    for _ in range(4):
        x = ones(8)
        y = f(x)
        y.sum().backward()
        assert torch.equal(x.grad, y.detach())
        del y


def test_the_streams_of_one_that_draws_nothing_are_left_alone(monkeypatch):
    from memograd._replay import _recompute

    f, x = Memo()(lambda x: (x * 2).sum()), ones(3)
    f(x)
    y = f(x)
    were_set = []
    monkeypatch.setattr(_recompute, "set_streams", were_set.extend)
    y.backward()
    assert were_set == []
    assert x.grad.tolist() == [2, 2, 2]


def test_a_graph_is_not_shared_with_an_equal_tensor_whose_memory_may_change():
    f = Memo()(lambda x, w: (x * w).sum())
    w, x = ones(), torch.ones(1)
    first = f(x, w)
    second = f(x.clone(), w)
    x.data.fill_(7)
    second.backward()
    assert w.grad.item() == 1
    assert first.item() == 1


class Out:
    """What nobody can take apart."""

    def __init__(self, value):
        self.value = value


def ran_with(f, *, tried):
    """Tell how often a function runs in ten calls of a tensor with a graph of its own."""
    ran = []

    @Memo()(version="1")
    def counted(x, last):
        ran.append(1)
        return f(x, last)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for n in range(10):
            counted(ones() * 1, torch.tensor(n if tried else 10))
    return len(ran)


def test_what_cannot_be_recorded_is_run_once_a_call():
    assert ran_with(lambda x, _: Out(x * 2), tried=False) == 10


def test_what_could_be_recorded_at_first_and_later_cannot_is_run_twice_once():
    assert ran_with(lambda x, n: Out(x * 2) if n else x * 2, tried=True) == 11


def test_a_first_call_that_is_given_a_graph_can_be_differentiated_twice():
    f = Memo()(lambda x: (x**3).sum())
    assert torch.equal(torch.autograd.functional.hessian(f, torch.ones(2)), 6 * torch.eye(2))


def moved_between_two_backwards(**options):
    """Go back through two hits; between the two a bias moves, which no gradient needs."""
    net, x = nn.Linear(2, 1), torch.ones(1, 2)
    f = Memo()(**options)(lambda net, x: net(x).sum())
    f(net, x)
    gc.collect()
    f(net, x).backward()
    y = f(net, x)
    with torch.no_grad():
        net.bias.add_(1)
    y.backward()
    return net.weight.grad.tolist()


def test_a_graph_that_is_held_goes_back_where_the_plain_one_does():
    assert moved_between_two_backwards(live="1MiB") == [[2, 2]]


def test_a_graph_that_is_gone_raises_and_says_how_to_hold_it():
    with pytest.raises(RuntimeError, match='memo\\(live="64MiB"\\)'):
        moved_between_two_backwards()


def test_results_that_are_kept_make_no_call_slower():
    f = Memo()(lambda x, i: x * i)
    x = ones()
    kept = [f(x, i) for i in range(300)]
    lives = f.cache_clear.__self__._recall.gradients.lives
    assert len(lives) == 300
    before = list(lives._turns)
    f(x, 301)
    assert len(kept) == 300
    assert list(lives._turns)[: 300 - 8] == before[8:]  # few are looked at, in turns


def test_a_flag_that_leads_elsewhere_is_tried_for_itself():
    ran = []

    @Memo()(version="1")
    def f(x, on):
        ran.append(on)
        return Out(x * 2) if on else x * 2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for n in range(10):
            f(ones() * (n + 1), on=n > 4)
    assert len(ran) == 10


def checkpointed(f, x):
    return torch.utils.checkpoint.checkpoint(f, x, use_reentrant=False)


CHECKPOINTS = {
    "within": lambda w, g: w(lambda a: g(a) + checkpointed(lambda b: g(b).exp(), a)),
    "within, first": lambda w, g: w(lambda a: checkpointed(lambda b: g(b).exp(), a) + g(a)),
    "before": lambda _, g: lambda a: checkpointed(g, a) + g(a),
    "after": lambda _, g: lambda a: g(a) + checkpointed(g, a),
    "around": lambda w, g: lambda a: w(lambda b: checkpointed(g, b))(a) + g(a),
    "in order": lambda _, g: lambda a: next(p + o for p in [checkpointed(g, a)] for o in [g(a)]),
}


@pytest.mark.parametrize("case", CHECKPOINTS)
@pytest.mark.parametrize("leaf", [True, False])
@pytest.mark.filterwarnings("ignore::memograd.MemogradWarning")
def test_a_graph_is_given_to_no_checkpoint(case, leaf):
    def run(w):
        f, x = CHECKPOINTS[case](w, w(lambda a: a.tanh())), ones(2)
        for _ in range(3):
            f(x if leaf else x * 1).sum().backward()
        return x.grad

    torch.testing.assert_close(run(Memo()(always=True)), run(lambda f: f))


class Features(nn.Module):
    """Keeps what it has computed while it trains."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm, self.aux = nn.Linear(2, 2), nn.BatchNorm1d(2), None

    def forward(self, a):
        h = self.linear(a)
        if self.training:
            self.aux = h
        return self.norm(h).exp()


@pytest.mark.filterwarnings("ignore::memograd.MemogradWarning")
def test_a_module_that_trains_after_it_was_looked_at_has_the_plain_gradients():
    def run(w):
        torch.manual_seed(0)
        net, enc, x = Features(), nn.Linear(2, 2), torch.randn(4, 2)
        f, found = w(net), []
        for training in (False, False, True, True):
            net.train(training)
            h = enc(x)
            (f(h).sum() + h.pow(2).sum() + (net.aux.sum() if training else 0)).backward()
            found.append(enc.weight.grad.clone())
        return [*found, net.norm.num_batches_tracked, net.norm.running_mean]

    torch.testing.assert_close(run(Memo()(always=True)), run(lambda f: f))


def written(a, buf, on):
    if on:
        buf.copy_(a * 2)
    return a.sin()


def noted(a, buf, on):
    if not on:
        return a.sin()
    buf.add_(1)
    y = a.sin()
    y.tag = "features"
    return y


def wrapped(a, buf, on):
    if on:
        buf.add_(1)
    return Out(a.sin()) if on else a.sin()


def raised(a, buf, on):
    if on:
        buf.add_(1)
        a.mul_(2)
    return a.sin()


def value_of(o):
    return o.value if isinstance(o, Out) else o


@pytest.mark.parametrize("f", [written, noted, wrapped, raised])
@pytest.mark.filterwarnings("ignore::memograd.MemogradWarning")
def test_what_a_flag_turns_on_leaves_what_the_plain_call_leaves(f):
    def run(w):
        g, x, found = w(f), ones(2), []
        g(x * 2, torch.zeros(2), False)
        for _ in range(3):
            buf, h = torch.zeros(2), x * 3
            o = value_of(g(h, buf, True))
            found += [*torch.autograd.grad((o + buf + h).sum(), x), buf.detach(), h.detach()]
        return found

    torch.testing.assert_close(run(Memo()(always=True)), run(lambda f: f))


@pytest.mark.parametrize("f", [noted, wrapped])
@pytest.mark.filterwarnings("ignore::memograd.MemogradWarning")
def test_what_the_data_turn_on_has_its_gradient_and_runs_once(f):
    def run(w):
        g, x, found = w(f), ones(2), []
        g(x * 2, torch.zeros(2), torch.tensor(False))
        for _ in range(3):
            buf, h = torch.zeros(2), x * 3
            o = g(h, buf, torch.tensor(True))
            found += [*torch.autograd.grad((value_of(o) + h).sum(), x), buf, getattr(o, "tag", "")]
        return found

    memoized, plain = run(Memo()(always=True)), run(lambda f: f)
    assert all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(memoized, plain, strict=True)
    )


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.n, self.log = 0, []

    def forward(self, a, on):
        if on:
            self.n += 1
            self.log.append(a.detach())
            return Out(a.sin() * self.n)
        return a.sin()


def appends(a, log, _, on):
    if on:
        log.append(a * 2)
    return a.sin()


def draws(a, _, g, on):
    y = a * torch.rand(2, generator=g)
    return Out(y) if on else y


@pytest.mark.parametrize("on", [bool, torch.tensor])
@pytest.mark.parametrize("f", [appends, draws])
@pytest.mark.filterwarnings("ignore::memograd.MemogradWarning")
def test_effects_on_arguments_are_those_of_one_run(f, on):
    def run(w):
        g, x, log, generator = w(f), ones(2), [], torch.Generator().manual_seed(1)
        g(x * 2, [], generator, on(False))
        y = value_of(g(x * 3, log, generator, on(True)))
        for part in log:
            y = y + part
        return [*torch.autograd.grad(y.sum(), x), len(log), torch.rand(2, generator=generator)]

    torch.testing.assert_close(run(Memo()(always=True)), run(lambda f: f))


@pytest.mark.parametrize("on", [bool, torch.tensor])
@pytest.mark.filterwarnings("ignore::memograd.MemogradWarning")
def test_effects_on_a_module_are_those_of_one_run(on):
    def run(w):
        net, x = Counts(), ones(2)
        f = w(net)
        f(x * 2, on(False))
        y = f(x * 3, on(True)).value
        return [*torch.autograd.grad(y.sum(), x), net.n, len(net.log)]

    torch.testing.assert_close(run(Memo()(always=True)), run(lambda f: f))


@pytest.mark.parametrize("on", [bool, torch.tensor])
def test_an_error_of_the_users_runs_the_body_once_a_call(on):
    p, ran = nn.Parameter(torch.ones(2)), []

    @Memo()(version="1")
    def f(a, on):
        ran.append(1)
        if on:
            p.add_(1)
        return a * p

    f(ones(2) * 2, on(False))
    for _ in range(3):
        with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
            f(ones(2) * 3, on(True))
    assert len(ran) == 4


@pytest.mark.filterwarnings("ignore::memograd.MemogradWarning")
def test_weights_that_torch_caches_have_the_plain_gradients():
    from torch.nn.utils import parametrizations, parametrize

    def run(w):
        torch.manual_seed(0)
        layer, x, found = parametrizations.weight_norm(nn.Linear(2, 2)), torch.ones(1, 2, requires_grad=True), []
        f = w(lambda a: layer(a))
        for _ in range(2):
            with parametrize.cached():
                y = f(x) + f(x * 2)
                found += torch.autograd.grad(y.sum(), x)
                del y
        for _ in range(2):
            with parametrize.cached():
                layer(x * 3)
                y = f(x)
                found += torch.autograd.grad(y.sum(), x)
                del y
        return found

    torch.testing.assert_close(run(Memo()(always=True)), run(lambda f: f))


def test_signatures_are_bounded(monkeypatch):
    from memograd import _gradients

    monkeypatch.setattr(_gradients, "_MOST", 3)
    f, x = Memo()(lambda x, n: x * n), ones(2)
    for n in range(10):
        f(x * 1, n)
    assert 0 < len(f.cache_clear.__self__._recall.gradients.tried) <= 3


def hook_on_a_weight(layer, _, __):
    layer.weight.register_hook(lambda grad: grad * 3)


def hook_that_steps(layer, _, __):
    def double(weight):
        weight.grad.mul_(2)

    layer.weight.register_post_accumulate_grad_hook(double)


def hook_on_an_argument(_, h, __):
    h.register_hook(lambda grad: grad * 3)


def note_on_an_argument(_, h, x):
    h.tag = x.tag = "features"


def frozen_weights(layer, _, __):
    layer.requires_grad_(requires_grad=False)


def thawed_data(_, __, x):
    x.requires_grad_()


AFTERWARDS = [
    hook_on_a_weight,
    hook_that_steps,
    hook_on_an_argument,
    note_on_an_argument,
    frozen_weights,
    thawed_data,
]


@pytest.mark.parametrize("change", AFTERWARDS)
def test_what_is_put_on_a_tensor_after_a_hit_is_as_in_the_plain_program(change):
    def run(w):
        layer, weight = nn.Linear(2, 2), torch.ones(1, 2, requires_grad=True)
        nn.init.ones_(layer.weight)
        nn.init.ones_(layer.bias)
        f, found = w(lambda layer, h, x: layer(h) * x), []
        for change_it in (False, False, True):
            h, x = weight * 3, torch.ones(1, 2)
            y = f(layer, h, x)
            if change_it:
                change(layer, h, x)
            y.sum().backward()
            found += [layer.weight.grad.clone(), weight.grad.clone(), layer.weight.requires_grad, vars(h), x.grad]
            del y
            gc.collect()
        return found, getattr(f, "cache_info", int)()

    (memoized, info), (plain, _) = run(Memo()), run(lambda f: f)
    assert info.hits == 2
    for a, b in zip(memoized, plain, strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_an_argument_that_has_lost_its_graph_raises():
    f = Memo()(lambda h: h.exp().sum())
    f(ones(2) * 3)
    gc.collect()
    h = ones(2) * 3
    y = f(h)
    h.detach_()
    with pytest.raises(RuntimeError, match="would be another call by now"):
        y.backward()


def test_a_list_that_is_longer_by_now_raises():
    f = Memo()(lambda x, factors: (x * sum(factors)).sum())
    factors = [1, 2]
    f(ones(2), factors)
    gc.collect()
    y = f(ones(2), factors)
    factors.append(3)
    with pytest.raises(RuntimeError, match="would be another call by now"):
        y.backward()
