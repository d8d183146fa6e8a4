"""Under functional calls, transforms, compilers and DDP it does as the plain module does."""

from __future__ import annotations

import pytest
import torch
from tests.scan.pairs import CELLS, few, module, shared
from tests.threads import leave_process_group
from torch import nn


def test_functional_call_takes_the_weights_that_it_is_given():
    mine, other = shared(module()), nn.LSTM(3, 4, batch_first=True)
    given = {name: p.detach().clone().requires_grad_() for name, p in other.named_parameters()}
    before = mine(few())[0]
    y, _ = torch.func.functional_call(mine, given, (few(),))
    torch.testing.assert_close(y, other(few())[0])
    y.sum().backward()
    other(few())[0].sum().backward()
    torch.testing.assert_close(given["weight_hh_l0"].grad, other.weight_hh_l0.grad)
    torch.testing.assert_close(mine(few())[0], before)
    assert mine.weight_hh_l0.grad is None


@pytest.mark.slow
def test_distributed_data_parallel_trains_it():
    """One process of gloo: gradients are bucketed, averaged and equal to the plain run's."""
    from torch.nn.parallel import DistributedDataParallel

    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        mine, plain = shared(module()), module()
        parallel = DistributedDataParallel(mine)
        for _ in range(2):
            parallel(few())[0].square().sum().backward()
            plain(few())[0].square().sum().backward()
        torch.testing.assert_close(mine.weight_hh_l0.grad, plain.weight_hh_l0.grad)
    finally:
        leave_process_group()


@pytest.mark.parametrize("cell", CELLS)
def test_a_compiled_caller_gets_the_same(cell):
    """The graph may break at a scan; values and gradients do not."""
    torch._dynamo.reset()
    mine, plain = shared(module(cell)), module(cell)

    def loss(x):
        return mine(x * 2)[0].sin().sum()

    value = torch.compile(loss, backend="eager")(few())
    value.backward()
    expected = plain(few() * 2)[0].sin().sum()
    expected.backward()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(mine.weight_hh_l0.grad, plain.weight_hh_l0.grad)


def test_a_compiled_module_gets_the_same():
    torch._dynamo.reset()
    mine = shared(module())
    torch.testing.assert_close(torch.compile(mine, backend="eager")(few())[0], module()(few())[0])


def forward_mode(m):
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(few(), torch.ones_like(few()))
        return torch.autograd.forward_ad.unpack_dual(m(dual)[0])


def functional_gradient(m):
    weights = {name: p.detach() for name, p in m.named_parameters()}
    return torch.func.grad(lambda p: torch.func.functional_call(m, p, (few(),))[0].sum())(weights)


TRANSFORMS = {
    "vmap": lambda m: torch.func.vmap(lambda x: m(x)[0])(torch.stack([few(), few()])),
    "grad": lambda m: torch.func.grad(lambda x: m(x)[0].sum())(few()),
    "jvp": lambda m: torch.func.jvp(lambda x: m(x)[0], (few(),), (few(),)),
    "grad of the weights": functional_gradient,
    "jacobian": lambda m: torch.autograd.functional.jacobian(lambda x: m(x)[0], few()),
    "forward mode": forward_mode,
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("cell", CELLS)
def test_under_a_transform_it_does_as_the_plain_module_does(cell, transform):
    try:
        expected = TRANSFORMS[transform](module(cell))
    except (RuntimeError, NotImplementedError) as error:
        with pytest.raises(type(error)) as raised:
            TRANSFORMS[transform](shared(module(cell)))
        assert str(raised.value).splitlines()[0] == str(error).splitlines()[0]  # noqa: PT017
    else:
        torch.testing.assert_close(TRANSFORMS[transform](shared(module(cell))), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated", "ignore::torch.jit.TracerWarning")
def test_traced_it_is_the_plain_graph():
    mine = shared(module())
    traced = torch.jit.trace(mine, (few(),), check_trace=False)
    torch.testing.assert_close(traced(few())[0], mine(few())[0])
