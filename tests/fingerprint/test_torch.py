"""Tensors by content, dtype and shape, in keys by strides and device besides; modules, optimizers and generators."""

from __future__ import annotations

import copy
import itertools
import warnings
from importlib import import_module

import pytest
from tests.fingerprint.values import assert_all_differ

from memograd import Memo, NoIdentityError
from memograd.fingerprint import fingerprint
from memograd.fingerprint._content import KEY, identify, plainly
from memograd.fingerprint._form import Unidentified

torch = import_module("torch")


def different():
    zeros = torch.zeros(3)
    return [
        zeros, torch.zeros(4), torch.zeros(3, 1), torch.zeros(1, 3), torch.zeros(()), torch.zeros(0), torch.zeros(0, 3),
        torch.zeros(3, 0), torch.zeros(1000), torch.tensor([0.0, 0.0, -0.0]), torch.tensor([0.0, 0.0, torch.nan]),
        *(zeros.to(getattr(torch, name)) for name in DTYPES), torch.tensor([1j]), torch.tensor([1j]).conj(),
        zeros.to_sparse(), torch.eye(3).to_sparse(), torch.nn.Parameter(zeros, requires_grad=False), [0.0, 0.0, 0.0],
        torch.float32, torch.device("cpu"), torch.device("meta"), zeros.shape, torch.Size([1]), (3,), zeros.numpy(),
    ]  # fmt: skip


DTYPES = (
    "float64",
    "bfloat16",
    "float16",
    "int64",
    "int32",
    "uint8",
    "bool",
    "complex64",
    "float8_e4m3fn",
    "float8_e5m2",
)


def test_different_tensors_have_different_content():
    assert_all_differ(different())


@pytest.mark.parametrize(
    ("view", "same"),
    [
        (lambda t: t.clone(), True),
        (lambda t: torch.cat([t, t])[:3], True),
        (lambda t: t.detach(), True),
        (lambda t: t.transpose(0, 2).contiguous().transpose(0, 2), False),
        (lambda t: t.repeat_interleave(2, 0)[::2], False),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_strides_are_content(view, same, dtype):
    tensor = torch.arange(60).reshape(3, 4, 5).to(getattr(torch, dtype))
    assert (identify(view(tensor)) == identify(tensor)) is same


def test_a_tensor_of_other_strides_is_another_call():
    strides = Memo()(lambda x: x.stride())
    tensor = torch.arange(6).reshape(2, 3)
    assert strides(tensor) == (3, 1)
    assert strides(tensor.t().contiguous().t()) == (1, 2)


def test_a_lazy_conjugate_or_negative_has_the_content_that_it_shows():
    tensor = torch.randn(3, dtype=torch.complex64)
    shown, physical = tensor.conj(), tensor.conj_physical()
    for one, other in ((shown, physical), (shown.imag, physical.imag)):
        assert identify(one, plainly("xxh3")) == identify(other, plainly("xxh3"))
        assert identify(one) != identify(other)  # a function can see it


@pytest.mark.parametrize("change", [lambda t: t.add_(1), lambda t: t.data.add_(1), lambda t: t.numpy().__iadd__(1)])
def test_every_change_in_place_is_seen(change):
    tensor = torch.zeros(1000)
    before = identify(tensor)
    change(tensor)
    assert identify(tensor) != before == identify(torch.zeros(1000))


def test_whether_a_tensor_requires_grad_is_an_aspect():
    tensor = torch.zeros(100, requires_grad=True)
    assert identify(tensor) == identify(tensor.clone()) != identify(tensor.detach())
    assert fingerprint(tensor) == fingerprint(tensor.detach())


class Mine(torch.Tensor):
    pass


def in_columns(tensor):
    return tensor.transpose(0, -1).contiguous().transpose(0, -1)


def every_other(tensor):
    return tensor.repeat_interleave(2, 0)[::2]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 3, 4, 5), (2, 1), (40, 40)])
def test_the_fingerprint_of_a_tensor_is_the_same_for_every_layout(dtype, shape):
    tensor = torch.arange(torch.Size(shape).numel()).reshape(shape).to(getattr(torch, dtype))
    same = [in_columns(tensor), every_other(tensor), tensor.clone(), copy.deepcopy(tensor)]
    same += [tensor.to(memory_format=torch.channels_last)] if tensor.dim() == 4 else []
    assert {fingerprint(other) for other in same} == {fingerprint(tensor)}
    assert fingerprint(tensor.reshape(-1)) != fingerprint(tensor)


