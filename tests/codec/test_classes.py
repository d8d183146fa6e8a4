# ruff: noqa: E501, PYI024, PIE796, RUF043 - tables of values are read a line each
"""Instances come back by class and fields, with no code of theirs run, and not at all when the class has changed."""

import enum
import sys
from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutputWithPast, ModelOutput

from memograd.codec import Unencodable, Unreadable, decode, encode


def again(value):
    return decode(bytearray(b"".join(encode(value))), own=True)


T = TypeVar("T")
RAN = []


@dataclass
class Plain:
    x: Any
    y: Any = field(default_factory=list)

    def __post_init__(self):
        RAN.append("post_init")


@dataclass(frozen=True)
class Frozen:
    x: Any


@dataclass(frozen=True, slots=True)
class Slotted:
    x: Any
    y: int = 3


@dataclass(slots=True)
class Child(Slotted.__base__):
    z: Any


@dataclass
class Typed(Generic[T]):
    value: T


@dataclass
class Sly:
    x: Any

    def __setattr__(self, name, value):
        RAN.append("setattr")
        object.__setattr__(self, name, value)

    def __eq__(self, other):
        RAN.append("eq")
        return True

    def __hash__(self):
        RAN.append("hash")
        return 1


class Pair(NamedTuple):
    left: Any
    right: Any = 2

    class Inner(enum.Enum):
        A = object()


Old = namedtuple("Old", "a b")


class Colour(enum.Enum):
    RED = 1
    CRIMSON = 1
    BLUE = (1, 2)


class Bits(enum.IntFlag):
    ONE = 1
    TWO = 2


class Word(str, enum.Enum):
    YES = "yes"


@dataclass
class Output(ModelOutput):
    loss: Any = None
    logits: Any = None


@pytest.mark.parametrize("value", [
    Plain(1, [2]), Frozen((1, 2)), Slotted("a"), Child([1]), Typed(3), Pair(1), Pair([1], Pair(2)), Old(1, 2),
    Colour.RED, Colour.BLUE, Bits.TWO, Word.YES, {Colour.RED: 1, Frozen(1): 2, Pair(1, 2): 3}, {Slotted(1), Slotted(2)},
], ids=str)  # fmt: skip
def test_it_comes_back(value):
    back = again(value)
    assert back == value
    assert type(back) is type(value)


def test_members_are_the_members():
    assert again([Colour.CRIMSON, Pair.Inner.A]) == [Colour.RED, Pair.Inner.A]
    assert again(Colour.RED) is Colour.RED


def test_no_code_of_a_class_is_run():
    entry = b"".join(encode([Plain(1), Sly(2)]))
    RAN.clear()
    back = decode(entry, own=False)
    assert RAN == []
    assert (back[0].x, back[0].y, back[1].x) == (1, [], 2)


def test_keys_that_hash_by_their_own_code_are_refused():
    for value in ({Sly(1): 1}, {Sly(1)}, frozenset({(1, Frozen(Sly(2)))})):
        with pytest.raises(Unencodable, match="code of its own"):
            encode(value)


def test_an_instance_may_hold_itself():
    value = Plain(1)
    value.y = {"me": value, "all": (value, [value])}
    back = again(value)
    assert back.y["me"] is back
    assert back.y["all"][1][0] is back


def test_outputs_of_models_come_back():
    cache = (torch.ones(2), torch.zeros(2))
    for value in (Output(logits=torch.ones(3)), Output(1, 2), BaseModelOutputWithPast(torch.ones(2), cache)):
        back = again(value)
        assert type(back) is type(value)
        assert isinstance(back, OrderedDict)
        assert list(back.keys()) == list(value.keys())
        assert vars(back).keys() == vars(value).keys()
        for name in value.keys():  # noqa: SIM118 - a ModelOutput iterates over its values
            assert back[name] is getattr(back, name)
    assert torch.equal(back.past_key_values[0], cache[0])


def test_what_is_more_than_its_fields_is_refused():
    more = Plain(1)
    more.extra = 2
    less = Plain(1)
    del less.y
    bare = object.__new__(Slotted)

    class Local(NamedTuple):
        x: int

    @dataclass
    class Error(Exception):
        x: int

    for value in (more, less, bare, Local(1), Error(1), Bits.ONE | Bits.TWO | 8, type("T", (tuple,), {})((1,))):
        with pytest.raises(Unencodable):
            encode(value)


@pytest.fixture
def entry_of():
    module = sys.modules[__name__]

    def make(value):
        return b"".join(encode(value))

    kept = dict(vars(module))
    yield make
    vars(module).update(kept)


@dataclass
class Other:
    x: Any


class OtherPair(NamedTuple):
    left: Any


@pytest.mark.parametrize(("value", "name", "other"), [
    (Plain(1), "Plain", Other), (Plain(1), "Plain", Pair), (Plain(1), "Plain", 3), (Plain(1), "Plain", Output), (Plain(1), "Plain", int),
    (Pair(1, 2), "Pair", OtherPair), (Pair(1, 2), "Pair", Plain), (Pair(1, 2), "Pair", tuple), (Colour.BLUE, "Colour", Word),
    (Colour.BLUE, "Colour", Plain), (Output(1), "Output", Plain), (Output(1), "Output", dict),
])  # fmt: skip
def test_a_class_that_has_changed_is_not_read(entry_of, value, name, other):
    entry = entry_of(value)
    setattr(sys.modules[__name__], name, other)
    with pytest.raises(Unreadable):
        decode(entry, own=False)


def test_a_module_is_never_imported(entry_of):
    entry = entry_of(Plain(1))
    for module in ("this", "antigravity", "no.such.module", "os", "__main__", "os.path"):
        edited = entry.replace(__name__.encode(), module.encode())
        edited = (len(edited) - 8).to_bytes(8, "little") + edited[8:]
        with pytest.raises(Unreadable, match="not loaded|no class"):
            decode(edited, own=False)
    assert not {"this", "antigravity"} & {*sys.modules}
