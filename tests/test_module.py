"""`memo(module)`: a module that remembers its calls, and is to the rest of PyTorch what the module is."""

from __future__ import annotations

import copy
import gc
import inspect
import io
import pickle
import threading
import types
import weakref
from abc import ABC, abstractmethod

import pytest
import torch
from tests.pytorch_modules import names, samples
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.optim.swa_utils import AveragedModel

from memograd import Memo, MemogradWarning, NoIdentityError, fingerprint, memo
from memograd._module import NAMES, MemoModule

X = torch.linspace(-1, 1, 15).reshape(5, 3)


class Net(nn.Module):
    """Two layers, a dropout, an option, and a count of what was really computed."""

    computed = 0

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
        self.dropout = nn.Dropout(p)
        self.config = {"p": p}

    def forward(self, x, scale=1.0, *, shift=0.0):
        count()
        return self.dropout(self.inner(x)) * scale + shift

    def twice(self, x):
        return self(self(x))


def count():
    with torch.no_grad():
        COUNT.append(None)


class Log(list):
    """A list that no key is made of."""


COUNT = Log()
fingerprint.register(Log, lambda log: ())


@pytest.fixture(autouse=True)
def _from_nothing():
    COUNT.clear()
    torch.manual_seed(0)


def wrapped(p: float = 0.0, **how):
    """A module, and the same remembered, in a memory of its own."""
    net = Net(p)
    return net, Memo()(net, **how)


def same(one, other):
    return one.dtype == other.dtype and one.stride() == other.stride() and torch.equal(one, other)


# What it gives.


@pytest.mark.parametrize("grad", [False, True])
def test_a_second_call_is_not_computed_and_gives_the_same_bits(grad):
    net, mine = wrapped()
    with torch.set_grad_enabled(grad):
        plain = net(X)
        COUNT.clear()
        results = [mine(X) for _ in range(3)]
    assert all(same(result, plain) and result.requires_grad == grad for result in results)
    assert (len(COUNT), mine.cache_info()[:2]) == (1, (2, 1))


def test_position_keyword_and_default_are_one_entry():
    _, mine = wrapped()
    with torch.no_grad():
        mine(X), mine(x=X), mine(X, 1.0), mine(X, scale=1.0), mine(X, shift=0.0)
        assert mine.cache_info()[:2] == (4, 1)
        mine(X, 2.0), mine(X, shift=1.0)
    assert mine.cache_info()[:2] == (4, 3)


def gradients(module, x, calls):
    module.zero_grad()
    x = x.clone().requires_grad_()
    outputs = [module(x) for _ in range(calls)]
    sum(output.square().sum() for output in outputs).backward()
    return [x.grad, *(p.grad for p in module.parameters())]


def test_a_call_gives_the_gradients_of_the_plain_one_to_the_bit():
    net, mine = wrapped()
    plain = gradients(copy.deepcopy(net), X, 1)
    assert all(map(same, gradients(mine, X, 1), plain))
    assert all(map(same, gradients(mine, X, 1), plain))
    assert all(p.grad is q.grad for p, q in zip(mine.parameters(), net.parameters(), strict=True))


def test_gradients_through_hits_add_up_as_those_of_plain_calls():
    net, mine = wrapped()
    net.double(), COUNT.clear()
    torch.testing.assert_close(gradients(mine, X.double(), 3), gradients(copy.deepcopy(net), X.double(), 3))
    assert mine.cache_info()[:2] == (2, 1)


