"""One edit of an argument, of its type, a part of it or a bit of it, and the call is another call."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import math
import operator
import pathlib
import random
import re
import struct
import types
import uuid
import zoneinfo
from typing import NamedTuple

import pytest
from tests.promises.never_stale.generated import Pair, Point

from memograd import Memo, fingerprint


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Hue(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    ONE = 1


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Noted(enum.Enum):
    ONE = 1


class Meters(int):
    pass


class Name(str):
    __slots__ = ()


class Items(list):
    pass


class Pear(NamedTuple):
    first: object
    second: object = 0


@dataclasses.dataclass
class Spot:
    x: object
    y: object = 0


class Slotted:
    __slots__ = ("x",)

    def __init__(self, x):
        self.x = x


class Thing:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)

    def method(self):
        return self

    @functools.cached_property
    def area(self):
        return [1]


def computed(thing):
    assert thing.area
    return thing


def first(x):
    return x


def second(x):
    return [x]


def rows(names):
    return collections.namedtuple("Row", names)  # noqa: PYI024 - its names are what is edited


def closing(x):
    return lambda: x


def made(method):
    return type("Made", (), {"method": method})()


def moved():
    ordered = collections.OrderedDict(a=1, b=2)
    ordered.move_to_end("a")
    return ordered


NOON = dt.datetime(2024, 1, 1, 12, tzinfo=dt.timezone.utc)
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")

# What an argument was, and what it is: each is made anew for each call.
VALUES = {
    "an integer that becomes a float": (lambda: 1, lambda: 1.0),
    "an integer that becomes a boolean": (lambda: 1, lambda: True),
    "a float that becomes a boolean": (lambda: 0.0, lambda: False),
    "an integer that becomes complex": (lambda: 1, lambda: 1 + 0j),
    "one more": (lambda: -1, lambda: -2),
    "one more beyond all machine words": (lambda: 10**40, lambda: 10**40 + 1),
    "the sign of a zero": (lambda: 0.0, lambda: -0.0),
    "the sign of an imaginary zero": (lambda: complex(0, 0.0), lambda: complex(0, -0.0)),
    "the last bit of a float": (lambda: 1.0, lambda: math.nextafter(1.0, 2)),
    "the sign of a NaN": (lambda: math.nan, lambda: -math.nan),
    "a bit of a NaN": (lambda: math.nan, lambda: struct.unpack("<d", b"\1\0\0\0\0\0\xf8\x7f")[0]),
    "an integer of a class of its own": (lambda: 1, lambda: Meters(1)),
    "an integer that becomes a member of an enum": (lambda: 1, lambda: Level.ONE),
    "a number that becomes text": (lambda: 1, lambda: "1"),
    "text that becomes bytes": (lambda: "a", lambda: b"a"),
    "bytes that can be changed": (lambda: b"a", lambda: bytearray(b"a")),
    "bytes that are looked at": (lambda: b"a", lambda: memoryview(b"a")),
    "a letter": (lambda: "a" * 1000, lambda: "a" * 999 + "b"),
    "a letter in capitals": (lambda: "a", lambda: "A"),
    "a space at the end": (lambda: "a", lambda: "a "),
    "another composition of a letter": (lambda: "\u00e9", lambda: "e\u0301"),
    "text of a class of its own": (lambda: "a", lambda: Name("a")),
    "nothing that becomes its name": (lambda: None, lambda: "None"),
    "nothing that becomes empty": (lambda: None, tuple),
    "a tuple that becomes a list": (lambda: (1,), lambda: [1]),
    "the type of an element": (lambda: (1,), lambda: (1.0,)),
    "a set that cannot be changed": (lambda: {1}, lambda: frozenset({1})),
    "the type of an element of a set": (lambda: {1}, lambda: {True}),
    "a list that becomes a set": (lambda: [1], lambda: {1}),
    "an element more": (lambda: [1], lambda: [1, 1]),
    "elements that change places": (lambda: [1, 2], lambda: [2, 1]),
    "where the brackets stand": (lambda: [[1], 2], lambda: [[1, 2]]),
    "where one text ends": (lambda: ["ab", "c"], lambda: ["a", "bc"]),
    "a list of a class of its own": (lambda: [1], lambda: Items([1])),
    "the order of a dictionary": (lambda: {"a": 1, "b": 2}, lambda: {"b": 2, "a": 1}),
    "a key of a dictionary": (lambda: {"a": 1}, lambda: {"b": 1}),
    "the type of a key": (lambda: {1: 2}, lambda: {True: 2}),
    "a value of a dictionary": (lambda: {"a": 1}, lambda: {"a": 2}),
    "a dictionary that becomes pairs": (lambda: {"a": 1}, lambda: [("a", 1)]),
    "a dictionary with a default": (lambda: {"a": []}, lambda: collections.defaultdict(list, a=[])),
    "another default": (lambda: collections.defaultdict(list), lambda: collections.defaultdict(set)),
    "a dictionary that can be reordered": (lambda: {"a": 1}, lambda: collections.OrderedDict(a=1)),
    "an item moved to the end": (lambda: collections.OrderedDict(a=1, b=2), moved),
    "a dictionary that counts": (lambda: {"a": 1}, lambda: collections.Counter("a")),
    "a dictionary that is only looked at": (lambda: {"a": 1}, lambda: types.MappingProxyType({"a": 1})),
    "the bound of a deque": (lambda: collections.deque([1]), lambda: collections.deque([1], 3)),
    "the type of the items of an array": (lambda: array.array("i", [1]), lambda: array.array("l", [1])),
    "an item of an array": (lambda: array.array("i", [1]), lambda: array.array("i", [2])),
    "a tuple that is given names": (lambda: (1, 0), lambda: Pair(1)),
    "a named tuple of another class": (lambda: Pair(1), lambda: Pear(1)),
    "the names of a tuple": (
        lambda: rows("a b")(1, 2),
        lambda: rows("a c")(1, 2),
    ),
    "a field of a dataclass": (lambda: Point(1), lambda: Point(1, 1)),
    "the type of a field": (lambda: Point(1), lambda: Point(1.0)),
    "a dataclass of another class": (lambda: Point(1), lambda: Spot(1)),
    "a dataclass that becomes a tuple": (lambda: Point(1), lambda: (1, 0)),
    "a slot": (lambda: Slotted(1), lambda: Slotted(2)),
    "an attribute": (lambda: Thing(a=1), lambda: Thing(a=2)),
    "the name of an attribute": (lambda: Thing(a=1), lambda: Thing(b=1)),
    "an attribute more": (lambda: Thing(a=1), lambda: Thing(a=1, b=None)),
    "an object that becomes a namespace": (lambda: Thing(a=1), lambda: types.SimpleNamespace(a=1)),
    "the object of a method": (lambda: Thing(a=1).method, lambda: Thing(a=2).method),
    "a method of the class": (lambda: made(lambda self: 1), lambda: made(lambda self: 2)),
    "a member of an enum": (lambda: Color.RED, lambda: Color.BLUE),
    "a member of another enum": (lambda: Color.RED, lambda: Hue.RED),
    "a member that becomes its value": (lambda: Color.RED, lambda: 1),
    "a flag more": (lambda: Right.READ, lambda: Right.READ | Right.WRITE),
    "the zone of a time": (lambda: NOON, lambda: NOON.replace(tzinfo=None)),
    "the zone of the same moment": (lambda: NOON, lambda: NOON.astimezone(BERLIN)),
    "the fold of a time": (lambda: NOON, lambda: NOON.replace(fold=1)),
    "a microsecond": (lambda: NOON, lambda: NOON.replace(microsecond=1)),
    "a time that becomes a day": (lambda: dt.datetime(2024, 1, 1), lambda: dt.date(2024, 1, 1)),  # noqa: DTZ001
    "the name of a zone": (lambda: dt.timezone(dt.timedelta()), lambda: dt.timezone(dt.timedelta(), "Z")),
    "a length of time": (lambda: dt.timedelta(seconds=1), lambda: dt.timedelta(microseconds=1)),
    "a path that becomes text": (lambda: pathlib.Path("a"), lambda: "a"),
    "a path of another system": (lambda: pathlib.PurePosixPath("a"), lambda: pathlib.PureWindowsPath("a")),
    "a part of a path": (lambda: pathlib.Path("a/b"), lambda: pathlib.Path("a/c")),
    "the digits of a decimal": (lambda: decimal.Decimal("1.0"), lambda: decimal.Decimal("1.00")),
    "a decimal that becomes a fraction": (lambda: decimal.Decimal(1), lambda: fractions.Fraction(1)),
    "a fraction": (lambda: fractions.Fraction(1, 3), lambda: fractions.Fraction(1, 4)),
    "the end of a range": (lambda: range(0, 3, 2), lambda: range(0, 4, 2)),
    "a range that becomes a list": (lambda: range(2), lambda: [0, 1]),
    "the step of a slice": (lambda: slice(0, 3), lambda: slice(0, 3, 1)),
    "a flag of a pattern": (lambda: re.compile("a"), lambda: re.compile("a", re.IGNORECASE)),
    "a pattern": (lambda: re.compile("a+"), lambda: re.compile("a*")),
    "a unique id": (lambda: uuid.UUID(int=1), lambda: uuid.UUID(int=2)),
    "a function": (lambda: first, lambda: second),
    "a function of the language": (lambda: len, lambda: max),
    "what a closure holds": (lambda: closing(1), lambda: closing(2)),
    "what a partial fixes": (lambda: functools.partial(first, 1), lambda: functools.partial(first, 2)),
    "the keyword of a partial": (lambda: functools.partial(max, a=1), lambda: functools.partial(max, b=1)),
    "what a getter gets": (lambda: operator.itemgetter(1), lambda: operator.itemgetter(2)),
    "a class": (lambda: Point, lambda: Spot),
    "a class that becomes an instance": (lambda: Thing, Thing),
    "an alias of types": (lambda: list[int], lambda: list[str]),
    "the seed of a stream": (lambda: random.Random(1), lambda: random.Random(2)),
}

WITHIN = {
    "a list": lambda value: [value],
    "a tuple": lambda value: (0, value),
    "a dictionary": lambda value: {"k": value},
    "an ordered dictionary": lambda value: collections.OrderedDict(k=value),
    "a dictionary with a default": lambda value: collections.defaultdict(list, k=value),
    "a deque": lambda value: collections.deque([value]),
    "a dataclass": Point,
    "a named tuple": Pair,
    "an object": lambda value: Thing(a=value),
    "a slot": Slotted,
    "a namespace": lambda value: types.SimpleNamespace(a=value),
    "a partial": lambda value: functools.partial(first, value),
    "a closure": closing,
    "a frozen set": lambda value: frozenset({(value,)}) if value.__hash__ else [value],
    "a key": lambda value: {(value,): 1} if value.__hash__ else [value],
}
NESTED = {f"{kind}, {depth} deep": (kind, depth) for kind in WITHIN for depth in (1, 2, 5)}

# An argument, and what is done to it in place.
IN_PLACE = {
    "an append": (lambda: [1], lambda value: value.append(2)),
    "an item": (lambda: [1], lambda value: value.__setitem__(0, 2)),
    "the order": (lambda: [2, 1], lambda value: value.sort()),
    "an item of an item": (lambda: [[1], {"a": [1]}], lambda value: value[1]["a"].append(2)),
    "a key that is set": (lambda: {"a": 1}, lambda value: value.__setitem__("b", 2)),
    "a key that is taken out and put back": (
        lambda: {"a": 1, "b": 2},
        lambda value: value.__setitem__("a", value.pop("a")),
    ),
    "an element that is added": (lambda: {1}, lambda value: value.add(2)),
    "a byte": (lambda: bytearray(b"a"), lambda value: value.__setitem__(0, 98)),
    "a rotation": (lambda: collections.deque([1, 2]), lambda value: value.rotate()),
    "a field": (lambda: Point(1), lambda value: setattr(value, "x", 2)),
    "an attribute that is no field": (lambda: Point(1), lambda value: setattr(value, "note", 2)),
    "an attribute": (lambda: Thing(a=1), lambda value: setattr(value, "a", 2)),
    "an attribute that is deleted": (lambda: Thing(a=1), lambda value: delattr(value, "a")),
    "what is kept of a property": (lambda: computed(Thing(a=1)), lambda value: value.area.append(2)),
    "what stands in place of a property that is kept": (lambda: Thing(a=1), lambda value: setattr(value, "area", 5)),
    "an attribute of a member of an enum": (lambda: Noted.ONE, lambda value: setattr(value, "note", 2)),
    "the class": (lambda: Thing(x=1), lambda value: setattr(value, "__class__", type("Other", (Thing,), {}))),
    "a draw": (lambda: random.Random(1), lambda value: value.random()),
    "a default of a function": (lambda: lambda x=1: x, lambda value: setattr(value, "__defaults__", (2,))),
    "the code of a function": (lambda: lambda x: x, lambda value: setattr(value, "__code__", second.__code__)),
    "an attribute of a function": (lambda: lambda x: x, lambda value: setattr(value, "rate", 2)),
    "a variable of a closure": (
        lambda: closing(1),
        lambda value: setattr(value.__closure__[0], "cell_contents", 2),
    ),
    "what a variable of a closure holds": (
        lambda: closing([1]),
        lambda value: value.__closure__[0].cell_contents.append(2),
    ),
}

remembered = Memo(strict=True)(lambda x: x)


def assert_differ(before, after):
    """Assert that two values are two calls and two fingerprints, and that each of them is one."""
    key, digest = remembered.cache_key(before()), fingerprint(before())
    assert (remembered.cache_key(before()), fingerprint(before())) == (key, digest)
    assert remembered.cache_key(after()) != key
    assert fingerprint(after()) != digest


@pytest.mark.parametrize("name", VALUES)
def test_an_edit_of_an_argument_is_another_call(name):
    assert_differ(*VALUES[name])


@pytest.mark.parametrize("name", VALUES)
def test_an_edit_deep_in_an_argument_is_another_call(name):
    before, after = VALUES[name]
    assert_differ(lambda: [{"a": (0, Point([before()]))}], lambda: [{"a": (0, Point([after()]))}])


@pytest.mark.parametrize("name", NESTED)
def test_an_edit_at_any_depth_is_another_call(name):
    kind, depth = NESTED[name]

    def nested(value):
        for _ in range(depth):
            value = WITHIN[kind](value)
        return value

    assert_differ(lambda: nested(1), lambda: nested(1.0))
    assert_differ(lambda: nested("a"), lambda: nested("b"))


@pytest.mark.parametrize("name", IN_PLACE)
def test_an_edit_of_an_argument_in_place_is_another_call(name):
    make, edit = IN_PLACE[name]
    value = make()
    key, digest = remembered.cache_key(value), fingerprint(value)
    assert (remembered.cache_key(value), fingerprint(value)) == (key, digest)
    edit(value)
    assert remembered.cache_key(value) != key
    assert fingerprint(value) != digest
