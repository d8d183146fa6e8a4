"""What a value is: no two different values write the same content, and equal ones always do."""

from __future__ import annotations

import array
import cmath
import collections
import copy
import ctypes
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import gc
import io
import logging
import math
import mmap
import operator
import os
import pathlib
import random
import re
import subprocess
import sys
import threading
import types
import typing
import uuid
import weakref
import zoneinfo
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fingerprint.values import assert_all_differ, exact

from memograd import Memo
from memograd.fingerprint._content import REACHED, identify
from memograd.fingerprint._form import Unidentified


class Color(enum.Enum):
    RED = 1
    BLUE = 1.0 + 0.5


class Number(enum.IntEnum):
    ONE = 1


class Mode(enum.Flag):
    A = 1
    B = 2


@dataclasses.dataclass
class Point:
    x: object
    y: object = 0


@dataclasses.dataclass
class Other:
    x: object
    y: object = 0


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: object


@dataclasses.dataclass
class Slotted:
    __slots__ = ("x",)
    x: object


class Pair(NamedTuple):
    x: object
    y: object


class Pear(NamedTuple):
    x: object
    y: object


class Meters(float):
    pass


class Name(str):
    __slots__ = ("language",)


class Items(list):
    def __iter__(self):
        raise AssertionError


class Tagged(dict):
    pass


def tagged(tag):
    made = Tagged(a=1)
    made.tag = tag
    return made


def named(language):
    made = Name("x")
    made.language = language
    return made


def table(factory):
    made = Table()
    made.default_factory = factory
    return made


def moved():
    made = Ordered(a=1, b=2)
    made.move_to_end("a")
    return made


def default(factory):
    return collections.defaultdict(factory, a=1)


class Default(collections.defaultdict):
    pass


class Ordered(collections.OrderedDict):
    pass


class Moment(dt.datetime):
    pass


class Hour(dt.time):
    pass


class Price(decimal.Decimal):
    pass


@dataclasses.dataclass(init=False)
class Table(collections.defaultdict):
    """With a docstring of its own: Python 3.10 would look for a signature to make one."""

    rows: int = 0


NOON = dt.datetime(2024, 1, 1, 12)  # noqa: DTZ001 - a time without a zone is one of the values under test
ZONE = dt.timezone(dt.timedelta(hours=1))

