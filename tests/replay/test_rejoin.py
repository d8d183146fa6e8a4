"""What a call gave that has run on stand-ins, and can neither be recorded nor be run again, has its gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from memograd._replay import record
from memograd._replay._live import Twice

WEIGHT = nn.Parameter(torch.full((2,), 2.0))


class Out:
    def __init__(self, **parts):
        self.__dict__.update(parts)


def tagged(a):
    y = a.sin() * WEIGHT
    y.tag = "features"
    return y


FORMS = {
    "one": (tagged, lambda y: y),
    "several": (lambda a: (tagged(a), a, a[:1]), lambda y: y[0] + y[1] + y[2]),
    "of a class": (lambda a: Out(y=tagged(a), z=[a * 2]), lambda y: y.y + y.z[0]),
    "retained": (lambda a: [y := tagged(a), y.retain_grad()][0], lambda y: y),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_result_that_can_neither_be_recorded_nor_computed_again_goes_back(form):
    f, read = FORMS[form]

    def run(called):
        x, count = torch.ones(2, requires_grad=True), torch.zeros(1)
        h = x * 3

        def counting(a, count):
            count.add_(1)
            return f(a)

        y = called(counting, h, count)
        return [*torch.autograd.grad((read(y) + h).sum(), [x, WEIGHT]), count]

    reasons = []

    def recorded(g, *args):
        output, recording, reason = record(g, args, {}, note=reasons.append)
        assert recording is None
        assert isinstance(reason, Twice)
        return output

    torch.testing.assert_close(run(recorded), run(lambda g, *args: g(*args)))
    assert len(reasons) == 1


def test_notes_are_carried_along():
    h, count = torch.ones(2, requires_grad=True) * 3, torch.zeros(1)
    output = record(lambda a, count: [count.add_(1), tagged(a)][1], (h, count), {}).output
    assert output.tag == "features"
