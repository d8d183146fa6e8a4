"""To the rest of PyTorch a memoized module is a recurrent module with the wrapped module's own weights."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils import weight_norm as old_weight_norm

from memograd import Memo, memo

CELLS = [nn.LSTM, nn.GRU, nn.RNN]


def few(rows=5, steps=6):
    g = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, generator=g)[torch.randint(0, 2, (rows, steps), generator=g)]


def module(cell=nn.LSTM, **options):
    torch.manual_seed(0)
    return cell(3, 4, batch_first=True, **options)


def shared(plain):
    return memo.scan(plain, engine="levels")


def assert_same(one, other, x=None):
    x = few() if x is None else x
    torch.testing.assert_close(one(x)[0], other(x)[0])


@pytest.mark.parametrize("cell", CELLS)
def test_it_is_an_instance_of_what_it_wraps(cell):
    assert isinstance(shared(module(cell)), cell)


def test_repr_is_that_of_a_module():
    options = {"num_layers": 2, "bidirectional": True}
    assert repr(shared(module(**options))) == "Scan" + repr(module(**options))


def test_the_parameters_are_the_very_same():
    plain = module(num_layers=2, bidirectional=True)
    mine = shared(plain)
    assert [name for name, _ in mine.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert all(p is q for p, q in zip(mine.parameters(), plain.parameters(), strict=True))
    assert list(mine.state_dict()) == list(plain.state_dict())


def test_inside_a_model_it_adds_no_keys():
    model = nn.Module()
    model.rnn = module()
    before = list(model.state_dict())
    model.rnn = shared(model.rnn)
    assert list(model.state_dict()) == before
    assert [type(m).__name__ for m in model.modules()] == ["Module", "ScanLSTM"]


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("side", ["memoized", "plain"])
def test_weights_loaded_into_either_are_those_of_both(side, assign):
    plain = module()
    mine = shared(plain)
    mine(few())
    other = nn.LSTM(3, 4, batch_first=True)
    (mine if side == "memoized" else plain).load_state_dict(other.state_dict(), assign=assign)
    assert_same(mine, other)
    assert_same(plain, other)
    assert all(p is q for p, q in zip(mine.parameters(), plain.parameters(), strict=True))


@pytest.mark.parametrize("side", ["memoized", "plain"])
def test_a_weight_set_on_either_is_that_of_both(side):
    plain = module()
    mine = shared(plain)
    other = nn.LSTM(3, 4, batch_first=True)
    for name, p in other.named_parameters():
        setattr(mine if side == "memoized" else plain, name, p)
    assert_same(mine, other)
    assert_same(plain, other)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("cell", CELLS)
def test_five_steps_of_training_give_the_losses_of_the_plain_run(cell, optimizer):
    losses = []
    for wrap in (shared, lambda m: m):
        trained = wrap(module(cell))
        descent = optimizer(trained.parameters(), lr=0.01)
        run = []
        for _ in range(5):
            descent.zero_grad()
            loss = trained(few())[0].square().sum()
            loss.backward()
            descent.step()
            run.append(loss.item())
        losses.append(run)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0][-1] < losses[0][0]


@pytest.mark.parametrize("cell", CELLS)
def test_the_wrapped_module_trains_along(cell):
    plain = module(cell)
    mine = shared(plain)
    mine(few())[0].sum().backward()
    with torch.no_grad():
        for p in plain.parameters():
            p.sub_(p.grad, alpha=0.1)
    assert_same(mine, plain)


def test_to_converts_both():
    plain = module()
    mine = shared(plain).to(torch.float64)
    assert {p.dtype for p in plain.parameters()} == {torch.float64}
    assert_same(mine, plain, few().double())
    plain.to(torch.float32)
    assert_same(mine, plain)


def test_to_empty_on_meta_and_back():
    mine = shared(module()).to("meta")
    assert mine(few().to("meta"))[0].device.type == "meta"
    mine = mine.to_empty(device="cpu")
    mine.load_state_dict(module().state_dict())
    assert_same(mine, module())


@pytest.mark.parametrize("cell", CELLS)
def test_a_deep_copy_has_weights_of_its_own(cell):
    mine = shared(module(cell))
    mine(few())
    other = copy.deepcopy(mine)
    assert_same(other, mine)
    assert not {p.data_ptr() for p in other.parameters()} & {p.data_ptr() for p in mine.parameters()}
    assert all(p is q for p, q in zip(other.parameters(), other.__wrapped__.parameters(), strict=True))
    expected = mine(few())[0].detach()
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    torch.testing.assert_close(mine(few())[0], expected)
    assert other(few())[0].count_nonzero() == 0
    assert other.engine == "levels"


@pytest.mark.parametrize("cell", CELLS)
def test_pickled_it_comes_back_with_its_weights(cell):
    mine = shared(module(cell, num_layers=2))
    other = pickle.loads(pickle.dumps(mine))  # noqa: S301 - our own
    assert_same(other, mine)
    other(few())[0].sum().backward()
    assert all(p is q for p, q in zip(other.parameters(), other.__wrapped__.parameters(), strict=True))
    assert mine.weight_hh_l0.grad is None


def test_torch_save_and_load_keep_it():
    mine = shared(module())
    file = io.BytesIO()
    torch.save(mine, file)
    file.seek(0)
    assert_same(torch.load(file, weights_only=False), mine)


@pytest.mark.parametrize("side", ["before", "after", "after, on the plain module"])
@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm", "orthogonal"])
def test_a_parametrized_weight_works(side, norm):
    """Registered before or after the wrapping: outputs, gradients, and state_dict keys are the plain module's."""
    plain, reference = module(), module()
    register = getattr(parametrizations, norm)
    torch.manual_seed(1)
    register(reference, "weight_hh_l0")
    torch.manual_seed(1)
    if side == "before":
        mine = shared(register(plain, "weight_hh_l0"))
    else:
        mine = shared(plain)
        register(mine if side == "after" else plain, "weight_hh_l0")
    mine.load_state_dict(reference.state_dict())
    mine.eval(), reference.eval(), plain.eval()
    assert list(mine.state_dict()) == list(reference.state_dict())
    mine(few())[0].square().sum().backward()
    reference(few())[0].square().sum().backward()
    for ours, theirs in zip(mine.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    assert mine.receipt.engine == "levels"


class Doubled(nn.Module):
    def forward(self, w):
        return 2 * w


@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0"])
def test_a_parametrization_of_ones_own_works_and_may_be_removed(name):
    plain = module()
    mine = shared(plain)
    doubled = module()
    with torch.no_grad():
        getattr(doubled, name).mul_(2)
    parametrize.register_parametrization(mine, name, Doubled())
    assert_same(mine, doubled)
    parametrize.remove_parametrizations(mine, name)
    assert_same(mine, doubled)


def test_a_parametrized_module_may_be_wrapped_again():
    mine = shared(module())
    parametrize.register_parametrization(mine, "weight_hh_l0", Doubled())
    assert_same(shared(mine), mine)


def test_a_parametrized_module_may_be_copied():
    """Without grad, as PyTorch asks for recurrent modules: else they hold a weight that is no leaf."""
    mine = shared(parametrizations.weight_norm(module(), "weight_hh_l0"))
    with torch.no_grad():
        other = copy.deepcopy(mine)
    assert_same(other, mine)
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    assert mine(few())[0].count_nonzero()


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@pytest.mark.parametrize("before", [True, False])
def test_the_old_weight_norm_works(before):
    plain, reference = module(), old_weight_norm(module(), "weight_hh_l0")
    mine = shared(old_weight_norm(plain, "weight_hh_l0")) if before else old_weight_norm(shared(plain), "weight_hh_l0")
    for each in (mine, reference):
        each(few())[0].square().sum().backward()
        with torch.no_grad():
            for p in each.parameters():
                p.sub_(p.grad, alpha=0.1)
    assert_same(mine, reference)


@pytest.mark.parametrize("before", [True, False])
def test_pruning_works(before):
    plain, reference = module(), module()
    mine = shared(plain)
    for each in (plain if before else mine, reference):
        prune.l1_unstructured(each, "weight_hh_l0", amount=0.5)
    if before:
        mine = shared(plain)
    assert_same(mine, reference)


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


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("engine", ["levels", "plain"])
def test_hooks_fire_once(before, engine):
    seen = []
    plain = module()

    def register(on):
        on.register_forward_pre_hook(lambda *_: seen.append("before forward"))
        on.register_forward_hook(lambda *_: seen.append("after forward"))
        on.register_full_backward_hook(lambda *_: seen.append("backward"))
        on.register_full_backward_pre_hook(lambda *_: seen.append("before backward"))
        on.weight_hh_l0.register_hook(lambda _: seen.append("gradient"))
        on.weight_hh_l0.register_post_accumulate_grad_hook(lambda _: seen.append("accumulated"))

    if before:
        register(plain)
    mine = memo.scan(plain, engine=engine)
    if not before:
        register(mine)
    mine(few().requires_grad_())[0].sum().backward()
    expected = ["before forward", "after forward", "before backward", "gradient", "accumulated", "backward"]
    assert sorted(seen) == sorted(expected)


def test_a_hook_may_change_the_input_and_the_output():
    mine = shared(module())
    mine.register_forward_pre_hook(lambda _, args: (args[0] * 2,))
    mine.register_forward_hook(lambda _, __, out: (out[0] + 1, out[1]))
    torch.testing.assert_close(mine(few())[0], module()(few() * 2)[0] + 1)


def test_a_gradient_hook_sees_the_whole_gradient():
    """A prompt takes another way than its answers, and each way has its share of one weight's gradient."""
    x = torch.cat([few(rows=1, steps=20).expand(5, -1, -1), few()], 1)
    seen = []
    mine, plain = shared(module()), module()
    mine.weight_hh_l0.register_hook(seen.append)
    mine(x)[0].square().sum().backward()
    plain(x)[0].square().sum().backward()
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], plain.weight_hh_l0.grad, rtol=1e-4, atol=1e-5)


def test_the_modes_are_its_own():
    mine = shared(module(num_layers=2, dropout=0.5))
    assert mine.training
    assert not mine.eval().training
    model = nn.ModuleList([mine])
    assert model.train()[0].training


def test_wrapped_twice_is_wrapped_once():
    plain = module()
    once = shared(plain)
    twice = memo.scan(once, engine="plain")
    assert twice.__wrapped__ is plain
    assert (once.engine, twice.engine) == ("levels", "plain")
    assert_same(twice, once)


def test_of_any_memo_it_is_the_same():
    assert_same(Memo().scan(module(), engine="levels"), module())


def test_a_subclass_that_keeps_the_forward_is_taken():
    class Named(nn.LSTM):
        name = "mine"

    torch.manual_seed(0)
    mine = shared(Named(3, 4, batch_first=True))
    assert_same(mine, module())
    assert mine.receipt.engine == "levels"


def test_the_arguments_have_the_plain_names():
    mine = shared(module())
    state = (torch.randn(1, 5, 4), torch.randn(1, 5, 4))
    torch.testing.assert_close(mine(input=few(), hx=state)[0], module()(input=few(), hx=state)[0])


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
        torch.distributed.destroy_process_group()


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
