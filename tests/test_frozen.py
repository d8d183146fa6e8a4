"""Weights that are taken for unchanged for a while: hashed once, and what changes them is seen, then or at the end."""

import warnings

import pytest
import torch
from torch import nn

from memograd import Memo, MemogradWarning, fingerprint, memo
from memograd.fingerprint import _trust
from memograd.fingerprint._content import KEY


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval()


@pytest.fixture
def hashed(monkeypatch):
    """The tensors that are hashed, in order."""
    seen = []
    fingerprint(torch.ones(1))  # what writes tensors is loaded when the first one is met
    writers = {kind: write for kind, write in KEY.writers.items() if kind in _trust.Trust.kinds}
    for kind, write in writers.items():
        monkeypatch.setitem(KEY.writers, kind, lambda value, write=write: seen.append(id(value)) or write(value))
    KEY.arm()
    yield seen
    monkeypatch.undo()
    KEY.arm()


@torch.no_grad()
def test_within_the_block_a_weight_is_hashed_once(net, hashed):
    f = Memo()(lambda net, x: net(x))
    x = torch.ones(2, 4)
    f(net, x)
    with memo.frozen(net):
        for _ in range(5):
            f(net, x)
        assert hashed.count(id(net[0].weight)) == 3  # before the first call, after it, and once for the block
    assert hashed.count(id(net[0].weight)) == 4
    f(net, x)
    assert hashed.count(id(net[0].weight)) == 5
    assert f.cache_info()[:2] == (6, 1)


@torch.no_grad()
@pytest.mark.parametrize(
    "change",
    [
        lambda net: net[0].weight.mul_(2),
        lambda net: net[1].running_mean.add_(1),
        lambda net: net.train(),
        lambda net: net.load_state_dict({name: value + 1 for name, value in net.state_dict().items()}),
        lambda net: setattr(net[0], "weight", nn.Parameter(torch.zeros(4, 4))),
        lambda net: net.__setitem__(0, nn.Linear(4, 4)),
        lambda net: net[0].register_forward_hook(lambda module, args, y: y + 1),
        lambda net: setattr(net[0].weight, "data", torch.zeros(4, 4)),
    ],
)
def test_within_the_block_a_change_is_seen(net, change):
    f = Memo()(lambda net, x: net(x))
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 0.0, 1.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with memo.frozen(net):
            f(net, x)
            change(net)
            before = f.cache_key(net, x)
            assert torch.equal(f(net, x), net(x))
    assert f.cache_info().hits == 0
    assert before


def test_a_module_that_the_code_reads_is_frozen_too(net):
    f = Memo()(lambda x: net(x).detach())
    with torch.no_grad(), memo.frozen(net):
        f(torch.ones(2, 4))
        f(torch.ones(2, 4))
        net[0].bias.add_(1)
        f(torch.ones(2, 4))
    assert f.cache_info()[:2] == (1, 2)


def test_a_change_that_does_not_show_is_said_at_the_end(net):
    with pytest.warns(MemogradWarning, match=r"Sequential was changed within memo.frozen\(\)") as said:
        change_within(net)
    assert said[0].filename == __file__


def change_within(net):
    with memo.frozen(net):
        before = fingerprint(net)
        net[0].weight.data.add_(1)
        return before, fingerprint(net)


def test_what_is_not_frozen_is_hashed_at_every_call(net):
    f = Memo()(lambda net, x: net(x))
    other = nn.Linear(4, 4)
    with torch.no_grad(), memo.frozen(net):
        first = f(other, torch.ones(1, 4))
        other.weight.data.add_(1)
        assert not torch.equal(f(other, torch.ones(1, 4)), first)


def test_blocks_nest_and_leave_nothing(net):
    with memo.frozen(net), memo.frozen(net):
        with memo.frozen(net):
            pass
        assert _trust.FROZEN.on
    assert not _trust.FROZEN.on
    assert not _trust.FROZEN.known


def test_an_exception_ends_the_block(net):
    with pytest.raises(ZeroDivisionError), memo.frozen(net):
        1 / 0  # noqa: B018
    assert not _trust.FROZEN.on


def test_fingerprints_do_not_trust(net):
    with pytest.warns(MemogradWarning):
        before, after = change_within(net)
    assert before != after


@pytest.mark.parametrize("value", [nn.Linear, torch.ones(1), "net", None])
def test_what_is_no_module_is_refused(value):
    with pytest.raises(TypeError, match=r"expected an nn\.Module"):
        memo.frozen(value)


def test_trusted_tensors_are_hashed_once(hashed):
    f = Memo()(lambda x: x * 2, trust="versions")
    x = torch.ones(3)
    for _ in range(3):
        f(x)
    assert f.cache_info()[:2] == (2, 1)
    x.add_(1)
    assert f(x).tolist() == [4, 4, 4]
    assert hashed == []  # these are written by another mode


@pytest.mark.parametrize("size", [3, 1 << 23])
def test_equal_content_is_one_call_for_those_who_trust_too(size):
    f = Memo()(lambda x: x.sum(), trust="versions")
    x = torch.ones(size)
    f(x), f(x.clone()), f(x)
    assert f.cache_info()[:2] == (2, 1)


def test_trust_does_not_see_what_versions_do_not_show():
    f = Memo()(lambda x: x.sum(), trust="versions")
    x = torch.ones(3)
    f(x)
    x.numpy()[0] = 5
    assert f(x) == 3
    assert Memo()(lambda x: x.sum())(x) == 7


@pytest.mark.parametrize(
    "change",
    [lambda x: x.requires_grad_(), lambda x: x.resize_(2), lambda x: x.t_(), lambda x: setattr(x, "data", x.double())],
)
def test_trust_sees_what_becomes_of_a_tensor(change):
    f = Memo()(lambda x: x + 0, trust="versions")
    x = torch.arange(6.0).reshape(2, 3)
    f(x)
    before = f.cache_key(x)
    change(x)
    assert f.cache_key(x) != before


def test_an_inference_tensor_is_not_trusted():
    f = Memo()(lambda x: x + 0, trust="versions")
    with torch.inference_mode():
        x = torch.ones(3)
        before = f.cache_key(x)
        x.add_(1)
        assert f.cache_key(x) != before


class Model:
    def __init__(self, scale):
        self.scale = scale

    @memo(per="instance")
    def times(self, n):
        return self.scale * n


def test_an_instance_may_count_as_itself():
    a, b = Model(2), Model(2)
    Model.times.cache_clear()
    assert [a.times(3), b.times(3), a.times(3)] == [6, 6, 6]
    assert Model.times.cache_info()[:2] == (1, 2)
    a.scale = 5
    assert a.times(3) == 6
    assert "self counts as itself" in str(Model.times.explain(a, 3))


def test_an_instance_that_counts_as_itself_is_not_kept_alive_and_none_takes_its_place():
    import gc
    import weakref

    Model.times.cache_clear()
    made = Model(2)
    made.times(3)
    gone = weakref.ref(made)
    del made
    gc.collect()
    assert gone() is None
    assert all(Model(scale).times(3) == 3 * scale for scale in range(50))


def test_an_instance_that_cannot_be_held_weakly_is_refused_by_name():
    class Slots:
        __slots__ = ()

        @memo(per="instance", strict=True)
        def f(self):
            return 1

    with pytest.raises(Exception, match=r"__weakref__"):
        Slots().f()
