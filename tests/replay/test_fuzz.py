"""Random functions, results and losses: values are equal to the bit, gradients agree, whatever is remembered."""

from __future__ import annotations

import random

import pytest
import torch
from tests.replay.replayed import Replayed
from torch import nn

UNARY = [
    torch.sin,
    torch.tanh,
    lambda x: x * x,
    lambda x: x.t(),
    lambda x: x[:, :2].repeat(1, 2)[:, :3],
    lambda x: x.detach(),
    lambda x: x.flip(0),
    lambda x: x.clone().mul_(2),
    lambda x: x.softmax(1),
    lambda x: x,
    lambda x: x.view(3, 3),
]
BINARY = [torch.add, torch.mul, torch.matmul, lambda a, b: torch.cat([a, b])[1:4], torch.maximum]
SHAPES = [
    lambda ys: ys[-1],
    tuple,
    lambda ys: {"a": ys[0], "rest": ys[1:], "n": 3},
    lambda ys: [ys[-1], ys[-1], ys[-1][:1]],
    lambda ys: (ys[-1].chunk(3), ys[0].argmax()),
    lambda ys: (ys[-1], ys[-1].detach()),
]


def function(draw, weights):
    """Draw a function of three matrices."""
    steps = [(draw.choice(UNARY), None) if draw.random() < 0.6 else (draw.choice(BINARY), 1) for _ in range(5)]
    places = [(draw.random(), draw.random()) for _ in steps]
    shape = draw.choice(SHAPES)

    def f(*xs):
        known = [*xs, *weights]
        for (op, two), (p, q) in zip(steps, places, strict=True):
            a, b = known[int(p * len(known))], known[int(q * len(known))]
            # Detours through shapes that `view` refuses are taken by copies.
            a = a.contiguous()
            known.append(op(a, b) if two else op(a))
        return shape(known[-3:])

    return f


def arguments(seed, status):
    torch.manual_seed(seed)
    leaves, xs = [], []
    for kind in status:
        x = torch.randn(3, 3, dtype=torch.double)
        if kind != "data":
            leaves.append(x.requires_grad_())
        # One that is made of another, so that gradients could be counted twice.
        xs.append(x * 1.5 + (leaves[0] if leaves else 0) if kind == "made" else x)
    return leaves, xs


def tensors(value):
    return [x for x in torch.utils._pytree.tree_leaves(value) if isinstance(x, torch.Tensor)]


def run(draw, f, weights, seed, status):
    """Call three times, in one or several losses, and give values and gradients."""
    leaves, xs = arguments(seed, status)
    fresh = draw.random() < 0.3
    values, losses = [], []
    outputs = []
    for n in range(3):
        out = f(*(arguments(seed, status)[1] if fresh and not leaves and n else xs))
        outputs.append(out)
        found = tensors(out)
        values += [x.detach().clone() for x in found]
        losses.append(sum((x * x.detach().cos() * (n + 1)).sum() for x in found if x.requires_grad))
    losses = [loss for loss in losses if isinstance(loss, torch.Tensor)]
    if losses and draw.random() < 0.5:
        losses = [sum(losses)]
    for loss in losses:
        # The plain program frees what calls share outside: the arguments' own graph.
        loss.backward(retain_graph=True)
    return values, [x.grad for x in (*leaves, *weights)]


@pytest.mark.parametrize("seed", range(120))
def test_a_random_program(seed):
    draw = random.Random(seed)
    status = [draw.choice(["data", "leaf", "made"]) for _ in range(3)]
    named = draw.random() < 0.5
    after, found = draw.random(), []
    for remembered in (False, True):
        torch.manual_seed(seed)
        weights = [nn.Parameter(torch.randn(3, 3, dtype=torch.double)) for _ in range(2)]
        f = function(random.Random(seed), weights)
        g = Replayed(f, captured=weights if named else ()) if remembered else f
        found.append(run(random.Random(after), g, weights, seed, status))
    (values, grads), (others, gradients) = found
    assert all(torch.equal(a, b) for a, b in zip(values, others, strict=True))
    for a, b in zip(grads, gradients, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
