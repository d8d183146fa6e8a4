"""A network used three times in an iteration costs one forward and one backward."""

from __future__ import annotations

import torch
from tests.replay.replayed import Replayed
from torch import nn


class Counted(torch.autograd.Function):
    backwards = 0

    @staticmethod
    def forward(_, x):
        return x.clone()

    @staticmethod
    def backward(_, grad):
        Counted.backwards += 1
        return grad


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.deep, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 8, 3), nn.Linear(8, 10)
        self.forwards = 0

    def forward(self, x):
        self.forwards += 1
        h = self.deep(self.conv(x).relu()).relu()
        return self.head(Counted.apply(h).mean((2, 3)))


def test_a_small_cnn_used_three_times_goes_forward_and_back_once():
    torch.manual_seed(0)
    net = Small()
    f = Replayed(net, captured=(net,), key=lambda x: x.numpy().tobytes())
    step = torch.optim.SGD(net.parameters(), lr=0.1)
    Counted.backwards = 0
    for n in range(1, 6):
        x = torch.randn(2, 1, 8, 8)
        step.zero_grad()
        (f(x).logsumexp(1).sum() + f(x).square().mean() + f(x).sum()).backward()
        step.step()
        assert (net.forwards, Counted.backwards) == (n, n)


def test_its_gradients_agree_with_the_plain_program():
    found = []
    for remembered in (False, True):
        torch.manual_seed(0)
        net, x = Small().double(), torch.linspace(-1, 1, 128, dtype=torch.double).reshape(2, 1, 8, 8)
        f = Replayed(net) if remembered else net
        (f(x).logsumexp(1).sum() + f(x).square().mean() + f(x).sum()).backward()
        found.append([p.grad for p in net.parameters()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
