"""One mode of torch, and the call of what can reach torch is another call until the mode is left."""

from __future__ import annotations

import contextlib

import pytest
import torch
from tests.promises.never_stale.edits import started
from torch.nn.attention import SDPBackend, sdpa_kernel

from memograd import Memo


@contextlib.contextmanager
def put(get, set_, value):
    """Set what has no context manager of its own, and set it back."""
    before = get()
    set_(value)
    try:
        yield
    finally:
        set_(before)


MODES = {
    "without gradients": torch.no_grad,
    "for inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu"),
    "autocast to halves": lambda: torch.autocast("cpu", dtype=torch.float16),
    "the dtype by default": lambda: put(torch.get_default_dtype, torch.set_default_dtype, torch.float64),
    "the device by default": lambda: torch.device("meta"),
    "the device by default, as it is set": lambda: put(torch.get_default_device, torch.set_default_device, "meta"),
    "deterministic algorithms": lambda: put(
        torch.are_deterministic_algorithms_enabled,
        lambda on: torch.use_deterministic_algorithms(mode=on),
        True,
    ),
    "a lower precision": lambda: put(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "medium"),
    "the precision of convolutions": lambda: put(
        lambda: torch.backends.mkldnn.conv.fp32_precision,
        lambda value: setattr(torch.backends.mkldnn.conv, "fp32_precision", value),
        "bf16",
    ),
    "a thread more": lambda: put(torch.get_num_threads, torch.set_num_threads, torch.get_num_threads() + 1),
    "without oneDNN": lambda: torch.backends.mkldnn.flags(enabled=False),
    "deterministic oneDNN": lambda: torch.backends.mkldnn.flags(enabled=True, deterministic=True),
    "attention by its definition": lambda: sdpa_kernel(SDPBackend.MATH),
    "attention that takes little memory": lambda: sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION),
    "transformer layers without a path of their own": lambda: put(
        torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled, False
    ),
}
WITHIN = {
    "grad mode again": (torch.no_grad, torch.enable_grad),
    "autocast to another dtype": (
        lambda: torch.autocast("cpu"),
        lambda: torch.autocast("cpu", dtype=torch.float16),
    ),
    "autocast that is off again": (
        lambda: torch.autocast("cpu"),
        lambda: torch.autocast("cpu", enabled=False),
    ),
    "deterministic algorithms that warn alone": (
        MODES["deterministic algorithms"],
        lambda: put(
            torch.is_deterministic_algorithms_warn_only_enabled,
            lambda only: torch.use_deterministic_algorithms(mode=True, warn_only=only),
            True,
        ),
    ),
    "the dtype back again": (
        MODES["the dtype by default"],
        lambda: put(torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    ),
}
CALLS = {
    "a tensor that is given": (lambda: Memo(strict=True)(lambda x: x @ x), torch.ones(2, 2)),
    "torch that is reached": (lambda: Memo(strict=True)(lambda n: torch.ones(n)), 2),
    "torch that a helper reaches": (
        lambda: started("import torch\ndef g(x): return torch.ones(x)\ndef f(x): return g(x)"),
        2,
    ),
    "a tensor that is read": (lambda: started("import torch\nw = torch.ones(2)\ndef f(x): return w * x"), 2),
    "a tensor within an argument": (lambda: Memo(strict=True)(lambda x: x), {"a": [torch.ones(2)]}),
}


@pytest.fixture(autouse=True)
def _the_precision_is_set():
    # What was never set reads as none; set back to what it is by default it reads as that.
    torch.set_float32_matmul_precision("highest")


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", MODES)
def test_a_mode_that_is_entered_makes_another_call(name, call):
    make, argument = CALLS[call]
    remembered = make()
    key = remembered.cache_key(argument)
    with MODES[name]():
        inside = remembered.cache_key(argument)
        assert inside == remembered.cache_key(argument) != key
    assert remembered.cache_key(argument) == key


@pytest.mark.parametrize("name", WITHIN)
def test_a_mode_within_a_mode_makes_another_call(name):
    outer, inner = WITHIN[name]
    remembered = Memo(strict=True)(lambda x: x @ x)
    x = torch.ones(2, 2)
    with outer():
        key = remembered.cache_key(x)
        with inner():
            assert remembered.cache_key(x) != key
        assert remembered.cache_key(x) == key


def test_modes_all_make_calls_of_their_own():
    remembered = Memo(strict=True)(lambda x: x @ x)
    x = torch.ones(2, 2)
    keys = [remembered.cache_key(x)]
    for name in ("without gradients", "for inference", "autocast", "autocast to halves", "the dtype by default"):
        with MODES[name]():
            keys.append(remembered.cache_key(x))
    assert len(set(keys)) == len(keys) == 6


def test_what_cannot_reach_torch_is_one_call_in_every_mode():
    remembered = Memo(strict=True)(lambda n: n + 1)
    key = remembered.cache_key(2)
    with torch.no_grad(), torch.autocast("cpu"):
        assert remembered.cache_key(2) == key
