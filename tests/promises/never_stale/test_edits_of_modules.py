"""One edit of a module, an optimizer or a scheduler, be it one bit of one weight, and the call is another call."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from memograd import Memo, fingerprint

STATE = {"of one's own": 0}


class Net(nn.Module):
    """One of each kind of thing that a module holds."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embedding = nn.Embedding(5, 4)
            self.recurrent = nn.LSTM(4, 4, num_layers=2)
            self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5))
            self.attention = nn.MultiheadAttention(4, 2)
            self.heads = nn.ModuleDict({"a": nn.Linear(4, 2), "b": nn.Linear(4, 2)})
            self.free = nn.ParameterList([torch.randn(3), torch.randn(3)])
            self.register_buffer("scale", torch.ones(20))
            self.register_buffer("hidden", torch.ones(2), persistent=False)
        self.rate = 1.0
        self.sizes = [4, {"a": 2}]

    def forward(self, x):
        return self.heads["a"](self.body(x)) * self.rate

    def get_extra_state(self):
        return dict(STATE)


class Loud(nn.Linear):
    """A layer with the parameters of another one."""

    def forward(self, x):
        return super().forward(x) * 2


def flip(tensor, bit=0):
    """Flip the lowest bit of the first byte of a tensor, whatever it holds."""
    tensor.detach().view(-1).view(torch.uint8)[bit] ^= 1


def swapped(net):
    other = Loud(4, 4)
    other.load_state_dict(net.body[0].state_dict())
    net.body[0] = other


def exchanged(net):
    net.body[2], net.body[3] = net.body[3], net.body[2]


def in_columns(tensor):
    return tensor.t().contiguous().t()


def renamed(net):
    net.heads.a.register_parameter("gain", net.heads.a.bias)
    del net.heads.a.bias


def hook(*_):
    return None


def another_hook(*_):
    return 1


NAMES = [name for name, _ in Net().named_parameters()]
BUFFERS = [name for name, _ in Net().named_buffers()]

WEIGHTS = {
    **{f"a bit of {name}": lambda net, name=name: flip(net.get_parameter(name)) for name in NAMES},
    **{f"the last byte of {name}": lambda net, name=name: flip(net.get_parameter(name), -1) for name in NAMES},
    **{f"a bit of {name}": lambda net, name=name: flip(net.get_buffer(name)) for name in BUFFERS},
}
REST = {
    "training that becomes evaluation": lambda net: net.eval(),
    "the mode of one layer": lambda net: net.body[1].eval(),
    "the mode of the module alone": lambda net: setattr(net, "training", False),
    "the probability of a dropout": lambda net: setattr(net.body[3], "p", 0.25),
    "the momentum of a norm": lambda net: setattr(net.body[1], "momentum", 0.2),
    "the epsilon of a norm": lambda net: setattr(net.body[1], "eps", 1e-3),
    "an attribute": lambda net: setattr(net, "rate", 2.0),
    "the type of an attribute": lambda net: setattr(net, "rate", 1),
    "a note on a weight": lambda net: setattr(net.heads.a.weight, "decays", False),
    "a note on a buffer": lambda net: setattr(net.scale, "decays", False),
    "an attribute more": lambda net: setattr(net, "more", None),
    "a list of the module": lambda net: net.sizes[1].update(a=3),
    "extra state": lambda _: STATE.update({"of one's own": 1}),
    "a frozen parameter": lambda net: net.heads.a.weight.requires_grad_(False),
    "a layer's dtype": lambda net: net.heads.a.double(),
    "a parameter's layout": lambda net: setattr(net.heads.a.weight, "data", in_columns(net.heads.a.weight.data)),
    "a layer of another class": lambda net: net.body.__setitem__(2, nn.GELU()),
    "a layer of another class with the same parameters": swapped,
    "the class itself": lambda net: setattr(net.body[0], "__class__", Loud),
    "a layer more": lambda net: net.body.append(nn.ReLU()),
    "a layer less": lambda net: net.body.pop(3),
    "layers that change places": exchanged,
    "a parameter's name": renamed,
    "a layer's name": lambda net: net.heads.update({"c": net.heads.pop("b")}),
    "a parameter that is none": lambda net: setattr(net.heads.a, "bias", None),
    "a parameter that becomes a buffer": lambda net: (
        (held := net.heads.a.bias.detach()),
        delattr(net.heads.a, "bias"),
        net.heads.a.register_buffer("bias", held),
    ),
    "weights that become one": lambda net: setattr(net.heads.b, "weight", net.heads.a.weight),
    "a buffer that is saved no more": lambda net: net.register_buffer("scale", net.scale, persistent=False),
    "a hook": lambda net: net.heads.a.register_forward_hook(hook),
    "another hook": lambda net: net.heads.a.register_forward_hook(another_hook),
    "a hook elsewhere": lambda net: net.heads.b.register_forward_hook(hook),
    "a hook that comes before": lambda net: net.heads.a.register_forward_pre_hook(hook),
    "a hook of the backward pass": lambda net: net.heads.a.register_full_backward_hook(hook),
    "a hook of a weight": lambda net: net.heads.a.weight.register_hook(hook),
    "a hook of a weight that has its gradient": lambda net: net.heads.a.weight.register_post_accumulate_grad_hook(hook),
    "a hook of the state": lambda net: net.heads.a.register_state_dict_post_hook(hook),
    "a parametrization": lambda net: parametrize.register_parametrization(net.heads.a, "weight", nn.Identity()),
    "a weight that is normed": lambda net: parametrizations.weight_norm(net.heads.a),
    "a forward of its own": lambda net: setattr(net.heads.a, "forward", hook),
    "the flags of a recurrent layer": lambda net: setattr(net.recurrent, "batch_first", True),
}

