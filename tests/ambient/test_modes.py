"""The modes of torch are read as they are, equal ones as one object, and can be entered again from elsewhere."""

from __future__ import annotations

import contextlib
from functools import partial

import pytest
import torch

from memograd._ambient._surroundings import Surroundings
from memograd._ambient._torch import read_modes, under


@pytest.fixture(autouse=True, scope="module")
def precision_said_once():
    """What was never set reads as none; set back to what it is by default it reads as that."""
    torch.set_float32_matmul_precision("highest")


@contextlib.contextmanager
def being(value, read, write):
    """What torch has no context for: written, and put back."""
    before = read()
    write(value)
    yield
    write(before)


def precision_by_operation():
    """As torch has it since 2.9; asked for the one precision of all operations, it then raises."""
    place = torch.backends.mkldnn.matmul, "fp32_precision"
    return being("bf16", partial(getattr, *place), partial(setattr, *place))


def one_thread_more():
    return being(torch.get_num_threads() + 1, torch.get_num_threads, torch.set_num_threads)


OF_A_THREAD = {
    "no grad": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast": partial(torch.autocast, "cpu"),
    "autocast to halves": partial(torch.autocast, "cpu", dtype=torch.float16),
    "default dtype": partial(being, torch.float64, torch.get_default_dtype, torch.set_default_dtype),
    "default device": partial(torch.device, "meta"),
}
ENTERED = {
    **OF_A_THREAD,
    "deterministic": partial(
        being, True, torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms
    ),
    "precision": partial(being, "medium", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "precision by operation": precision_by_operation,
    "without oneDNN": lambda: torch.backends.mkldnn.flags(enabled=False),
    "another number of threads": one_thread_more,
}


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@pytest.mark.parametrize("name", ENTERED)
def test_each_mode_is_told_apart_and_left_again(name):
    before = read_modes()
    with ENTERED[name]():
        inside = read_modes()
        assert inside != before
        assert read_modes() == inside
    assert read_modes() == before


def test_all_modes_differ_among_themselves():
    seen = []
    for enter in OF_A_THREAD.values():
        with enter():
            seen.append(read_modes())
    assert len(set(seen)) == len(seen)


def test_modes_that_have_not_changed_are_one_object():
    assert read_modes() is read_modes()
    with torch.no_grad():
        assert read_modes() is read_modes()


@pytest.mark.parametrize("name", OF_A_THREAD)
def test_what_was_in_force_is_entered_again_and_left_again(name):
    before = read_modes()
    with ENTERED[name]():
        inside = read_modes()
    with under(inside):
        assert read_modes() == inside
    assert read_modes() == before


@pytest.mark.parametrize("name", OF_A_THREAD)
def test_from_within_a_mode_what_was_in_force_outside_is_entered_again(name):
    outside = read_modes()
    with ENTERED[name]():
        inside = read_modes()
        with under(outside):
            assert read_modes() == outside
        assert read_modes() == inside


def test_an_error_leaves_the_modes_as_they_were():
    before = read_modes()
    with torch.no_grad():
        inside = read_modes()
    with pytest.raises(KeyError), under(inside):
        raise KeyError
    assert read_modes() == before


def test_a_function_runs_in_the_surroundings_of_another_place():
    with torch.no_grad(), torch.autocast("cpu"):
        there, modes = Surroundings(), read_modes()
    assert there.run(read_modes) == modes
    assert there.run(lambda a, *, b: (a, b), 1, b=2) == (1, 2)