@pytest.mark.parametrize("writing", [KEY, plainly("xxh3"), plainly("blake2b")])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (12,), (13,), (5, 7), (1000,), (2,) * 12])
@pytest.mark.parametrize("grad", [False, True])
def test_the_quick_way_writes_what_the_walk_writes(writing, shape, grad):
    tensor = torch.randn(shape, requires_grad=grad)
    for value in (tensor, torch.nn.Parameter(tensor.detach(), requires_grad=grad)):
        # The first look prepares the quick way, the second takes it.
        first = identify(value, writing)
        assert writing.quick[type(value)](value) is not None
        assert identify(value, writing) == first


@pytest.mark.parametrize("shape", [(), (3,), (1000,)])
def test_the_quick_way_is_that_of_tensors_that_were_made_in_inference_mode_too(shape):
    plain = torch.randn(shape)
    with torch.inference_mode():
        made = plain.clone()
    for each in (plain, made):
        first = identify(each)
        assert KEY.quick[torch.Tensor](each) == identify(each) == first
    assert identify(plain) != identify(made)
    assert fingerprint(plain) == fingerprint(made)


def test_the_fingerprint_of_a_lazy_view_is_that_of_what_it_shows():
    tensor = torch.randn(30, dtype=torch.complex64)
    assert fingerprint(tensor.conj()) == fingerprint(tensor.conj().resolve_conj()) != fingerprint(tensor)
    assert fingerprint(tensor.conj().imag) == fingerprint(tensor.conj_physical().imag.contiguous())


@pytest.mark.parametrize("make", ["to_sparse_coo", "to_sparse_csr", "to_sparse_csc"])
def test_a_sparse_tensor_is_its_indices_and_its_values(make):
    def sparse(tensor):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return getattr(tensor, make)()

    eye, other = torch.eye(10), torch.eye(10)
    other[0, 0] = 2
    assert fingerprint(sparse(eye)) == fingerprint(sparse(eye.clone()))
    assert len({fingerprint(value) for value in (eye, sparse(eye), sparse(other), sparse(eye.double()))}) == 4


class Net(torch.nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.body = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5))
        self.recurrent = torch.nn.LSTM(4, 4)
        self.head = torch.nn.Linear(4, 4)
        self.register_buffer("scale", torch.ones(20))
        self.rate = 1.0


def tie(net):
    net.head.weight = net.body[0].weight


def equal_head(net):
    net.head.weight = torch.nn.Parameter(net.body[0].weight.detach().clone())


def hook(*_):
    return None


def another_hook(*_):
    return 1


CHANGES = {
    "weight in place": lambda net: net.head.weight.data.add_(1),
    "weight by numpy": lambda net: net.head.weight.detach().numpy().__iadd__(2),
    "one element": lambda net: net.recurrent.weight_hh_l0.data[3, 2].add_(1e-3),
    "equal weights": equal_head,
    "tied weights": tie,
    "buffer": lambda net: net.scale[3].add_(1),
    "statistics": lambda net: net.body[1].running_mean.add_(1),
    "eval": lambda net: net.eval(),
    "eval of one": lambda net: net.body[2].eval(),
    "dropout": lambda net: setattr(net.body[2], "p", 0.25),
    "attribute": lambda net: setattr(net, "rate", 2.0),
    "new attribute": lambda net: setattr(net, "more", None),
    "freeze": lambda net: net.head.requires_grad_(False),
    "dtype": lambda net: net.double(),
    "forward hook": lambda net: net.head.register_forward_hook(hook),
    "other forward hook": lambda net: net.head.register_forward_hook(another_hook),
    "forward hook elsewhere": lambda net: net.register_forward_hook(hook),
    "forward hook with keywords": lambda net: net.head.register_forward_hook(hook, with_kwargs=True),
    "forward hook in every case": lambda net: net.head.register_forward_hook(hook, always_call=True),
    "forward pre-hook": lambda net: net.head.register_forward_pre_hook(hook),
    "backward hook": lambda net: net.head.register_full_backward_hook(hook),
    "a layer less": lambda net: net.body.pop(2),
    "a layer more": lambda net: net.body.append(torch.nn.ReLU()),
    "another layer": lambda net: net.body.__setitem__(2, torch.nn.ReLU()),
    "another name": lambda net: (net.add_module("tail", net.head), delattr(net, "head")),
    "a parameter that is none": lambda net: net.register_parameter("nothing", None),
    "a buffer that is none": lambda net: net.register_buffer("nothing", None),
    "a module that is none": lambda net: net.register_module("nothing", None),
    "a buffer that is not saved": lambda net: net.register_buffer("scale", net.scale, persistent=False),
    "compiled in place": lambda net: net.head.compile(),
    "forward of its own": lambda net: setattr(net.head, "forward", hook),
}


