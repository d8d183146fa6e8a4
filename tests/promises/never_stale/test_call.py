"""Never stale: a remembered call is found only while all that its result depends on is as it was."""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import random
import sys
import textwrap
import threading

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from memograd import Memo, MemogradWarning


def program(tmp_path, monkeypatch, name, text):
    """Write a module of the user's, and import it."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(name)


SOURCE = """
    from memograd import Memo
    import helpers

    factor = 2
    table = [1, 2]
    class Config:
        rate = 3
    config = Config()

    def helper(x, extra=1):
        return x * factor + extra + sum(table) + config.rate

    @Memo()
    def f(x):
        return helper(x) + helpers.more(x)
"""
HELPERS = """
    def more(x):
        return deep(x)

    def deep(x):
        return x
"""

CHANGES = {
    "a global number": lambda m: setattr(m, "factor", 5),
    "an item of a global list": lambda m: m.table.append(7),
    "an attribute of a global object": lambda m: setattr(m.config, "rate", 9),
    "an attribute of its class": lambda m: setattr(m.Config, "rate", 9),
    "a helper": lambda m: setattr(m, "helper", lambda x: 100 * x),
    "a helper's code": lambda m: setattr(m.helper, "__code__", (lambda x, extra=1: extra).__code__),
    "a helper's default": lambda m: setattr(m.helper, "__defaults__", (50,)),
    "a function of another module": lambda m: setattr(m.helpers, "more", lambda x: 1000),
    "what a function of another module calls": lambda m: setattr(m.helpers, "deep", lambda x: 1000),
    "a builtin that is shadowed": lambda m: setattr(m, "sum", lambda values: 77),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_what_the_code_reaches_is_seen_at_the_next_call(change, tmp_path, monkeypatch):
    program(tmp_path, monkeypatch, "helpers", HELPERS)
    m = program(tmp_path, monkeypatch, "reaching", SOURCE)
    before = m.f(3)
    assert m.f(3) == before == m.f.__wrapped__(3)
    assert m.f.cache_info()[:2] == (1, 1)
    CHANGES[change](m)
    after = m.f.__wrapped__(3)
    assert after != before
    assert m.f(3) == after
    assert m.f(3) == after
    assert m.f.cache_info()[:2] == (2, 2)


def test_what_is_changed_back_is_found_again(tmp_path, monkeypatch):
    program(tmp_path, monkeypatch, "helpers", HELPERS)
    m = program(tmp_path, monkeypatch, "reaching", SOURCE)
    first = m.f(3)
    m.factor = 5
    m.f(3)
    m.factor = 2
    assert m.f(3) == first
    assert m.f.cache_info()[:2] == (1, 2)


def test_a_closure_cell_that_changes_is_seen():
    factor = 2

    @Memo()
    def f(x):
        return x * factor

    assert f(3) == 6
    factor = 5
    assert f(3) == 15


def test_what_the_code_itself_counts_is_an_effect_and_no_input():
    count = 0
    seen = []

    @Memo()
    def f(x):
        nonlocal count
        count += 1
        seen.append(x)
        return x * 2

    with pytest.warns(UserWarning, match=r"changes f:count, f:seen, which a remembered call does not repeat"):
        f(3)
    assert [f(3), f(3), f(3)] == [6, 6, 6]
    assert count == 1
    assert seen == [3]


MODES = {
    "autocast": lambda: torch.autocast("cpu"),
    "no grad": torch.no_grad,
    "inference mode": torch.inference_mode,
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("argument", [3, torch.ones(2, 2)], ids=["plain", "a tensor"])
def test_modes_of_torch_are_part_of_the_key_of_what_can_reach_torch(mode, argument):
    @Memo()
    def f(x):
        return (
            str((torch.ones(2, 2) @ torch.ones(2, 2)).dtype),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
        )

    outside = f(argument)
    with MODES[mode]():
        assert f(argument) == f.__wrapped__(argument)
        assert f(argument) != outside
    assert f(argument) == outside
    assert f.cache_info().misses == 2


def test_an_operator_on_a_tensor_reaches_torch():
    @Memo()
    def f(x):
        return x @ x

    x = torch.ones(2, 2)
    assert f(x).dtype is torch.float32
    with torch.autocast("cpu"):
        assert f(x).dtype is torch.bfloat16


def test_the_default_dtype_is_part_of_the_key():
    @Memo()
    def f(n):
        return torch.ones(n)

    assert f(2).dtype is torch.float32
    torch.set_default_dtype(torch.float64)
    try:
        assert f(2).dtype is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_threads_with_other_modes_do_not_see_each_others_results():
    @Memo()
    def f(n):
        return torch.is_grad_enabled()

    wrong = []

    def ask(mode):
        with torch.set_grad_enabled(mode):
            for n in range(2000):
                if f(n % 3) is not mode:
                    wrong.append(n)

    threads = [threading.Thread(target=ask, args=(bool(k % 2),)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


WEIGHTS = {
    "an optimizer's step": lambda m: _step(m),
    ".data in place": lambda m: m.weight.data.add_(1),
    "through numpy": lambda m: m.weight.detach().numpy().__iadd__(1),
    "train and eval": lambda m: m.eval(),
    "a buffer": lambda m: m.extra.add_(1),
    "a plain attribute": lambda m: setattr(m, "scale", 3.0),
    "a hook": lambda m: m.register_forward_hook(lambda m, args, y: y + 1),
}


def _step(m):
    for p in m.parameters():
        p.grad = torch.ones_like(p)
    torch.optim.SGD(m.parameters(), lr=0.5).step()


class Net(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)
        self.register_buffer("extra", torch.zeros(2))
        self.scale = 1.0

    def forward(self, x):
        return (super().forward(x) + self.extra) * self.scale + self.training


NET = Net()


@pytest.mark.parametrize("change", WEIGHTS)
@pytest.mark.parametrize("where", ["argument", "closure", "global"])
def test_a_change_of_a_module_is_seen_wherever_it_is_read(change, where, monkeypatch):
    torch.manual_seed(0)
    net = Net()
    monkeypatch.setitem(globals(), "NET", net)
    memo = Memo()
    if where == "argument":
        f, args = memo(lambda m, x: m(x)), (net,)
    elif where == "closure":
        f, args = memo(lambda x: net(x)), ()
    else:
        f, args = memo(lambda x: NET(x)), ()
    x = torch.ones(1, 2)
    with torch.no_grad():
        before = f(*args, x).clone()
        assert torch.equal(f(*args, x), before)
        assert f.cache_info().hits == 1
        WEIGHTS[change](net)
        assert torch.equal(f(*args, x), f.__wrapped__(*args, x))
        assert not torch.equal(f(*args, x), before)


def test_what_is_read_is_looked_at_within_another_call_too():
    table = torch.zeros(3)
    memo = Memo()

    @memo
    def total(n):
        return (table + n).sum().item()

    @memo
    def outer(k):
        first = total(1)
        table.add_(k)
        return first, total(1), total(2)

    with pytest.warns(MemogradWarning, match="changes outer:table"):
        assert outer(2) == (3.0, 9.0, 12.0)
    table.zero_()
    assert total(2) == 6.0


def test_draws_within_a_call_are_draws_though_it_sets_the_stream_back():
    memo = Memo()
    draw = memo(lambda _: torch.rand(1).item())

    @memo
    def score(seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return [draw(0) for _ in range(3)]

    torch.manual_seed(1)
    expected = [torch.rand(1).item() for _ in range(3)]
    assert score(1) == expected
    torch.manual_seed(7)
    expected = torch.rand(1).item()
    torch.manual_seed(7)
    assert draw(0) == expected


def test_a_body_runs_once_though_what_it_calls_draws():
    memo = Memo()
    draw = memo(lambda _: random.random())
    ran = []

    @memo
    def f(n):
        ran.append(n)
        return draw(n)

    f(1)
    assert ran == [1]


def test_a_draw_before_an_exception_is_as_good_as_any():
    memo = Memo()
    draw = memo(lambda _: random.random())

    @memo
    def f(n):
        raise ValueError(draw(0), draw(0))

    random.seed(0)
    try:
        f(1)
    except ValueError as error:
        found, after = error.args, random.random()
    random.seed(0)
    assert (found, after) == ((random.random(), random.random()), random.random())


def test_an_async_call_during_which_a_read_changes_is_not_remembered():
    table = [1]

    @Memo()
    async def f(k):
        await asyncio.sleep(0.02)
        return table[0] + k

    async def main():
        task = asyncio.create_task(f(1))
        await asyncio.sleep(0.005)
        table[0] = 5
        first = await task
        table[0] = 1
        return first, await f(1)

    with pytest.warns(MemogradWarning, match="changes f:table"):
        assert asyncio.run(main()) == (6, 2)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_under_modes_that_change_anything_a_call_is_plain():
    f = Memo()(lambda n: torch.ones(n))
    with FakeTensorMode(), pytest.warns(MemogradWarning, match="dispatch mode"):
        f(3)
    assert type(f(3)) is torch.Tensor
    g = Memo()(lambda x: x**3)
    g(torch.ones(2))
    forward = torch.autograd.forward_ad
    with forward.dual_level():
        with pytest.warns(MemogradWarning, match="forward-mode"):
            dual = g(forward.make_dual(torch.ones(2), torch.ones(2)))
        assert forward.unpack_dual(dual).tangent.tolist() == [3, 3]


@pytest.mark.parametrize("thing", [contextvars.ContextVar("v", default=1), threading.local()])
def test_what_is_another_thing_in_each_thread_makes_a_call_plain(thing):
    thing_ = thing
    f = Memo()(lambda n: (str(thing_), n))
    with pytest.warns(MemogradWarning, match="in each thread or task"):
        f(1)
    assert f.cache_info().currsize == 0


def test_hooks_of_all_modules_make_calls_plain():
    net = torch.nn.Linear(2, 2)
    f = Memo()(lambda x: net(x).detach())
    x = torch.ones(1, 2)
    plain = f(x)
    hook = torch.nn.modules.module.register_module_forward_hook(lambda module, args, y: y + 1)
    try:
        with pytest.warns(MemogradWarning, match="hooks of all modules"):
            assert torch.equal(f(x), plain + 1)
    finally:
        hook.remove()
    assert torch.equal(f(x), plain)
    assert f.cache_info().hits == 1


def test_defaults_that_are_put_into_the_wrapper_later_are_those_of_its_calls():
    @Memo(strict=True)
    def f(x, y=1, *, z=1):
        return x, y, z

    assert [f(0), f(0)] == [(0, 1, 1)] * 2
    f.__defaults__, f.__kwdefaults__ = (2,), {"z": 3}
    assert [f(0), f(0), f(0, 1, z=1)] == [(0, 2, 3), (0, 2, 3), (0, 1, 1)]
    assert f.cache_info()[:2] == (3, 2)
