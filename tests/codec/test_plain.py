# ruff: noqa: E501, DTZ001, Q003 - tables of values are read a line each
"""Plain values and containers come back as they were: value, type, order, identity."""

import math
import pathlib
import struct
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memograd._errors import MemogradError
from memograd.codec import Unencodable, Unreadable, decode, encode, register


def again(value):
    return decode(bytearray(b"".join(encode(value))), own=True)


def assert_same(one, two):
    """Equal, of equal types all the way down, to the bit."""
    assert type(one) is type(two)
    if isinstance(one, float):
        assert struct.pack("d", one) == struct.pack("d", two)
    elif isinstance(one, complex):
        assert_same([one.real, one.imag], [two.real, two.imag])
    elif isinstance(one, dict):
        assert_same(list(one.items()), list(two.items()))
    elif isinstance(one, (list, tuple, deque)):
        assert len(one) == len(two)
        for left, right in zip(one, two, strict=True):
            assert_same(left, right)
    elif isinstance(one, slice):
        assert_same([one.start, one.stop, one.step], [two.start, two.stop, two.step])
    else:
        assert one == two


NAN = struct.unpack("<d", bytes.fromhex("0100000000dead7f".replace("dead", "f8ff")))[0]
VALUES = [
    None, True, False, 0, -1, 2**63 - 1, 2**63, 2**64, -(2**63), -(2**63) - 1, 10**5000, -(10**5000),
    0.0, -0.0, 1.5, 1e16, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, math.nan, NAN, 1 + 2j, complex(-0.0, NAN),
    "", "plain", "ü\0\n\"\\", "\ud800", "\ud83d\ude00", "a" * 5000,
    b"", b"\0\xff", bytearray(b""), bytearray(b"abc"), b"x" * 5000,
    [], (), {}, set(), frozenset(), [[]], ((),), [1, 1.0, True, None, "1"], (1, (2, (3,))), {1: "a", "1": 2, (1, 2): [3], None: 4, 1.5: {}},
    [float(at) for at in range(20)], [-0.0, math.nan, math.inf, NAN] * 5, tuple(range(30)), [*range(30), 2**63], [*range(30), 2**70],
    [1, 2.0] * 20, [True] * 40, ["a", None] * 20, ["\udc80"] * 20, {"\ud800": "\udfff"},
    {1, 2, "3"}, frozenset({(1, frozenset({2})), b"x"}), {frozenset(), frozenset({1})},
    OrderedDict([("b", 1), ("a", [2])]), defaultdict(list, {"a": [1]}), defaultdict(None, {1: 2}), Counter("abracadabra"),
    deque([1, [2], 3]), deque([1, 2], maxlen=2), deque(maxlen=0),
    datetime(2024, 2, 29, 23, 59, 59, 999999), datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Zurich")),
    datetime(1, 1, 1, tzinfo=timezone.utc), datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=-3, seconds=7), "odd")),
    date(9999, 12, 31), time(1, 2, 3, 4), time(1, fold=1, tzinfo=timezone.utc), timedelta(days=-1, microseconds=1), timedelta.max,
    timezone.utc, timezone(timedelta(0), "zero"), ZoneInfo("UTC"),
    Decimal("1.10"), Decimal("-0"), Decimal("sNaN123"), Decimal("1e999999"), Decimal("Infinity"), Fraction(1, 3), Fraction(-(2**70), 3),
    UUID(int=5), range(3), range(0, -(2**70), -3), slice(None), slice(1, [2], None), slice("a"), ..., NotImplemented,
    pathlib.PurePosixPath("/a/b"), pathlib.PureWindowsPath("c:/x"), pathlib.Path("rel/ü"), pathlib.Path("bad\udcff"),
]  # fmt: skip


def named(value):
    """Name a value as every process does: those that share the tests among them must agree on what each is called."""
    if isinstance(value, int) and abs(value) > 1 << 200:
        return "big"
    text = f"{len(value)}" if isinstance(value, (set, frozenset)) else str(value)[:12]
    return f"{type(value).__name__}-{text!a}"


@pytest.mark.parametrize("value", VALUES, ids=named)
def test_it_comes_back(value):
    if isinstance(value, Decimal) and value.is_snan():
        assert again(value).as_tuple() == value.as_tuple()
        return
    assert_same(value, again(value))
    assert_same([value, {"x": (value,)}], again([value, {"x": (value,)}]))


def test_numbers_in_their_thousands_are_a_tensor_of_the_file():
    assert len(b"".join(encode([0.1] * 10_000))) < 80_300
    assert_same(again((0.1,) * 10_000), (0.1,) * 10_000)