# No two of these are the same value to a function that looks closely.
DIFFERENT = [
    0, 1, 1.0, True, False, 0.0, -0.0, None, "", b"", "1", b"1", "None", 1j, 1 + 0j, complex(0.0, -0.0),
    complex(-0.0, 0.0), -1, -2, 2**31, 2**63, 2**64, -(2**64), 10**30, math.inf, -math.inf, math.nan, -math.nan,
    1e-320, "\ud800", "é", "e\u0301", (), [], {}, set(), frozenset(), (1,), [1], (1.0,), [1.0], [True], {1}, {1.0},
    frozenset({1}), [[]], [()], ((),), [[], []], (1, 2), (2, 1), ((1,), 2), (1, (2,)), [1, 2], [[1], 2], [[1, 2]],
    ["a", "b"], ["ab"], ["a", "", "b"], "ab", [b"a", "b"], {1: 2}, {1: 2.0}, {1.0: 2}, {"1": 2}, {1: 2, 3: 4},
    {3: 4, 1: 2}, {1: {2: 3}}, [(1, 2)], {(1, 2)}, {(1, 2.0)}, {(1,), (2,)}, {frozenset({1})}, {frozenset({1.0})},
    {1, 2}, {1, 2, 3}, bytearray(), bytearray(b"1"), memoryview(b"1"), range(3), range(4), range(0, 4, 2),
    range(0, 3, 2), range(0), range(1, 1), slice(3), slice(0, 3), slice(None), slice(0, 3, 1), Color.RED, Color.BLUE,
    Number.ONE, Mode.A, Mode.A | Mode.B, Color, Number, Point, Other, int, float, len, ..., Point(1), Point(1.0),
    Point(1, 1), Point(Point(1)), Other(1), Frozen(1), Frozen([1]), Slotted(1), Slotted(1.0), Pair(1, 2), Pear(1, 2),
    Pair(1, 2.0), Meters(1), Meters(0.0), Meters(-0.0), Name("x"), named("en"), named("de"), Items([1]), Items([1.0]),
    Tagged(a=1), tagged(1), tagged(2), collections.OrderedDict({1: 2}), default(int), default(list),
    collections.Counter([1]), collections.Counter([1, 1]), collections.deque([1]), collections.deque([1], 3),
    types.MappingProxyType({1: 2}), types.SimpleNamespace(a=1), types.SimpleNamespace(a=1.0), array.array("i", [1]),
    array.array("l", [1]), array.array("f", [1]), dt.date(2024, 1, 1), NOON, NOON.replace(fold=1),
    NOON.replace(tzinfo=ZONE), NOON.replace(tzinfo=dt.timezone.utc), NOON.replace(hour=11, tzinfo=dt.timezone.utc),
    NOON.replace(tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")), NOON.time(), dt.timedelta(1), dt.timedelta(0, 1), ZONE,
    dt.timezone(dt.timedelta(hours=1), "CET"), decimal.Decimal(1), decimal.Decimal("1.0"), decimal.Decimal("NaN"),
    decimal.Decimal("sNaN"), fractions.Fraction(1, 2), pathlib.Path("a"), pathlib.Path("A"),
    pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("a"), pathlib.PureWindowsPath("A"), re.compile("a"),
    re.compile("a", re.IGNORECASE), object(), object(), lambda: 1, lambda: 2, math, sys, "x" * 1000,
    b"x" * 1000, ["x" * 1000], "x" * 1001, Default(int), Default(list), Default(None, a=1), table(int),
    table(list), Ordered(a=1, b=2), moved(), Moment(2024, 1, 1, 12), Moment(2024, 1, 1, 12, fold=1),
    Moment(2024, 1, 1, 12, tzinfo=ZONE), Moment(2024, 1, 1, 11, tzinfo=dt.timezone.utc), Hour(12, tzinfo=ZONE),
    Hour(11, tzinfo=dt.timezone.utc), Price("1"), Price("1.0"), list(range(1000)), tuple(range(1000)),
    [*range(999), 999.0],
]  # fmt: skip


def test_different_values_have_different_content():
    assert_all_differ(DIFFERENT)


def test_different_values_have_different_content_inside_others():
    for wrap in (lambda v: [v], lambda v: (0, {"k": v}), Point, lambda v: [[v, "x"], "y"]):
        contents = [identify(wrap(value)) for value in DIFFERENT]
        assert len(set(contents)) == len(contents)


def test_a_value_has_the_content_that_it_had():
    for value in DIFFERENT:
        assert identify(value) == identify(value)
        assert hash(identify([value])) == hash(identify([value]))


def test_an_equal_copy_has_the_same_content():
    uncopied = (types.FunctionType, types.ModuleType, types.MappingProxyType, memoryview, Items)
    for value in DIFFERENT:
        if isinstance(value, uncopied) or type(value) is object:
            continue
        assert identify(copy.deepcopy(value)) == identify(value), value


def test_bytes_that_look_like_a_digest_are_not_taken_for_one():
    long = "x" * 1000
    stream = identify(long).stream
    assert stream.startswith(b"#")
    for disguise in (stream, stream[1:], bytearray(stream), [stream], stream.decode("latin-1")):
        assert identify(disguise) != identify(long)
        assert identify([disguise]) != identify([long])
    assert identify(bytearray(b"x" * 1000)) != identify(bytearray(identify(bytearray(b"x" * 1000)).stream))


leaves = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.integers() | st.sampled_from([0.0, -0.0, 1.0, math.nan])
    | st.floats() | st.text(max_size=3) | st.binary(max_size=3) | st.sampled_from(["x" * 60, b"x" * 60, 2**400])
)  # fmt: skip
hashable = st.recursive(leaves, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=6)
values = st.recursive(
    leaves | hashable | st.sampled_from([Color.RED, Mode.A, range(2), pathlib.Path("a"), NOON]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(hashable, inner, max_size=3)
        | st.sets(hashable, max_size=3)
        | st.builds(Point, inner, inner)
        | st.builds(Pair, inner, inner)
        | st.builds(collections.deque, st.lists(inner, max_size=2))
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=400)
@given(values, values)
def test_content_is_equal_exactly_when_typed_values_are(first, second):
    assert (identify(first) == identify(second)) == (exact(first) == exact(second))


@settings(deadline=None, max_examples=200)
@given(values)
def test_a_deep_copy_is_the_same_value(value):
    assert identify(copy.deepcopy(value)) == identify(value)


@settings(deadline=None, max_examples=200)
@given(st.lists(hashable, max_size=6), st.randoms(use_true_random=False))
def test_the_order_in_which_a_set_was_filled_does_not_matter(items, shuffler):
    shuffled = items[:]
    shuffler.shuffle(shuffled)
    unique = {exact(item): item for item in shuffled}
    if len(set(items)) == len(unique) == len({exact(item) for item in items}):
        assert identify(set(items)) == identify(set(shuffled))


def test_the_exact_text_of_the_property_tells_types_and_bits_apart():
    texts = [exact(value) for value in (1, 1.0, True, 0.0, -0.0, [1], (1,), {1}, {1: 2, 3: 4}, {3: 4, 1: 2})]
    assert len(set(texts)) == len(texts)


def loop(*items):
    made = list(items)
    made.append(made)
    return made


def test_a_value_that_contains_itself_has_content():
    assert identify(loop(1)) == identify(loop(1))
    assert identify(loop(1)) != identify(loop(2))
    assert identify([loop(1), 1]) != identify([loop(1), 2])


def test_where_a_cycle_leads_back_to_is_part_of_the_content():
    outer, inner = [], []
    outer.append(inner)
    inner.append(outer)
    itself = [[]]
    itself[0].append(itself[0])
    assert identify(outer) != identify(itself)
    assert identify(outer) != identify(loop())


def test_a_dictionary_and_an_object_may_contain_themselves():
    first, second = {"a": 1}, Point(1)
    first["self"], second.y = first, second
    assert identify(first) == identify(copy.deepcopy(first))
    assert identify(second) == identify(copy.deepcopy(second))


def test_a_dense_cyclic_graph_takes_no_longer_than_its_edges():
    nodes = [[] for _ in range(60)]
    for node in nodes:
        node.extend(nodes)
    assert identify(nodes) == identify(copy.deepcopy(nodes))


def test_a_value_that_is_contained_many_times_is_walked_once():
    value = [object]
    for _ in range(200):
        value = [value, value]
    assert identify(value) == identify(copy.deepcopy(value))


def test_whether_equal_parts_are_one_object_does_not_matter():
    part = [1]
    assert identify([part, part]) == identify([[1], [1]])


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,), lambda v: {"k": v}, Point])
def test_a_value_nested_20_000_deep_has_content(wrap):
    def deep(end):
        value = end
        for _ in range(20_000):
            value = wrap(value)
        return value

    first, second, third = deep(1), deep(1), deep(2)
    assert identify(first) == identify(second) != identify(third)
    for value in (first, second, third):
        _unwind(value)


