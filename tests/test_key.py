"""Keys: what is one call and what is two, how they print, how arguments are bound."""

from __future__ import annotations

import copy
import functools
import math
import sys

import pytest

from memograd import Memo, NoIdentityError
from memograd._key import CONTENT, Binding, Function, Key, key_of, shown


def key(*values):
    return key_of(FUNCTION, values)


FUNCTION = Function("f", ["x", "y", "z"])
ONE = Function("f", ["x"])


def one(value):
    return key_of(ONE, [value])


def test_a_key_prints_as_the_call():
    store = {}
    square = Memo(store)(lambda x: x * x)
    assert square(3) == 9
    assert repr(store) == "{<lambda>(x=3): 9}"

    def named(x, *rest, y="a", **more):
        return x

    keyed = Memo()(named)
    assert repr(keyed.cache_key(1.5)) == "named(x=1.5, rest=(), y='a', more={})"
    assert repr(keyed.cache_key([1, 2], 3, b=None)) == "named(x=[1, 2], rest=(3,), y='a', more={'b': None})"


def test_equal_calls_have_equal_keys_and_equal_hashes():
    assert key(1, "a", [2.5]) == key(1, "a", [2.5])
    assert hash(key(1, "a", [2.5])) == hash(key(1, "a", [2.5]))


@pytest.mark.parametrize(
    ("first", "second"),
    [(1, 1.0), (1, True), (1.0, True), (0, False), (0.0, -0.0), ("1", b"1"), ("1", 1), (None, "None"), (1 + 0j, 1)],
)
def test_values_of_another_type_or_other_bits_are_other_calls(first, second):
    assert one(first) != one(second)
    assert one([first]) != one([second])
    assert one(({"a": first},)) != one(({"a": second},))


def test_nan_is_the_same_call_again_whatever_object_it_is():
    assert one(math.nan) == one(float("nan"))
    assert one(math.nan) != one(-math.nan)
    assert one([math.nan]) == one([float("nan")])


def test_two_functions_of_one_name_have_different_keys():
    assert key_of(Function("f", ["x"]), [1]) != key_of(Function("f", ["x"]), [1])


def test_a_plain_argument_stands_in_the_key_itself_and_any_other_as_content():
    first = key(1, "a", [1])
    assert first[1:5] == (int, 1, str, "a")
    assert first[5] is CONTENT
    assert first.parts["x"] == 1
    assert first.function is FUNCTION


def test_nobody_can_pass_content_for_the_value_that_it_is_the_content_of():
    content = one([1, 2]).parts["x"]
    assert one(content) != one([1, 2])


def test_a_copy_of_a_key_is_equal_to_it():
    assert copy.deepcopy(key(1, [2], "z")) == key(1, [2], "z")


def test_a_key_does_not_change_when_its_argument_does():
    items = [1, 2]
    before = one(items)
    before.describe([items])
    items.append(3)
    assert before == one([1, 2])
    assert repr(before) == "f(x=[1, 2])"


def test_a_huge_argument_prints_in_a_line():
    huge = [list(range(1000))] * 1000
    for value in (huge, "x" * 10**6, 10**5000, dict.fromkeys(range(1000), huge), set(range(1000))):
        made = one(value)
        made.describe([value])
        assert len(repr(made)) < 200


def test_printing_runs_no_code_of_the_users():
    class Loud:
        def __repr__(self):
            raise AssertionError

    assert shown([Loud()]) == "[<Loud>]"


def test_nested_and_empty_values_print_as_python_writes_them():
    for value in ([], (), (1,), {}, {"a": [1, (2,)]}, "it's", b"x", True, None, -1, frozenset({1}), range(3)):
        assert shown(value) == repr(value)


def test_arrays_and_tensors_print_their_shape():
    numpy = pytest.importorskip("numpy")
    assert shown(numpy.zeros((2, 3))) == "<ndarray (2, 3)>"


def test_the_path_to_what_has_no_identity_is_named():
    with pytest.raises(NoIdentityError, match=r'^f\(\): args\.x\["mask"\]\[2\] is of type generator'.replace('"', "'")):
        one({"mask": [1, 2, (i for i in ())]})


def bound(f, *args, **kwargs):
    binding = Binding(f)
    return binding.define("f", f"    return {binding.values}")(*args, **kwargs)


def test_keywords_positions_and_defaults_are_bound_to_one_form():
    def f(a, b=2, *, c=3):
        raise AssertionError

    assert bound(f, 1) == bound(f, a=1) == bound(f, 1, b=2) == bound(f, c=3, b=2, a=1) == (1, 2, 3)


def test_every_kind_of_parameter_is_bound():
    def f(a, /, b, *rest, c=3, **more):
        raise AssertionError

    assert bound(f, 1, 2, 3, 4, d=5, a=6) == (1, 2, (3, 4), 3, {"d": 5, "a": 6})


def test_a_call_that_does_not_bind_says_so_under_the_functions_own_name():
    def volume(a, b):
        raise AssertionError

    with pytest.raises(TypeError, match=r"^volume\(\) missing 1 required positional argument: 'b'$"):
        bound_as(volume)(1)


def bound_as(f):
    binding = Binding(f)
    return binding.define(f.__name__, f"    return {binding.values}")


def test_parameters_may_have_any_name():
    def f(_, __, _type, type=1, call=2, __memo=3):  # noqa: A002 - any name
        raise AssertionError

    assert bound(f, 1, 2, 3) == (1, 2, 3, 1, 2, 3)
    remembered = Memo()(lambda _look, _missing, __key: (_look, _missing, __key))
    assert remembered(1, 2, 3) == (1, 2, 3) == remembered(1, 2, 3)


def test_a_default_is_the_object_itself_not_its_text():
    marker = object()

    def f(a=marker, b=[1]):  # noqa: B006 - the mutable default is what is tested
        raise AssertionError

    assert bound(f)[0] is marker
    assert bound(f)[1] is f.__defaults__[1]


@pytest.mark.parametrize("f", [max, functools.partial(max, 1), functools.wraps(len)(lambda *_, **__: None), dict])
def test_what_has_no_signature_of_its_own_takes_anything(f):
    assert bound(f, 1, 2) == ((1, 2), {})


def test_a_decorator_that_pretends_a_signature_is_called_as_it_really_is():
    def verbose(f):
        @functools.wraps(f)
        def wrapper(*args, loud=False, **kwargs):
            return (f(*args, **kwargs), loud)

        return wrapper

    remembered = Memo()(verbose(lambda x: x))
    assert remembered(1, loud=True) == (1, True)
    assert remembered(1) == (1, False)


def test_the_longest_integers_are_keys():
    assert one(10**20_000) == one(10**20_000)
    assert one([10**20_000]) != one([10**20_000 + 1])


def test_keys_are_made_near_the_end_of_the_stack():
    def down(n):
        return one([1, [2, {3: (4,)}]]) if n == 0 else down(n - 1)

    depth = 0
    frame = sys._getframe()
    while frame:
        frame, depth = frame.f_back, depth + 1
    assert down(sys.getrecursionlimit() - depth - 40) == one([1, [2, {3: (4,)}]])


def test_a_key_is_a_key():
    assert isinstance(key(1, 2, 3), Key)