hashable = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.text(st.characters(categories=["Cs", "L"])),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)
values = st.recursive(
    hashable | st.floats() | st.complex_numbers() | st.decimals(allow_nan=False) | st.fractions() | st.datetimes() | st.timedeltas() | st.uuids()
    | st.lists(st.floats(), min_size=16) | st.lists(st.integers(), min_size=16),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(hashable, inner, max_size=4)
    | st.sets(hashable, max_size=4) | st.builds(deque, st.lists(inner)) | st.builds(OrderedDict, st.dictionaries(st.text(), inner)),
    max_leaves=25,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(values)
def test_whatever_is_plain_comes_back(value):
    raw = b"".join(encode(value))
    for back in (decode(raw, own=False), decode(bytearray(raw), own=True), decode(memoryview(raw), own=True)):
        assert_same(value, back)


def test_the_same_object_twice_is_one_object():
    inner, raw, key = [1], bytearray(b"x"), (1, [2])
    back = again({"a": inner, "b": [inner, raw, raw], "c": (key, key)})
    assert back["a"] is back["b"][0]
    assert back["b"][1] is back["b"][2]
    assert back["c"][0] is back["c"][1]


def test_what_holds_itself_holds_itself():
    ring = [1]
    ring.append(ring)
    back = again(ring)
    assert back[1] is back
    one, two = {}, []
    one["two"], one["pair"] = two, (two, one)
    two.append(one)
    back = again([one])[0]
    assert back["two"][0] is back
    assert back["pair"] == (back["two"], back)


def test_a_tuple_that_holds_itself_is_refused():
    inner = []
    whole = (inner,)
    inner.append(whole)
    with pytest.raises(Unencodable, match=r"result\[0\]\[0\] is a tuple that holds itself"):
        encode(whole)


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


def test_nesting_is_bounded():
    back = again(nested(1000))
    for _ in range(1000):
        (back,) = back
    assert back == 1
    for depth in (1001, 100_000):
        with pytest.raises(Unencodable, match="nested deeper than 1000"):
            encode(nested(depth))


def test_depth_takes_no_stack():
    def down(left):
        if left:
            return down(left - 1)
        return again(nested(1000))

    assert down(sys.getrecursionlimit() - 150)


def test_what_cannot_be_written_is_named_by_its_path():
    value = {"model": [1, (2, {"deep": object()})]}
    with pytest.raises(Unencodable, match=r"result\['model'\]\[1\]\[1\]\['deep'\] is a object, .*register") as caught:
        encode(value)
    assert caught.value.path == "result['model'][1][1]['deep']"
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, MemogradError)
    for odd in (lambda: 1, sys, open, type, iter([]), defaultdict(lambda: 1), memoryview(b""), {1: {2: map}}):
        with pytest.raises(Unencodable):
            encode(odd)


class List(list):
    pass


def test_subclasses_are_other_kinds():
    for value in (List(), type("Int", (int,), {})(3), type("Str", (str,), {})("x"), type("Day", (date,), {})(1, 1, 1)):
        with pytest.raises(Unencodable):
            encode([value])


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y


def test_a_registered_kind_is_written_as_what_it_packs():
    with pytest.raises(Unencodable):
        encode(Point(1, 2))
    register(Point, "tests.Point", lambda point: (point.x, point.y), lambda pair: Point(*pair))
    point = Point(1, [2])
    back = again([point, point])
    assert (back[0].x, back[0].y) == (1, [2])
    assert back[0] is back[1]
    with pytest.raises(Unencodable, match=r"result\[0\]\.<packed>\[0\] is a object"):
        encode([Point(object(), 1)])


class Failing:
    pass


def test_a_registered_kind_that_fails_is_refused_as_any_other():
    register(Failing, "tests.Failing", lambda _: 1 / 0, lambda _: None)
    with pytest.raises(Unencodable, match="pack raised ZeroDivisionError"):
        encode(Failing())
    register(Failing, "tests.Failing", lambda _: 1, lambda _: 1 / 0)
    entry = b"".join(encode(Failing()))
    with pytest.raises(Unreadable):
        decode(entry, own=False)
    register(Failing, "tests.Other", lambda _: 1, lambda _: 1)
    with pytest.raises(Unreadable, match=r"tests\.Failing"):
        decode(entry, own=False)
    with pytest.raises(ValueError, match="take another name"):
        register(Point, "tests.Other", lambda _: 1, lambda _: 1)


def test_a_value_may_change_after_it_was_written():
    value = [bytearray(b"abc"), list(range(20))]
    pieces = encode(value)
    value[0].append(1)
    value[1].append(1)
    assert decode(b"".join(pieces), own=False) == [bytearray(b"abc"), list(range(20))]


def whole(kind, **attributes):
    made = kind({"b": 1, "a": [2]})
    made.__dict__.update(attributes)
    return made


@pytest.mark.parametrize("kind", [OrderedDict, Counter])
def test_attributes_of_dictionaries_come_back(kind):
    value = whole(kind, _metadata=whole(OrderedDict, deep=1), unit="m")
    value.me = value
    back = again([value, 1])[0]
    assert dict(back) == dict(value)
    assert list(back) == list(value)
    assert vars(back)["unit"] == "m"
    assert vars(back._metadata) == {"deep": 1}
    assert back.me is back
    value.lock = object()
    with pytest.raises(Unencodable, match=r"result\[0\]\.lock is an? object"):
        encode([value])


def grown(*members):
    made = set(range(1000))
    made.clear()
    made.update(members)
    return made


@pytest.mark.parametrize("value", [
    {8, 0}, {0, 8}, {16, 8, 0}, {0, 8, 16}, frozenset([8, 0]), {-1, -2}, {-2, -1}, set(range(100)), {1 << 70, 3, 1}, {True, 8.0, 0}, {(8,), (0,), (1, 2)}, {33, 1, 65},
    {1.5, 9, 1}, {1, 2} | {9}, {17, 9, 1},
])  # fmt: skip
def test_a_set_comes_back_in_its_order_where_a_list_gives_it(value):
    back = again(value)
    assert list(back) == list(value)
    assert type(back) is type(value)


def test_equal_sets_make_equal_files_where_their_order_is_equal():
    assert b"".join(encode({3, 1, 2})) == b"".join(encode({2, 3, 1}))
    assert again(grown(1000, 3, 500)) == {3, 500, 1000}  # of which no list gives the order
    texts = [f"{n}" for n in range(50)]
    assert b"".join(encode({*texts})) == b"".join(encode({*texts[::-1]}))