def _unwind(value):
    # Freed all at once, 20,000 dataclass instances might overflow the C stack: a limit of Python's, not ours.
    while isinstance(value, Point):
        inner, value.x = value.x, None
        value = inner


def test_a_long_value_has_short_content():
    assert len(identify(list(range(100_000))).stream) < 64


LOCK = threading.Lock()


class Stream:
    def __next__(self):
        raise AssertionError


class Thing:
    def __init__(self, value=None):
        self.value = value


class Closed:
    """Its equality and hash are its own affair."""

    __slots__ = ("__private", "value")

    def __init__(self, value):
        self.value = self.__private = value

    def __eq__(self, other):
        raise AssertionError

    def __hash__(self):
        raise AssertionError


class Thought:
    def __init__(self, value=None):
        self.value = value


def test_an_object_is_its_class_and_its_attributes():
    for kind in (Thing, Closed):
        assert identify(kind([1])) == identify(kind([1]))
        assert identify(kind([1])) != identify(kind([1.0]))
    assert identify(Thing(1)) != identify(Closed(1))
    assert identify(Thing(1)) != identify(Thought(1))
    assert identify(Thing) != identify(Thing())
    assert identify({Thing}) != identify({Closed})


def test_a_changed_attribute_is_another_value():
    thing = Thing({"rate": 1})
    before = identify(thing)
    thing.value["rate"] = 2
    changed = identify(thing)
    thing.more = None
    assert len({before, changed, identify(thing)}) == 3