OPTIMIZED = {
    "a step": lambda optimizer: optimizer.step(),
    "the learning rate": lambda optimizer: optimizer.param_groups[0].update(lr=0.2),
    "the type of the learning rate": lambda optimizer: optimizer.param_groups[0].update(lr=torch.tensor(0.1)),
    "the decay": lambda optimizer: optimizer.param_groups[0].update(weight_decay=0.1),
    "another momentum": lambda optimizer: optimizer.param_groups[0].update(betas=(0.8, 0.999)),
    "a bit of the state": lambda optimizer: flip(next(iter(optimizer.state.values()))["exp_avg"]),
    "the count of steps": lambda optimizer: next(iter(optimizer.state.values()))["step"].add_(1),
    "a state that is gone": lambda optimizer: optimizer.state.clear(),
    "a group more": lambda optimizer: optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))]}),
    "a weight": lambda optimizer: flip(optimizer.param_groups[0]["params"][0]),
    "a hook": lambda optimizer: optimizer.register_step_pre_hook(hook),
    "an attribute": lambda optimizer: setattr(optimizer, "note", 1),
}
SCHEDULED = {
    "a step": lambda scheduler: (scheduler.optimizer.step(), scheduler.step()),
    "the factor": lambda scheduler: setattr(scheduler, "gamma", 0.25),
    "the optimizer's rate": lambda scheduler: scheduler.optimizer.param_groups[0].update(lr=0.2),
}

remembered = Memo(strict=True)(lambda x: x)


def optimizer():
    net = nn.Linear(2, 2)
    made = torch.optim.Adam(net.parameters(), lr=0.1)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    made.step()
    return made


def scheduler():
    return torch.optim.lr_scheduler.ExponentialLR(optimizer(), 0.5)


@pytest.fixture(autouse=True)
def _state_of_its_own(monkeypatch):
    monkeypatch.setitem(STATE, "of one's own", 0)


def reading(net):
    return Memo(strict=True)(lambda x: net(x))


@pytest.mark.parametrize("name", [*WEIGHTS, *REST])
@pytest.mark.parametrize("where", ["an argument", "within an argument", "what the code reads"])
def test_an_edit_of_a_module_is_another_call(name, where):
    net = Net()
    ask, argument = {
        "an argument": (remembered, net),
        "within an argument": (remembered, {"nets": [(net, 1)]}),
        "what the code reads": (reading(net), 3),
    }[where]
    key = ask.cache_key(argument)
    assert ask.cache_key(argument) == key
    {**WEIGHTS, **REST}[name](net)
    assert ask.cache_key(argument) != key


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_bit_of_a_weight_is_another_content(name):
    net = Net()
    digest = fingerprint(net)
    assert fingerprint(Net()) == digest
    WEIGHTS[name](net)
    assert fingerprint(net) != digest
    WEIGHTS[name](net)
    assert fingerprint(net) == digest


@pytest.mark.parametrize("name", OPTIMIZED)
def test_an_edit_of_an_optimizer_is_another_call(name):
    assert_edited(optimizer(), OPTIMIZED[name])


@pytest.mark.parametrize("name", SCHEDULED)
def test_an_edit_of_a_scheduler_is_another_call(name):
    assert_edited(scheduler(), SCHEDULED[name])


def assert_edited(value, edit):
    """Assert that an edit in place gives another key and another fingerprint."""
    key, digest = remembered.cache_key(value), fingerprint(value)
    assert (remembered.cache_key(value), fingerprint(value)) == (key, digest)
    edit(value)
    assert remembered.cache_key(value) != key
    assert fingerprint(value) != digest