def tensors(value):
    """List the tensors of nested values."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, PackedSequence):
        return [value.data, value.batch_sizes]
    values = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for one in values for tensor in tensors(one)]


def fresh(value):
    """Copy nested values, so that the tensors among them are leaves."""
    if isinstance(value, Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if isinstance(value, PackedSequence):
        return PackedSequence(fresh(value.data), *value[1:])
    if isinstance(value, dict):
        return {name: fresh(one) for name, one in value.items()}
    return type(value)(map(fresh, value)) if isinstance(value, (list, tuple)) else value


def told(sample, wrap, *, grad):
    """Call a module twice; give all that there is to see, each time: outputs, gradients, buffers, the next draw."""
    module = wrap(sample.make())
    args, kwargs = fresh((sample.args, sample.kwargs))
    seen, held = [], []
    for _ in range(2):
        torch.manual_seed(1)
        leaves = [*tensors((args, kwargs)), *module.parameters()]
        for leaf in leaves:
            leaf.grad = None
        with torch.set_grad_enabled(grad):
            outputs = tensors(module(*args, **kwargs))
        graded = [output for output in outputs if output.requires_grad]
        if graded:
            sum((y * torch.linspace(1, 2, y.numel()).view(y.shape)).sum() for y in graded).backward()
        leaves = [*tensors((args, kwargs)), *module.parameters()]
        seen += [torch.rand(1), *outputs, *(leaf.grad for leaf in leaves), *fresh([*module.buffers()])]
        held += outputs
    return module, seen


def alike(one, other):
    if one is None or other is None:
        return one is other
    alike = (one.shape, one.dtype, one.stride(), one.requires_grad)
    there = (other.shape, other.dtype, other.stride(), other.requires_grad)
    return alike == there and torch.equal(one.detach().nan_to_num(7), other.detach().nan_to_num(7))


# They change their buffers in training, or get their weights in the first call.
COMPUTED = ("nn.BatchNorm", "nn.InstanceNorm", "nn.Lazy")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", names())
def test_pytorchs_own_samples_give_the_plain_bits_cold_and_warm(name, training):
    every = list(samples(name, training=training))
    for sample, grad in [(every[0], True), (every[len(every) // 2], False)]:
        _, plain = told(sample, lambda module: module, grad=grad)
        mine, seen = told(sample, Memo(), grad=grad)
        assert len(plain) == len(seen)
        assert all(map(alike, plain, seen))
        assert mine.cache_info().hits == 1 or name.startswith(COMPUTED)


@pytest.mark.parametrize("cell", [nn.RNN, nn.LSTM, nn.GRU])
def test_a_recurrent_module_takes_packed_sequences_and_states(cell):
    rnn = cell(3, 4, batch_first=True)
    mine = Memo()(rnn)
    x = pack_padded_sequence(torch.randn(3, 5, 3), [5, 4, 2], batch_first=True)
    _, h = mine(x)
    again, _ = mine(x)
    assert isinstance(again, PackedSequence)
    assert same(again.data, rnn(x)[0].data)
    assert all(map(same, tensors(mine(x, h)), tensors(rnn(x, h))))
    assert mine.cache_info()[:2] == (1, 2)


# Never stale.


def test_an_optimizer_step_makes_another_call_of_it_at_once():
    net, mine = wrapped()
    descent = torch.optim.SGD(mine.parameters(), lr=0.1)
    first = mine(X)
    first.sum().backward()
    descent.step()
    assert same(mine(X), net(X))
    assert not torch.equal(mine(X), first)
    assert mine.cache_info().misses == 2


def test_a_step_back_finds_what_was_remembered():
    net, mine = wrapped()
    before = copy.deepcopy(net.state_dict())
    with torch.no_grad():
        first = mine(X)
        net.inner[0].weight.add_(1)
        assert not torch.equal(mine(X), first)
        mine.load_state_dict(before)
        assert torch.equal(mine(X), first)
    assert mine.cache_info()[:2] == (1, 2)


def changed_forward(self, x, scale=2.0, *, shift=0.0, more=0.0):
    return self.inner(x) * scale + shift + more


EDITS = {
    "eval": lambda net: net.eval(),
    "load_state_dict": lambda net: net.load_state_dict(Net().state_dict()),
    "a weight that is set": lambda net: setattr(net.inner[0], "weight", nn.Parameter(torch.ones(4, 3))),
    "a submodule that is set": lambda net: setattr(net, "inner", nn.Linear(3, 3)),
    "an attribute": lambda net: net.config.update(p=3),
    "requires_grad_": lambda net: net.requires_grad_(False),
    "a forward hook": lambda net: net.register_forward_hook(lambda module, args, output: output + 1),
    "a hook of a submodule": lambda net: net.inner.register_forward_pre_hook(lambda module, args: (args[0] + 1,)),
    "pruning": lambda net: prune.random_unstructured(net.inner[0], "weight", 0.5),
    "a parametrization": lambda net: parametrize.register_parametrization(net.inner[0], "weight", nn.Tanh()),
    "a forward of its own": lambda net: setattr(net, "forward", lambda x: x + 1),
    "a bound forward of its own": lambda net: setattr(net, "forward", types.MethodType(changed_forward, net)),
}


@pytest.mark.filterwarnings("ignore:.*not remembered")
@pytest.mark.parametrize("side", ["plain", "mine"])
@pytest.mark.parametrize("edit", EDITS)
def test_what_is_done_to_either_is_seen_by_both(edit, side):
    net, mine = wrapped()
    mine(X)
    EDITS[edit](net if side == "plain" else mine)
    results = [mine(X), mine(X), net(X)]
    assert all(same(one, results[-1]) and one.requires_grad == results[-1].requires_grad for one in results)
    assert mine.cache_info().misses >= 2


def test_a_class_that_gets_another_forward_takes_what_that_takes():
    class Changing(nn.Module):
        def forward(self, x, k=2):
            return x * k

    net = Changing()
    mine = Memo()(net)
    assert same(mine(X), X * 2)
    Changing.forward.__defaults__ = (3,)
    assert same(mine(X), X * 3)
    Changing.forward = lambda self, x, k=4, *, more=1: x * k + more
    assert same(mine(X), X * 4 + 1)
    assert same(mine(X, more=2), X * 4 + 2)
    Changing.forward.__kwdefaults__ = {"more": 5}
    assert same(mine(X), X * 4 + 5)


def test_hooks_of_all_modules_make_a_call_plain_and_said():
    net, mine = wrapped()
    with torch.no_grad():
        mine(X)
        for shift in (1, 2):
            hook = nn.modules.module.register_module_forward_hook(lambda module, args, out, shift=shift: out + shift)
            try:
                with pytest.warns(MemogradWarning, match="hooks of all modules") if shift == 1 else threading.Lock():
                    result = mine(X)
                assert same(result, net(X))
            finally:
                hook.remove()
        assert same(mine(X), net(X))
    assert (mine.cache_info()[:2], mine.stats().bypasses) == ((1, 1), 2)


# Draws and changes.


def test_a_dropout_draws_as_the_plain_module_does():
    net, mine = wrapped(p=0.5)

    def run(module):
        torch.manual_seed(3)
        return [*(module(X) for _ in range(4)), torch.rand(2)]

    with torch.no_grad():
        plain, cold, warm = run(net), run(mine), run(mine)
    assert all(map(same, plain, cold))
    assert all(map(same, plain, warm))
    assert mine.cache_info()[:2] == (4, 4)
    assert not torch.equal(cold[0], cold[1])


def test_batch_norm_in_training_is_computed_each_time_and_said_once():
    net = nn.BatchNorm1d(3)
    plain, mine = copy.deepcopy(net), Memo()(net)
    with pytest.warns(MemogradWarning, match="BatchNorm1d") as said:
        results = [mine(X) for _ in range(3)]
    assert len(said) == 1
    assert all(same(result, plain(X)) for result in results)
    assert same(net.running_mean, plain.running_mean)
    assert mine.cache_info()[:2] == (0, 3)
    mine.eval(), plain.eval()
    assert same(mine(X), plain(X))
    assert same(mine(X), plain(X))
    assert mine.cache_info().hits == 1


# Hooks.


def test_a_forward_hook_counts_and_is_called_where_the_module_is():
    net, mine = wrapped()
    calls = Log()
    mine.register_forward_hook(lambda module, args, output: calls.append(module) or output * 2)
    with torch.no_grad():
        assert same(mine(X), mine(X))
    assert len(calls) == 1
    assert calls[0] is net


def test_hooks_see_arguments_as_they_were_passed():
    net, mine = wrapped()
    seen = Log()
    net.register_forward_pre_hook(lambda module, args, kwargs: seen.append((len(args), [*kwargs])), with_kwargs=True)
    with torch.no_grad():
        mine(X), mine(x=X), mine(X, 1.0), mine(X, scale=1.0), mine(X)
    assert seen == [(1, []), (0, ["x"]), (2, []), (1, ["scale"])]


def test_a_hook_that_notes_what_it_sees_makes_a_call_plain_and_said():
    net, mine = wrapped()
    notes = []
    net.register_forward_hook(lambda module, args, output: notes.append(output.sum()))
    with torch.no_grad(), pytest.warns(MemogradWarning, match="not remembered"):
        mine(X), mine(X)
    assert len(notes) == 2


def test_backward_hooks_are_called_once_a_backward():
    net, mine = wrapped()
    seen = Log()
    net.register_full_backward_hook(lambda module, to, come: seen.append(come[0].sum().item()))
    x = X.clone().requires_grad_()
    (mine(x).sum() + mine(x).sum()).backward()
    assert seen == [2.0 * X.numel()]


# What it is to the rest of PyTorch.


def test_it_is_an_instance_of_what_it_wraps_with_all_that_is_its_own():
    net, mine = wrapped()
    assert isinstance(mine, Net)
    assert isinstance(mine, MemoModule)
    assert mine.__wrapped__ is net
    assert mine.config is net.config
    assert len(Memo()(net.inner)) == 3
    assert Memo()(net.inner)[0] is net.inner[0]
    assert inspect.signature(mine.forward) == inspect.signature(net.forward)
    assert same(mine.forward(X), net.forward(X))
    assert mine.cache_info().misses == 0


def test_methods_that_call_the_module_call_what_remembers():
    net, mine = wrapped()
    with torch.no_grad():
        assert same(mine.twice(X), net.twice(X))
        mine.twice(X)
    assert mine.cache_info()[:2] == (2, 2)


def test_state_and_parameters_are_the_modules():
    net, mine = wrapped()
    assert list(mine.state_dict()) == list(net.state_dict())
    assert [*map(id, mine.parameters())] == [*map(id, net.parameters())]
    assert [*map(id, mine.children())] == [*map(id, net.children())]
    assert [name for name, _ in mine.named_modules()] == [name for name, _ in net.named_modules()]
    assert net not in list(mine.modules())


def test_inside_a_model_it_adds_no_keys():
    net, mine = wrapped()
    assert list(nn.Sequential(mine).state_dict()) == list(nn.Sequential(net).state_dict())


@pytest.mark.parametrize("side", ["plain", "mine"])
def test_modes_dtypes_and_flags_are_those_of_both(side):
    net, mine = wrapped()
    one = net if side == "plain" else mine
    assert one.eval() is one
    assert one.double() is one
    assert one.requires_grad_(False) is one
    for each in (net, mine):
        assert not each.training
        assert not each.dropout.training
        assert {(p.dtype, p.requires_grad) for p in each.parameters()} == {(torch.float64, False)}
    one.extra = nn.Parameter(torch.ones(1))
    assert net.extra is mine.extra
    del one.extra
    assert not hasattr(net, "extra")
    assert not hasattr(mine, "extra")


def test_methods_that_a_class_overrides_are_its_own():
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(3)

        def train(self, mode=True):
            super().train(mode)
            self.norm.eval()
            return self

        def forward(self, x):
            return self.norm(x)

    mine = Memo()(Frozen())
    assert mine.train() is mine
    assert not mine.norm.training
    mine(X), mine(X)
    assert mine.cache_info()[:2] == (1, 1)


def test_names_of_the_modules_own_come_first():
    class Busy(nn.Module):
        def __init__(self):
            super().__init__()
            self.stats = nn.Parameter(torch.ones(3))
            self.register_buffer("forget", torch.ones(3))
            self.cached = 7

        def explain(self):
            return self.stats.sum() + self.forget.sum() + self.cached

        def forward(self, x):
            return x * self.stats

    net = Busy()
    mine = Memo()(net)
    assert mine.stats is net.stats
    assert mine.forget is net.forget
    assert (mine.cached, mine.explain()) == (7, 13)
    assert same(mine(X), net(X))
    assert mine.cache_info().misses == 1


def test_repr_shows_the_module():
    net, mine = wrapped()
    assert repr(mine) == f"memo({net!r})"
    assert "(0): memo(Net(" in repr(nn.Sequential(mine))


def test_no_registry_is_told_of_the_class():
    known = []

    class Base(nn.Module, ABC):
        def __init_subclass__(cls, *, tag, **rest):
            super().__init_subclass__(**rest)
            known.append(tag)

        @abstractmethod
        def forward(self, x): ...

    class Kind(Base, tag="kind"):
        def forward(self, x):
            return x + 1

    assert same(Memo()(Kind())(X), X + 1)
    assert known == ["kind"]


def trained(wrap):
    torch.manual_seed(0)
    model = nn.Sequential(wrap(Net(0.1)), nn.Linear(3, 3), wrap(nn.GRUCell(3, 3)), nn.LayerNorm(3))
    descent = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for step in range(6):
        model.train(step % 3 != 2)
        descent.zero_grad()
        loss = model(X + step % 2).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        descent.step()
        losses.append(loss.detach())
    return [*losses, *model.state_dict().values(), torch.rand(1)]


def test_a_model_with_it_inside_trains_as_the_plain_one_to_the_bit():
    assert all(map(same, trained(Memo()), trained(lambda module: module)))


def test_one_within_another_gives_the_plain_bits_and_gradients():
    lab, net = Memo(), Net()
    model = nn.Sequential(net, nn.Tanh(), net)
    mine = lab(nn.Sequential(lab(net), nn.Tanh(), lab(net)))
    plain = gradients(model, X, 1)
    for _ in range(2):
        assert all(map(same, gradients(mine, X, 1), plain))
    assert mine.cache_info()[:2] == (1, 1)


def test_two_over_one_module_share_its_state_and_not_their_results():
    net, one = wrapped()
    other = Memo()(net)
    with torch.no_grad():
        assert same(one(X), other(X))
        one(X)
    assert (one.cache_info()[:2], other.cache_info()[:2]) == ((1, 1), (0, 1))
    other.eval()
    assert not one.training


def test_over_one_that_remembers_it_is_one_over_the_module():
    net, mine = wrapped()
    again = Memo(max_entries=3)(mine)
    assert again.__wrapped__ is net
    assert (type(again), again.cache_parameters()["maxsize"]) == (type(mine), 3)


def test_it_remembers_what_a_scan_gives():
    rnn = nn.LSTM(3, 4, batch_first=True)
    x = torch.randn(1, 40, 3).expand(20, 40, 3)
    for mine in (Memo()(memo.scan(rnn, engine="levels")), memo.scan(Memo()(rnn), engine="levels")):
        with torch.no_grad():
            first, second = mine(x)[0], mine(x)[0]
            mine(x[:, :20])
            mine(x)
        assert same(first, second)
        torch.testing.assert_close(first, rnn(x)[0])
        assert (mine.cache_info()[:2], mine.receipt.engine) == ((2, 2), "levels")


# Copies, and where it can go.


def test_a_deep_copy_is_one_of_a_deep_copy():
    net, mine = wrapped(max_entries=5)
    with torch.no_grad():
        mine(X)
        other = copy.deepcopy(mine)
        other.inner[0].weight.add_(1)
        assert not torch.equal(other(X), mine(X))
        assert same(other(X), other.__wrapped__(X))
    assert other.__wrapped__ is not net
    assert (mine.cache_info(), other.cache_info()) == ((1, 1, 5, 1), (1, 1, 5, 1))


def test_a_deep_copy_of_a_model_keeps_what_it_shares():
    net, mine = wrapped()
    model = copy.deepcopy(nn.ModuleList([net, mine]))
    assert model[1].__wrapped__ is model[0]


def test_an_average_of_weights_is_one_of_its_own():
    net, mine = wrapped()
    average = AveragedModel(mine)
    average.update_parameters(mine)
    with torch.no_grad():
        net.inner[0].weight.add_(1)
    assert isinstance(average.module, MemoModule)
    assert not torch.equal(average(X), mine(X))


@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_it_pickles_with_its_options_and_without_results(protocol):
    net, mine = wrapped(max_entries=7, store={})
    mine(X)
    other = pickle.loads(pickle.dumps(mine, protocol))  # noqa: S301 - its own pickle
    assert (type(other), other.cache_info()) == (type(mine), (0, 0, 7, 0))
    assert same(other(X), net(X))


def test_a_model_with_it_inside_is_saved_and_loaded_whole():
    net, mine = wrapped()
    file = io.BytesIO()
    torch.save(nn.Sequential(mine), file)
    file.seek(0)
    (other,) = torch.load(file, weights_only=False)
    assert isinstance(other, MemoModule)
    assert same(other(X), net(X))


def test_nothing_keeps_the_module_alive():
    lab = Memo()
    net = Net()
    mine = lab(net)
    with torch.no_grad():
        mine(X)
    kept = mine(X)
    gone = weakref.ref(net), weakref.ref(mine)
    del net, mine
    gc.collect()
    assert [ref() for ref in gone] == [None, None]
    kept.sum().backward()
    lab(lambda: 0)()
    assert len(lab.store) == 1


def test_it_takes_what_a_compiler_has_made():
    net = Net()
    mine = Memo()(torch.compile(net, backend="eager"))
    assert list(mine.state_dict()) == [f"_orig_mod.{name}" for name in net.state_dict()]
    assert all(same(mine(X), net(X)) for _ in range(2))
    assert not mine.eval().training
    assert not net.training
    assert mine.cache_info()[:2] == (1, 1)


def test_in_a_compiled_model_it_remembers():
    _, mine = wrapped()
    model = nn.Sequential(nn.Linear(3, 3), mine)
    compiled = torch.compile(model, backend="eager")
    assert same(compiled(X), model(X))
    assert mine.cache_info()[:2] == (1, 1)


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_tracers_look_through_it():
    _, mine = wrapped()
    model = nn.Sequential(mine, nn.Linear(3, 2)).eval()
    mine(X)
    traced = torch.jit.trace(model, X)
    graph = torch.fx.symbolic_trace(nn.Sequential(Memo()(nn.Linear(3, 2)))).graph
    exported = torch.export.export(model, (X,)).module()
    for made in (traced, exported):
        torch.testing.assert_close(made(X + 1), model(X + 1))
    assert [node.target for node in graph.nodes if node.op == "call_module"] == ["0"]


def test_transforms_are_computed_plainly_and_said():
    net, mine = wrapped()
    weights = {name: p.detach() for name, p in net.named_parameters()}

    def loss(module):
        return torch.func.grad(lambda w: torch.func.functional_call(module, w, (X,)).sum())(weights)

    with pytest.warns(MemogradWarning, match=r"torch\.func"):
        mine_first = loss(mine)
    assert all(map(same, mine_first.values(), loss(net).values()))


def test_weights_that_depend_on_others_get_their_gradients():
    net, mine = wrapped()
    rate = torch.tensor(0.5, requires_grad=True)

    def meta(module):
        weights = {name: p.detach() * rate for name, p in net.named_parameters()}
        return torch.autograd.grad(torch.func.functional_call(module, weights, (X,)).sum(), rate)[0]

    with pytest.warns(MemogradWarning, match="is no leaf"):
        first = meta(mine)
    assert same(first, meta(net))
    assert same(meta(mine), first)


def test_threads_compute_once():
    net, mine = wrapped()
    results = []

    def run():
        with torch.no_grad():
            results.append(mine(X))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with torch.no_grad():
        assert all(same(result, net(X)) for result in results)
    assert mine.cache_info()[:2] == (7, 1)


# Lazy modules and parametrizations: the class of a module may change.


@pytest.mark.filterwarnings("error")
def test_the_first_call_gives_lazy_weights_their_shape():
    net = nn.Sequential(nn.LazyLinear(4), nn.Tanh(), nn.LazyLinear(2))
    mine = Memo(strict=True)(net)
    assert "LazyLinear" in repr(mine)
    assert all(same(mine(X), net(X)) for _ in range(3))
    assert mine.cache_info()[:2] == (1, 1)


def test_a_lazy_module_becomes_what_it_is_to_become():
    net = nn.LazyLinear(4)
    mine = Memo()(net)
    assert isinstance(mine, nn.LazyLinear)
    mine(X), mine(X)
    assert isinstance(mine, nn.Linear)
    assert not isinstance(mine, nn.LazyLinear)
    assert list(mine.state_dict()) == ["weight", "bias"]


@pytest.mark.parametrize("side", ["before", "plain", "mine"])
def test_a_parametrization_of_its_own_weight_is_seen(side):
    net = nn.Linear(3, 3)
    weight = net.weight.detach().clone()
    if side == "before":
        parametrize.register_parametrization(net, "weight", nn.Tanh())
    mine = Memo()(net)
    mine(X)
    if side != "before":
        parametrize.register_parametrization(net if side == "plain" else mine, "weight", nn.Tanh())
    assert same(mine.weight, weight.tanh())
    assert same(mine(X), nn.functional.linear(X, weight.tanh(), mine.bias))
    if side != "before":
        parametrize.remove_parametrizations(net if side == "plain" else mine, "weight", leave_parametrized=False)
        assert same(mine(X), nn.functional.linear(X, weight, mine.bias))
        assert same(mine(X), net(X))


@pytest.mark.parametrize("first", ["plain", "mine"])
@pytest.mark.parametrize("second", ["plain", "mine"])
def test_a_parametrization_that_is_registered_on_either_is_that_of_both(first, second):
    net = nn.Linear(3, 3)
    mine = Memo(strict=True)(net)
    both = {"plain": net, "mine": mine}
    keys = [mine.cache_key(X)]
    parametrize.register_parametrization(both[first], "weight", nn.Tanh())
    keys.append(mine.cache_key(X))
    parametrize.register_parametrization(both[second], "bias", nn.Sigmoid())
    keys.append(mine.cache_key(X))
    assert len(set(keys)) == 3
    for each in both.values():
        assert same(each.weight, net.parametrizations.weight.original.tanh())
        assert same(each.bias, net.parametrizations.bias.original.sigmoid())
        assert isinstance(each, nn.Linear)
        assert not each._parameters
    assert [same(mine(X), net(X)) for _ in range(3)] == [True] * 3
    assert mine.cache_info()[:2] == (2, 1)
    for one, other in (("weight", second), ("bias", first)):
        parametrize.remove_parametrizations(both[other], one)
    assert type(net) is nn.Linear
    assert list(net.state_dict()) == list(mine.state_dict()) == ["weight", "bias"]
    assert same(mine(X), net(X))
    assert mine.weight is net.weight


def test_what_is_assigned_to_a_parametrized_weight_goes_to_the_parametrization_on_either_side():
    class Doubled(nn.Module):
        def forward(self, weight):
            return 2 * weight

        def right_inverse(self, weight):
            return weight / 2

    net = nn.Linear(3, 3)
    mine = Memo()(net)
    parametrize.register_parametrization(net, "weight", Doubled())
    mine.weight = torch.ones(3, 3)
    assert net.parametrizations.weight.original.unique().tolist() == [0.5]
    assert "weight" not in vars(net)


def test_a_class_from_which_none_can_be_derived_is_refused_before_anything_is_changed():
    class Final(type(nn.Linear)):
        def mro(cls):
            if len(cls.__bases__) > 1:
                raise TypeError("sealed")
            return super().mro()

    class OfFinal(nn.Linear, metaclass=Final):
        pass

    net = nn.Linear(3, 3)
    mine = Memo()(net)
    with pytest.raises(TypeError, match="from which no class can be derived: sealed"):
        mine.__class__ = OfFinal
    assert (type(net), mine.__class__) == (nn.Linear, nn.Linear)
    assert same(mine(X), net(X))


# The names of a memoized function.


def test_it_has_every_name_of_a_memoized_function():
    _, mine = wrapped()
    function = memo(lambda x: x)
    assert {name for name in vars(function) if not name.startswith("_")} == NAMES
    assert set(dir(mine)) >= NAMES
    assert all(callable(getattr(mine, name)) for name in NAMES)


def test_names_take_what_the_call_takes():
    _, mine = wrapped()
    with torch.no_grad():
        assert not mine.cached(X)
        mine(X)
        assert mine.cached(X, 1.0)
        assert mine.cached(x=X)
        assert repr(mine.cache_key(X)) == "Net(self=<Net>, x=<Tensor (5, 3)>, scale=1.0, shift=0.0)"
        assert mine.cache_key(X) == mine.cache_key(x=X, shift=0.0)
        assert mine.explain(X).remembered
        assert mine.forget(X)
        assert not mine.forget(X)
        mine(X)
    assert (mine.cache_info()[:2], mine.stats().puts) == ((0, 2), 2)
    mine.cache_clear()
    assert mine.cache_info() == (0, 0, None, 0)


@pytest.mark.parametrize("decorate", [memo, Memo(), memo(max_entries=3), Memo(max_entries=3, strict=True)])
def test_every_way_to_write_it_gives_a_module(decorate):
    assert isinstance(decorate(Net()), MemoModule)


def test_a_class_of_modules_is_a_function_like_any_other():
    assert not isinstance(memo(Net), nn.Module)


def test_options_are_those_of_functions():
    seen = {}
    _, mine = wrapped(store=seen)
    with torch.no_grad():
        mine(X)
        assert [repr(key) for key in seen] == ["Net(self=<Net>, x=<Tensor (5, 3)>, scale=1.0, shift=0.0)"]
        _, off = wrapped(mode="off")
        off(X), off(X)
        assert off.cache_info().misses == 0
        net, itself = wrapped(per="instance")
        first = itself(X)
        net.inner[0].weight.add_(1)
        assert same(itself(X), first)


# What is wrong is said, by the module or by memo.

WRONG = {
    "nothing": lambda net: net(),
    "too much": lambda net: net(X, 1.0, 2.0),
    "an unknown name": lambda net: net(X, wrong=1),
    "another shape": lambda net: net(torch.ones(2, 2)),
    "another type": lambda net: net("no tensor"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_the_module_refuses_is_refused_in_its_words(wrong):
    net, mine = wrapped()
    with pytest.raises(Exception) as plain:  # noqa: PT011 - whatever it is
        WRONG[wrong](net)
    with pytest.raises(type(plain.value)) as said:
        WRONG[wrong](mine)
    assert str(said.value) == str(plain.value)


def test_an_argument_without_identity_is_computed_and_said_or_raised():
    def call(**how):
        _, mine = wrapped(**how)
        return mine(X, shift=iter(()))

    with pytest.warns(MemogradWarning, match=r"^Net\(\): args\.shift is of type"), pytest.raises(TypeError):
        call()
    with pytest.raises(NoIdentityError, match=r"args\.shift"):
        call(strict=True)


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_a_scripted_module_is_refused_with_what_to_write():
    scripted = torch.jit.script(nn.Linear(3, 3))
    with pytest.raises(
        TypeError, match=r"^memo\(\) got a RecursiveScriptModule, .* write memo\(module\) for the module"
    ):
        memo(scripted)


def test_a_module_of_which_no_class_can_be_derived_is_refused_with_what_to_write():
    class Slotted(nn.Module):
        __slots__ = ("own",)

        def forward(self, x):
            return x

    with pytest.raises(TypeError, match=r"from which no class can be derived.*write a function that calls the module"):
        memo(Slotted())