def test_the_methods_of_a_class_are_part_of_its_instances():
    def make(method):
        return type("Made", (), {"method": method})()

    assert identify(make(lambda self: 1)) == identify(make(lambda self: 1))
    assert identify(make(lambda self: 1)) != identify(make(lambda self: 2))


def closing(x):
    return lambda: x


def test_objects_that_lead_to_each_other_have_content():
    first, second = Thing(), Thing()
    first.value, second.value = second, first
    assert identify(first) == identify(copy.deepcopy(first)) == identify(second)
    first.name = "first"
    assert identify(first) != identify(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lambda x: x + 1, lambda x: x + 2),
        (functools.partial(max, 1), functools.partial(max, 1.0)),
        (functools.partial(max, 1), functools.partial(min, 1)),
        (Thing(1).__init__, Thing(2).__init__),
        ([].append, [1].append),
        (len, abs),
        (str.upper, str.lower),
        (dict.fromkeys, collections.OrderedDict.fromkeys),
        (Closed.value, Thing),
        (operator.itemgetter(1), operator.itemgetter(2)),
        (operator.methodcaller("a", b=1), operator.methodcaller("a", b=2)),
        (list[int], list[str]),
        (int | str, int | float),
        (typing.Literal[1], typing.Literal[2]),
        (closing(1), closing(2)),
        (random.Random(1), random.Random(2)),
        (uuid.UUID(int=1), uuid.UUID(int=2)),
        (logging.getLogger("a"), logging.getLogger("b")),
        (math, cmath),
        (collections.UserDict(a=1), collections.UserDict(a=2)),
        (collections.ChainMap({1: 2}), collections.ChainMap({1: 3})),
        (compile("a", "f", "eval"), compile("b", "f", "eval")),
    ],
)
def test_what_is_called_and_what_is_not_so_common_is_told_apart(first, second):
    assert identify(first) == identify(first)
    assert identify([first, [first]]) == identify([first, [first]])
    assert identify(first) != identify(second)


def test_what_a_function_reads_is_part_of_it():
    table = {"a": 1}

    def f():
        return table["a"]

    before = identify(f)
    table["a"] = 2
    assert identify(f) != before
    table["a"] = 1
    assert identify(f) == before


def test_attributes_of_a_function_are_part_of_it():
    def f():
        return f.table

    contents = [identify(f)]
    for f.table in ([1], [2]):
        contents.append(identify(f))
    assert len(set(contents)) == 3


def test_a_memoized_function_is_what_it_remembers():
    def f(x):
        return x

    remembered = Memo()(f)
    before = identify(remembered)
    assert remembered(1) == 1
    assert identify(remembered) == before == identify(f)


def test_a_lock_that_code_reads_stands_for_itself_and_one_that_is_passed_is_refused():
    lock, other = threading.Lock(), threading.Lock()

    def guarded(lock):
        def f():
            with lock:
                return 1

        return f

    assert identify(guarded(lock)) == identify(guarded(lock)) != identify(guarded(other))
    assert identify([lock], REACHED) == identify([lock], REACHED) != identify([other], REACHED)
    with pathlib.Path(__file__).open() as file:
        assert identify(file, REACHED) == identify(file, REACHED) != identify(lock, REACHED)
    assert identify({(lock, 1)}, REACHED) == identify({(lock, 1)}, REACHED) != identify({(other, 1)}, REACHED)
    with pytest.raises(Unidentified):
        identify([lock])


def test_an_iterator_does_not_stand_for_itself_even_where_code_reads_it():
    for value in (iter([1]), io.StringIO(), mmap.mmap(-1, 1)):
        with pytest.raises(Unidentified):
            identify([value], REACHED)


def test_which_of_two_standing_values_comes_twice_is_part_of_the_content():
    a, b = object(), object()
    assert len({identify([a, b, a]), identify([a, b, b]), identify([a, a, b]), identify([b, a, b])}) == 4
    assert identify({a, b}) == identify({b, a}) != identify({a})
    assert identify([a, b]) != identify([b, a])


