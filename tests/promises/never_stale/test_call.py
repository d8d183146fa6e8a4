"""Never stale: a remembered call is found only while all that its result depends on is as it was."""

from __future__ import annotations

import importlib
import sys
import textwrap

import pytest
import torch
from torch import nn

from memograd import Memo


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
    import threading

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
