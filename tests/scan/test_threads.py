"""Narrow steps run on one thread where the others sleep; the limit is this thread's alone and ends with the step."""

from __future__ import annotations

import pytest
import torch
from tests.scan.judge import Trial, assert_fair
from tests.threads import together
from torch import nn

from memograd._scan import _threads
from memograd._scan._threads import threads_for

HERE = torch.empty(0)


@pytest.fixture(autouse=True)
def two_that_sleep(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(_threads, "_ASLEEP", True)
    yield
    torch.set_num_threads(before)


def in_another_thread(f):
    return together(f)[0]


def test_a_narrow_step_takes_one_thread_and_a_wide_one_all():
    with threads_for(1, 256, HERE):
        assert torch.get_num_threads() == 1
    with threads_for(4096, 256, HERE):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 2


def test_other_threads_keep_theirs():
    with threads_for(1, 256, HERE):
        assert in_another_thread(torch.get_num_threads) == 2
    assert in_another_thread(torch.get_num_threads) == 2


def test_an_error_ends_the_limit():
    with pytest.raises(KeyError), threads_for(1, 256, HERE):
        raise KeyError
    assert torch.get_num_threads() == 2


def test_threads_that_wait_awake_are_all_used(monkeypatch):
    monkeypatch.setattr(_threads, "_ASLEEP", False)
    with threads_for(1, 256, HERE):
        assert torch.get_num_threads() == 2


@pytest.mark.parametrize("bias", [True, False])
def test_a_long_prompt_on_one_thread_is_as_exact_and_leaves_the_threads_alone(bias):
    torch.manual_seed(0)
    x = torch.cat([torch.randn(1, 40, 24).expand(4, -1, -1), torch.randn(4, 10, 24)], 1)
    assert_fair(Trial(nn.LSTM(24, 32, batch_first=True, bias=bias), x))
    assert torch.get_num_threads() == 2