def test_content_keeps_nothing_alive():
    value, lock = Thing(Thing(1)), threading.Lock()
    gone, freed = weakref.ref(value), weakref.ref(lock)
    content, standing = identify([value]), identify([lock], REACHED)
    del value, lock
    gc.collect()
    assert (gone(), freed()) == (None, None)
    assert content == identify([Thing(Thing(1))])
    assert standing == standing  # noqa: PLR0124 - a dead reference must still compare
    assert standing != identify([threading.Lock()], REACHED)


def test_a_random_stream_is_its_state():
    first, second = random.Random(1), random.Random(1)
    assert identify(first) == identify(second)
    first.random()
    assert identify(first) != identify(second)
    second.random()
    assert identify(first) == identify(second)


@pytest.mark.parametrize(
    "value",
    [
        iter([1]), (i for i in ()), map(int, "1"), io.StringIO("a"), random.SystemRandom(),
        threading.Lock(), threading.Event(), types.ModuleType("made"),
        {1: 2}.values(), collections.OrderedDict().values(), mmap.mmap(-1, 1), ctypes.c_int(1), (ctypes.c_char * 2)(),
        [1, {"a": (2, iter(()))}], Point(iter(())), Frozen(iter(())), Thing(iter(())),
        weakref.ref(Thing), Stream(),
    ],
)  # fmt: skip
def test_what_has_no_identity_is_refused(value):
    with pytest.raises(Unidentified):
        identify(value)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"mask": [1, 2, iter(())]}, "['mask'][2]"),
        (Point([Point(1, iter(()))]), ".x[0].y"),
        (Pair(1, iter(())), "[1]"),
        ({iter(()): 1}, " key tuple_iterator"),
        ({(1, 2): {"a" * 100: iter(())}}, "[tuple]['" + "a" * 36 + "...]"),
        (default(None) | {"b": iter(())}, "['b']"),
        (tagged(iter(())), ".tag"),
        ([{(1, Thing, LOCK)}], "[0]{...}[2]"),
        ([Thing({"a": Thing(LOCK)})], "[0].value['a'].value"),
        (functools.partial(max, 1, key=LOCK), ".keywords['key']"),
        (Thing(LOCK).__init__, ".__self__.value"),
    ],
)
def test_the_path_to_what_has_no_identity_is_named(value, path):
    with pytest.raises(Unidentified) as refused:
        identify(value)
    assert refused.value.path == path


def test_an_attribute_that_raises_is_named():
    class Broken(dict):
        @property
        def __dict__(self):
            raise OSError("gone")

    with pytest.raises(Unidentified, match=r"could not be read: gone"):
        identify(Broken())


def test_a_set_that_contains_itself_through_an_object_is_refused():
    @dataclasses.dataclass(eq=False)
    class Node:
        friends: set

    node = Node(set())
    node.friends.add(node)
    with pytest.raises(Unidentified, match="contains itself through a set"):
        identify(node)


def test_what_a_cached_property_has_left_counts_like_any_attribute():
    """It may be another value than the property would give: it was changed, or assigned."""

    @dataclasses.dataclass
    class Square:
        side: int

        @functools.cached_property
        def area(self):
            return self.side**2

    square, other, assigned = Square(2), Square(2), Square(2)
    assert square.area == other.area == 4
    assigned.area = 5
    assert identify(square) == identify(other) != identify(assigned)


def test_an_attribute_that_is_no_field_is_part_of_a_dataclass():
    first, second = Point(1), Point(1)
    second.note = "x"
    assert identify(first) != identify(second)


def test_a_class_that_takes_the_name_of_a_known_one_is_not_taken_for_it():
    fake = type("Decimal", (), {"__module__": "decimal", "__str__": lambda _: "1"})
    assert identify(fake()) == identify(fake()) != identify(decimal.Decimal(1))


def test_content_is_the_same_in_a_process_with_another_hash_seed():
    program = (
        "from memograd.fingerprint._content import identify\n"
        "print(identify([{'b', 'a', ('c', 1)}, {1: frozenset({'x', 'y'})}, 2.5, 'z' * 100]).stream.hex())"
    )
    streams = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(streams) == 1