def changed(change):
    net = Net()
    change(net)
    return net


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_change_of_a_module_is_another_content():
    nets = {"": Net(), **{name: changed(change) for name, change in CHANGES.items()}}
    for (name, first), (other, second) in itertools.combinations(nets.items(), 2):
        assert identify(first) != identify(second), (name, other)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_fingerprint_of_a_module_tells_all_but_aspects():
    nets = [Net(), *(changed(change) for name, change in CHANGES.items() if name != "freeze")]
    assert len({fingerprint(net) for net in nets}) == len(nets)
    assert fingerprint(changed(CHANGES["freeze"])) == fingerprint(Net())


def test_an_equal_module_has_equal_content_whatever_was_done_before():
    assert identify(Net()) == identify(Net()) == identify(copy.deepcopy(Net()))
    for _ in range(3):
        torch.nn.Linear(1, 1).register_forward_hook(hook)
    first = fingerprint(changed(CHANGES["forward hook with keywords"]))
    torch.nn.Linear(1, 1).register_forward_hook(hook)
    assert fingerprint(changed(CHANGES["forward hook with keywords"])) == first
    net = Net()
    before = fingerprint(net)
    handle = net.head.register_forward_hook(hook)
    assert fingerprint(net) != before
    handle.remove()
    assert fingerprint(net) == before


def test_a_module_that_is_used_stays_what_it_is():
    net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU())
    before = identify(net)
    net(torch.ones(2, 4)).sum().backward()
    assert identify(net) == before


def test_a_module_that_holds_itself_has_content():
    def parented():
        net = Net()
        net.top = [net]
        return net

    assert identify(parented()) == identify(parented()) != identify(Net())


def test_the_path_into_a_module_is_named():
    net = Net()
    net.body[2].source = iter(())
    with pytest.raises(Unidentified) as refused:
        identify({"model": [net]})
    assert refused.value.path == "['model'][0].body.2.source"


def test_extra_state_is_part_of_a_module():
    class Counting(torch.nn.Module):
        counts = {"calls": 0}  # noqa: RUF012 - reached, and not an attribute of the instance

        def get_extra_state(self):
            return {"state": STATE["state"]}

    before = identify(Counting())
    STATE["state"] += 1
    assert identify(Counting()) != before


STATE = {"state": 0}


def stepped(make, steps=1):
    net = Net()
    optimizer = make(net.parameters())
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    for _ in range(steps):
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam])
def test_an_optimizer_is_its_settings_its_parameters_and_its_state(make):
    optimizers = [
        stepped(make, 0),
        stepped(make, 1),
        stepped(make, 2),
        stepped(lambda p: make(p, lr=0.5), 0),
        stepped(torch.optim.RMSprop, 0),
    ]
    assert len({fingerprint(optimizer) for optimizer in optimizers}) == len(optimizers)
    assert fingerprint(stepped(make)) == fingerprint(stepped(make))


def test_a_scheduler_is_its_settings_and_its_optimizer():
    def scheduled(steps, gamma=0.5):
        optimizer = stepped(torch.optim.SGD)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma)
        for _ in range(steps):
            optimizer.step()
            scheduler.step()
        return scheduler

    assert fingerprint(scheduled(1)) == fingerprint(scheduled(1))
    assert len({fingerprint(each) for each in (scheduled(1), scheduled(2), scheduled(1, 0.25))}) == 3
    assert fingerprint(scheduled(1).optimizer) != fingerprint(stepped(torch.optim.SGD))


def test_an_attribute_of_a_subclass_of_an_optimizer_counts():
    class Mine(torch.optim.SGD):
        def __init__(self, parameters, scale=1):
            super().__init__(parameters)
            self.scale = scale

    assert fingerprint(stepped(Mine)) == fingerprint(stepped(Mine))
    assert fingerprint(stepped(Mine)) != fingerprint(stepped(lambda p: Mine(p, 2)))


def test_a_generator_is_its_device_and_its_state():
    first, second = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    assert fingerprint(first) == fingerprint(second)
    torch.rand(1, generator=first)
    assert fingerprint(first) != fingerprint(second)
    torch.rand(1, generator=second)
    assert fingerprint(first) == fingerprint(second)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_module_is_what_it_was_made_from():
    net = Net()
    assert fingerprint(torch.compile(net)) == fingerprint(torch.compile(Net())) != fingerprint(net)


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(3, device="meta"), torch.zeros(3).as_subclass(Mine), torch.nn.LazyLinear(3),
        torch.zeros(3).untyped_storage(),
    ],
)  # fmt: skip
def test_what_has_no_content_is_refused(value):
    with pytest.raises(Unidentified) as refused:
        identify({"model": [value]})
    assert refused.value.path.startswith("['model'][0]")


