"""What is changed in place is seen: a stale gradient is never given, and a result never spoiled."""

from __future__ import annotations

import pytest
import torch
from tests.replay.replayed import Replayed
from torch import nn


def test_changing_a_result_spoils_no_other_and_no_gradient():
    f = Replayed(lambda x: x.tanh())
    x = torch.linspace(0, 1, 3).requires_grad_()
    y = f(x)
    y.mul_(100)
    z = f(x)
    assert torch.equal(z, x.tanh())
    z.data.zero_()
    z.detach().numpy()[:] = 5
    assert torch.equal(f(x), x.tanh())
    assert f.calls == 1
    y.sum().backward()
    torch.testing.assert_close(x.grad, 100 * (1 - x.detach().tanh() ** 2))


@pytest.mark.parametrize("change", ["weight", "input"])
def test_a_saved_tensor_changed_before_backward_raises_as_in_the_plain_program(change):
    for remembered in (False, True):
        net, x = nn.Linear(3, 2), torch.ones(1, 3)
        # The gradient of the input needs the weight, that of the weight the input.
        h = x.clone().requires_grad_() * 1
        y = (Replayed(net) if remembered else net)(h)
        with torch.no_grad():
            (net.weight if change == "weight" else h).add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


def test_a_bias_changed_before_backward_is_let_pass_as_in_the_plain_program():
    net, x = nn.Linear(3, 2), torch.ones(1, 3)
    y = Replayed(net)(x)
    with torch.no_grad():
        net.bias.add_(1)
    y.sum().backward()
    assert torch.equal(net.weight.grad, torch.ones(2, 3))


def test_a_recording_whose_weights_moved_is_not_given_again():
    net, x = nn.Linear(3, 2), torch.ones(1, 3, requires_grad=True)
    f = Replayed(net)
    y = f(x)
    with torch.no_grad():
        net.weight.add_(1)
    # The key of the test does not see the weights; the recording does.
    assert torch.equal(f(x), net(x))
    assert f.calls == 2
    assert y.requires_grad


def test_an_input_changed_through_an_alias_gives_no_stale_gradient_to_an_equal_one():
    net = nn.Linear(3, 1, bias=False)
    f = Replayed(net)
    x = torch.ones(1, 3)
    y = f(x)
    x.numpy()[:] = 7
    f(torch.ones(1, 3)).sum().backward()
    assert f.calls == 2
    assert torch.equal(net.weight.grad, torch.ones(1, 3))
    assert y.requires_grad


def test_an_argument_array_changed_through_itself_gives_no_stale_gradient_to_an_equal_one():
    net = nn.Linear(3, 1, bias=False)
    f = Replayed(lambda array: net(torch.from_numpy(array)))
    array = torch.ones(1, 3).numpy()
    other = array.copy()
    y = f(array)
    assert torch.equal(f(array), y)
    assert f.calls == 1
    array[:] = 7
    f(other).sum().backward()
    assert torch.equal(net.weight.grad, torch.ones(1, 3))


def test_weights_of_a_twin_changed_through_data_give_no_stale_gradient():
    f = Replayed(lambda net, x: net(x))
    net, twin = nn.Linear(3, 2), nn.Linear(3, 2)
    twin.load_state_dict(net.state_dict())
    x = torch.ones(1, 3, requires_grad=True)
    y = f(net, x)
    net.weight.data.fill_(0)
    f(twin, x).sum().backward()
    assert torch.equal(x.grad, twin.weight.detach().sum(0, keepdim=True))
    assert y.requires_grad


def test_a_result_that_the_function_keeps_and_changes_is_not_given_again():
    kept = []

    def keeping(x):
        kept.append(x * 2)
        return kept[-1]

    f = Replayed(keeping)
    x = torch.ones(2, requires_grad=True)
    y = f(x)
    with torch.no_grad():
        kept[0].add_(1)
    assert torch.equal(f(x), 2 * x)
    assert torch.equal(y, 2 * x)


def test_a_function_that_changes_its_argument_behaves_as_ever_and_is_not_recorded():
    def bumps(x, buffer):
        buffer.add_(1)
        return x * buffer

    f = Replayed(bumps)
    x, buffer = torch.ones(2, requires_grad=True), torch.zeros(2)
    f(x, buffer).sum().backward()
    f(x, buffer).sum().backward()
    assert (f.calls, buffer.tolist(), x.grad.tolist()) == (2, [2, 2], [3, 3])
    assert f.reasons == ["changes a tensor that it was given, or that it reads"] * 2


def test_changing_an_argument_that_requires_grad_is_left_to_the_plain_call():
    def doubles(h):
        h.mul_(2)
        return h + 1

    f = Replayed(doubles)
    x = torch.ones(2, requires_grad=True)
    h = x * 1
    assert f(h).tolist() == [3, 3]
    assert h.tolist() == [2, 2]
    h.sum().backward()
    assert x.grad.tolist() == [2, 2]
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        f(x)


def test_a_list_that_the_function_fills_is_filled():
    def appends(xs):
        xs.append(xs[0] * 2)
        return xs[-1] + 0

    f = Replayed(appends)
    x = torch.ones(2, requires_grad=True)
    xs = [x]
    f(xs).sum().backward()
    assert len(xs) == 2
    assert x.grad.tolist() == [2, 2]
    assert f.reasons == ["changes a list or dictionary among its arguments"]


def test_a_list_that_is_filled_by_a_function_without_gradient_is_filled():
    xs = [torch.ones(2, requires_grad=True)]
    assert Replayed(lambda xs: xs.append(3))(xs) is None
    assert xs[1:] == [3]


def test_a_list_without_gradients_is_the_very_list():
    def notes(x, log):
        log.append(len(log))
        return x * 2

    log = []
    Replayed(notes)(torch.ones(2, requires_grad=True), log)
    assert log == [0]


def test_a_tensor_changed_before_a_change_that_stand_ins_forbid_is_not_changed_twice():
    def f(h, buffer):
        buffer.add_(1)
        return h.mul_(2)

    buffer = torch.zeros(2)
    with pytest.raises(RuntimeError, match="in-place"):
        Replayed(f)(torch.ones(2, requires_grad=True) * 1, buffer)
    assert buffer.tolist() == [1, 1]


def test_a_gradient_that_would_be_lost_at_an_argument_raises():
    kept = []

    def keeping(x):
        kept.append(x * 2)
        return x * 3

    Replayed(keeping)(torch.ones(2, requires_grad=True) * 1)
    with pytest.raises(RuntimeError, match="cannot reach that argument"):
        kept[0].sum().backward()
