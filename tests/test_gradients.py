"""Results that require grad, when the graph that gave them is gone: the store has the values, backward runs f again."""

import gc

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
