"""Modes of use: what the argument and the environment together allow."""

from __future__ import annotations

import pytest

from memograd import Memo
from memograd._errors import MemogradWarning
from memograd._mode import MODES, mode_of

NAMES = tuple(MODES)


@pytest.mark.parametrize(
    ("name", "looks", "stores"),
    [("use", True, True), ("refresh", False, True), ("read", True, False), ("off", False, False)],
)
def test_a_mode_says_whether_results_are_looked_for_and_stored(name, looks, stores):
    mode = mode_of(name, {})
    assert (mode.looks, mode.stores, mode.name, mode.off) == (looks, stores, name, name == "off")


@pytest.mark.parametrize("asked", NAMES)
@pytest.mark.parametrize("environment", ["off", "OFF", " off "])
def test_off_in_the_environment_turns_every_function_off(asked, environment):
    assert mode_of(asked, {"MEMOGRAD": environment}).off


@pytest.mark.parametrize("asked", NAMES)
@pytest.mark.parametrize("environment", NAMES)
def test_the_environment_never_allows_more_than_was_asked_for(asked, environment):
    mode = mode_of(asked, {"MEMOGRAD": environment})
    assert mode.looks == (MODES[asked].looks and MODES[environment].looks)
    assert mode.stores == (MODES[asked].stores and MODES[environment].stores)


@pytest.mark.parametrize("environ", [{}, {"MEMOGRAD": ""}, {"MEMOGRAD": "use"}, {"memograd": "off"}])
def test_without_a_word_from_the_environment_it_is_as_asked(environ):
    assert mode_of("use", environ) == MODES["use"]


def test_a_word_that_the_environment_may_not_say_turns_off_and_is_said():
    with pytest.warns(MemogradWarning, match="MEMOGRAD='0', expected one of 'use', 'refresh', 'read', 'off'"):
        assert mode_of("use", {"MEMOGRAD": "0"}).off


@pytest.mark.parametrize("asked", ["", "on", "OFF", None, True, ["use"]])
def test_a_mode_that_there_is_not_is_refused_with_those_that_there_are(asked):
    with pytest.raises(ValueError, match="expected one of 'use', 'refresh', 'read', 'off'; write mode='use'"):
        mode_of(asked, {})


def test_what_is_off_is_plain_within_another_memoized_call_too():
    ran = []

    @Memo()(mode="off")
    def g(x):
        ran.append(x)
        return x

    assert Memo()(version="1")(lambda: [g(1) for _ in range(3)])() == [1, 1, 1]
    assert ran == [1, 1, 1]
    assert g.cache_info()[:2] == (0, 0)
