"""What comes back does not depend on what the store held before."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memograd import Memo

arguments = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from([0.0, -0.0, 1.0])
    | st.sampled_from(["", "1", b"1"]),
    lambda inner: st.lists(inner, max_size=2) | st.tuples(inner) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=4,
)
calls = st.lists(st.tuples(arguments, arguments | st.just("default")), min_size=1, max_size=25)


def look_closely(x, y="default"):
    """Tell all that a function can see of its arguments, short of identity."""
    return f"{x!r} {y!r}"


OPTIONS = [{}, {"max_entries": 2}, {"max_entries": 0}, {"store": {}}, {"max_bytes": 3000}]


@pytest.mark.parametrize("options", OPTIONS)
@settings(deadline=None, max_examples=60)
@given(warming=calls, asked=calls)
def test_a_warm_store_answers_as_a_cold_one_and_as_the_function_does(options, warming, asked):
    warm = Memo()(**options)(look_closely)
    for x, y in warming:
        warm(x, y)
    for x, y in asked:
        assert warm(x, y) == look_closely(x, y)
        assert warm(y=y, x=x) == look_closely(x, y)
        assert warm(x) == look_closely(x)


def test_functools_would_answer_otherwise():
    """The property above is one only if it can fail."""
    ordinary = functools.lru_cache(maxsize=None, typed=True)(look_closely)
    ordinary((0.0,))
    assert ordinary((-0.0,)) != look_closely((-0.0,))
