"""What functions do inside a recorded call: they ask for gradients, checkpoint, transform, compile, keep state."""

from __future__ import annotations

import pytest
import torch
from tests.replay.replayed import Replayed
from tests.threads import together
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.checkpoint import checkpoint

from memograd._scan._torch import untraced


def assert_agrees(f, make, *, calls=1, reason=None, inputs=()):
    """Run a function twice and backward twice, plainly and recorded: values and gradients must agree."""
    found = []
    for remembered in (False, True):
        g = Replayed(f, captured=tuple(inputs)) if remembered else f
        leaves = make()
        parameters = [p for module in inputs for p in module.parameters()]
        for p in parameters:
            p.grad = None
        outputs = []
        for _ in range(2):
            outputs.append(g(*leaves))
            outputs[-1].square().sum().backward()
        found.append([*outputs, *(x.grad for x in (*leaves, *parameters) if x.requires_grad)])
    assert isinstance(g, Replayed)
    assert g.calls == calls
    assert g.reasons if reason else not g.reasons
    assert reason is None or reason in g.reasons[0]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def ones():
    return (torch.linspace(0.1, 1, 6).reshape(2, 3).requires_grad_(),)


def test_a_gradient_asked_for_inside():
    def penalty(x):
        (slope,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
        return slope.norm(dim=1)

    assert_agrees(penalty, ones)


def test_a_backward_inside_arrives_as_in_the_plain_program():
    def trains(x):
        (x**2).sum().backward()
        return x * 3

    assert_agrees(trains, ones, calls=2, reason="goes backward itself")
    leaf = torch.ones(2, requires_grad=True)
    Replayed(trains)(leaf * 2)
    assert leaf.grad.tolist() == [8, 8]


def test_a_hook_that_the_call_puts_on_its_argument_fires():
    def clipped(x):
        y = x * 5
        x.register_hook(lambda grad: grad / 5)
        return y

    x = torch.ones(2, requires_grad=True)
    Replayed(clipped)(x).sum().backward()
    assert x.grad.tolist() == [1, 1]


def test_checkpoints_inside():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    assert_agrees(lambda x: checkpoint(net, x, use_reentrant=False) * 2, ones, inputs=[net])


def test_checkpoints_that_go_backward_themselves_are_left_to_the_plain_call():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    assert_agrees(
        lambda x: checkpoint(net, x, use_reentrant=True) * 2, ones, calls=2, reason="use_reentrant", inputs=[net]
    )


def test_transforms_inside_are_left_to_the_plain_call():
    assert_agrees(lambda x: torch.func.grad(lambda x: (x**3).sum())(x), ones, calls=4, reason="saved tensor hooks")
    assert_agrees(lambda x: torch.func.vmap(torch.sin)(x), ones)


def test_changes_in_place_inside():
    def busy(x):
        y = x * 2
        y[0] = y[1].exp()
        y.mul_(3).add_(1)
        z = torch.zeros(2, 3)
        z.copy_(y)
        return z[:, 1:]

    assert_agrees(busy, ones)


def test_a_recurrent_network_over_packed_rows():
    lstm = nn.LSTM(3, 4)

    def run(x):
        packed, (h, c) = lstm(pack_sequence([x, x[:1]]))
        return packed.data.sum() + h.sum() + c.sum()

    assert_agrees(run, ones, inputs=[lstm])
    f = Replayed(lambda x: lstm(pack_sequence([x, x[:1]])), captured=(lstm,))
    x = ones()[0]
    first, second = f(x), f(x)
    assert f.calls == 1
    assert type(second[0]) is type(first[0])
    assert torch.equal(second[0].batch_sizes, first[0].batch_sizes)


def test_results_with_names_are_results_with_names():
    f = Replayed(lambda x: (x * 2).max(dim=1))
    x = ones()[0]
    first, second = f(x), f(x)
    assert f.calls == 1
    assert type(second) is torch.return_types.max
    assert torch.equal(second.indices, first.indices)
    second.values.sum().backward()
    assert x.grad.sum() == 4


def test_a_network_whose_statistics_move_is_left_to_the_plain_call():
    net = nn.BatchNorm1d(3)
    assert_agrees(net, ones, calls=2, reason="changes a tensor", inputs=[net])
    assert net.num_batches_tracked == 4
    net.eval()
    assert_agrees(net, ones, inputs=[net])


def test_attention_and_a_transformer_layer():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    assert_agrees(lambda x: layer(x[None, :, :1].expand(1, 2, 4)), ones, inputs=[layer])


def test_a_compiled_module_inside():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    compiled = torch.compile(net, backend="aot_eager")
    assert_agrees(compiled, ones, inputs=[net])


def test_weights_of_a_parametrization():
    net = nn.utils.parametrizations.weight_norm(nn.Linear(3, 4))
    assert_agrees(net, ones, inputs=[net])


def test_complex_and_half_tensors_with_equal_content_elsewhere():
    for dtype in (torch.complex64, torch.bfloat16, torch.float16):
        f = Replayed(lambda x: x * 2)
        x, twin = torch.ones(3, dtype=dtype).requires_grad_(), torch.ones(3, dtype=dtype).requires_grad_()
        first, second = f(x), f(twin)
        assert f.calls == 2
        second.abs().sum().backward()
        assert x.grad is None
        assert twin.grad is not None
        assert first.dtype == dtype


def test_threads_share_a_recording_and_each_gets_its_gradient():
    net = nn.Sequential(nn.Linear(3, 64), nn.Tanh(), nn.Linear(64, 2))
    f, x = Replayed(net, captured=(net,)), torch.ones(8, 3)
    first = f(x)
    expected = torch.autograd.grad(first.sum(), list(net.parameters()))
    wrong = []

    def work():
        for _ in range(20):
            found = torch.autograd.grad(f(x).sum(), list(net.parameters()))
            wrong.extend(1 for a, b in zip(found, expected, strict=True) if not torch.equal(a, b))

    together(*[work] * 8)
    assert not wrong
    assert f.calls == 1


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_compiled_caller_breaks_its_graph_and_agrees():
    net = nn.Linear(3, 2)
    f = Replayed(net, captured=(net,))
    apart = untraced(lambda x: f(x))
    caller = torch.compile(lambda x: apart(x * 2).sin() + apart(x * 2), backend="eager")
    x = ones()[0]
    caller(x).sum().backward()
    found = x.grad.clone()
    x.grad = None
    (net(x * 2).sin() + net(x * 2)).sum().backward()
    torch.testing.assert_close(found, x.grad)