def test_a_tensor_under_a_transform_is_refused():
    seen = []

    def look(t):
        with pytest.raises(Unidentified):
            identify(t)
        seen.append(1)
        return t

    torch.func.vmap(look)(torch.zeros(2, 3))
    assert seen


@pytest.mark.gpu
def test_another_device_is_another_call():
    assert identify(torch.zeros(3)) != identify(torch.zeros(3, device="cuda"))
    assert identify(torch.ones(3, device="cuda")) == identify(torch.ones(3).cuda())


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64"])
def test_the_fingerprint_of_a_tensor_is_the_same_on_every_device(dtype):
    tensor = torch.arange(1000).to(getattr(torch, dtype))
    assert fingerprint(tensor.cuda()) == fingerprint(tensor)
    assert fingerprint(Net().cuda()) == fingerprint(Net())


def test_a_tensor_that_requires_grad_is_the_same_with_and_without_grad_mode():
    for value in (torch.ones(3, requires_grad=True), torch.nn.Parameter(torch.ones(3)), torch.ones(3)):
        identify(value)  # the quick way is there from the second time on
        inside = identify(value)
        with torch.no_grad():
            assert identify(value) == inside
    with torch.no_grad():
        assert identify(torch.ones(3)) != identify(torch.ones(3, requires_grad=True))


@pytest.mark.parametrize(
    "value",
    [
        torch.ones(4)[::2][:1],
        torch.ones(1, dtype=torch.complex64).conj().imag + 1,
        torch.ones(3, 4).t()[:1, :1].reshape(1),
    ],
)
def test_a_single_element_lies_in_order_whatever_its_stride(value):
    assert identify(value.detach(), plainly("xxh3")) == identify(torch.ones(1), plainly("xxh3"))


def test_an_optimizer_whose_state_was_loaded_is_the_same():
    def made():
        torch.manual_seed(0)
        return torch.optim.Adam(torch.nn.Linear(2, 2).parameters(), lr=0.1)

    one, other = made(), made()
    other.load_state_dict(one.state_dict())
    assert identify(one, plainly("xxh3")) == identify(other, plainly("xxh3"))


def test_what_the_compiler_notes_on_a_tensor_is_no_part_of_it():
    marked = torch.ones(3)
    marked._dynamo_dynamic_indices = {0}
    assert identify(marked) == identify(torch.ones(3))


def test_a_hook_of_a_weight_counts_by_its_code_and_not_by_what_it_gathers():
    gathered = []
    weight = torch.nn.Parameter(torch.ones(3))
    weight.register_hook(gathered.append)
    weight.register_hook(lambda grad: gathered.append(grad))
    before = identify(weight)
    weight.sum().backward()
    weight.grad = None
    assert len(gathered) == 2
    assert identify(weight) == before


@pytest.mark.parametrize("size", [4, 100, 1 << 23])
def test_a_tensor_that_was_looked_at_may_still_be_resized(size):
    tensor = torch.zeros(size)
    fingerprint(tensor), identify(tensor), identify(tensor)
    tensor.resize_(2 * size)
    assert tensor.shape == (2 * size,)
    assert tensor.untyped_storage().nbytes() == 8 * size
    tensor.untyped_storage().resize_(0)
    assert tensor.untyped_storage().nbytes() == 0


def test_what_lies_elsewhere_is_not_read_at_its_address():
    base = torch.arange(24.0).reshape(4, 6)
    views = [base[1:], base[:, 1:], base.t(), base[::2], base[2], base[2, 3], base.view(torch.int32), base[:0]]
    for view in views * 2:
        assert identify(view, plainly("xxh3")) == identify(view.clone(), plainly("xxh3"))


def freed():
    tensor = torch.ones(4)
    tensor.untyped_storage().resize_(0)
    return tensor


def shrunk():
    tensor = torch.ones(1_000_000)
    identify(tensor), identify(tensor)
    tensor.untyped_storage().resize_(4)
    return tensor


@pytest.mark.parametrize("make", [freed, shrunk, lambda: torch._efficientzerotensor(4)])
def test_a_tensor_without_its_memory_is_refused(make):
    identify(torch.ones(4)), identify(torch.ones(4))
    for look in (identify, fingerprint):
        with pytest.raises((Unidentified, NoIdentityError), match="without the memory that its shape needs"):
            look(make())
