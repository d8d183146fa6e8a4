"""Graphs live as long as somebody uses what they gave, or as a budget of bytes says."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from tests.replay.replayed import Replayed
from torch import nn

from memograd._replay import Lives, record


@pytest.fixture
def no_collector():
    """Whatever dies in a test dies by its own reference counts."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_a_recording_dies_with_its_last_output():
    net, x = nn.Linear(3, 2), torch.ones(1, 3)
    f = Replayed(net)
    y = f(x)
    ref, f.last = weakref.ref(f.last), None
    z = f(x).exp()
    del y
    assert ref() is not None
    z.sum().backward()
    del z
    assert ref() is None
    assert len(f.lives) == 0


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("recorded", [True, False])
def test_what_a_call_computed_dies_with_its_last_output(recorded):
    class Kept(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mark = Mark()
            marks.append(weakref.ref(ctx.mark))
            return x.clone()

        @staticmethod
        def backward(_, grad):
            return grad

    class Mark:
        pass

    marks, h = [], torch.ones(3, requires_grad=True) * 1

    def f(x):
        y = Kept.apply(x.exp()).sin()
        return y if recorded else (y, object())

    ref = weakref.ref(h)
    y = Replayed(f)(h)
    assert any(mark() is not None for mark in marks)
    del y, h
    assert ref() is None
    assert not any(mark() is not None for mark in marks)


@pytest.mark.usefixtures("no_collector")
def test_memory_is_flat_over_a_hundred_steps_with_new_inputs():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    f = Replayed(net, captured=(net,), key=lambda x: x.numpy().tobytes())
    step, refs, alive, saved = torch.optim.SGD(net.parameters(), lr=0.01), [], set(), set()
    for _ in range(100):
        x = torch.randn(4, 8)
        step.zero_grad()
        loss = f(x).square().mean() + f(x).mean() + f(x).sum()
        loss.backward()
        step.step()
        refs.append(weakref.ref(f.last))
        f.last = None
        alive.add(sum(ref() is not None for ref in refs))
        saved.add(f.lives.nbytes)
    assert f.calls == 100
    assert alive <= {1, 2}
    assert len(saved) == 1
    del loss
    assert not any(ref() is not None for ref in refs)


def test_what_an_optimizer_has_outdated_is_freed_though_its_outputs_are_kept():
    net = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 2))
    f = Replayed(net, key=lambda x: x.sum().item())
    first = f(torch.ones(4, 8))
    held = f.lives.nbytes
    assert held > 0
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1)
    second = f(torch.zeros(4, 8))
    assert f.lives.nbytes == held
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        first.sum().backward()
    second.sum().backward()


def test_a_training_loop_holds_one_graph_at_a_time():
    net, held = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 2)), []
    step = torch.optim.SGD(net.parameters(), lr=0.01)

    def forward(x):
        held.append(f.lives.nbytes)
        return net(x)

    f = Replayed(forward, captured=(net,), key=lambda x: x.sum().item())
    for n in range(4):
        # The loss of the step before is still there while the next is computed.
        loss = f(torch.full((4, 8), float(n))).sum()
        loss.backward()
        step.step()
        step.zero_grad()
    assert held == [0] * 4
    assert f.lives.nbytes > 0


def test_saved_bytes_are_those_that_the_graph_holds():
    x = torch.ones(256, requires_grad=True)
    _, recording, _ = record(lambda x: x.exp().sin().sum(), (x,), {})
    # exp keeps its result, and sin its input: the same 1,024 bytes.
    assert recording.nbytes == 1024


def test_a_budget_of_bytes_keeps_graphs_without_outputs_and_lets_the_oldest_go():
    f = Replayed(lambda x, scale: (x * scale).exp(), max_bytes=3 * 2048, key=lambda _, scale: scale)
    x = torch.ones(256, requires_grad=True)
    for scale in (1, 2, 3):
        f(x, scale)
    f.last = None
    assert len(f.lives) == 3
    f(x, 1)
    f(x, 4)
    f.last = None
    assert f.calls == 4
    f(x, 1).sum().backward()
    assert f.calls == 4
    f(x, 2)
    assert f.calls == 5


def test_without_a_budget_nothing_is_kept():
    lives = Lives()
    x = torch.ones(2, requires_grad=True)
    output, recording, _ = record(lambda x: x * 2, (x,), {})
    lives.put("key", recording)
    assert lives.get("key") is recording
    lives.drop("key")
    assert lives.get("key") is None
    lives.put("key", recording)
    del recording, output
    assert lives.get("key") is None


@pytest.mark.usefixtures("no_collector")
def test_a_recording_kept_by_budget_keeps_nothing_of_what_came_before_its_arguments():
    f = Replayed(lambda h: h.exp(), max_bytes=1 << 20)
    x = torch.ones(4, requires_grad=True)
    trunk = Replayed(lambda x: x.sin())
    h = trunk(x)
    f(h)
    ref, trunk.last = weakref.ref(trunk.last), None
    del h
    assert ref() is None
    assert len(f.lives) == 1
