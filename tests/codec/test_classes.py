# ruff: noqa: E501, PYI024, PIE796, RUF043 - tables of values are read a line each
"""Instances come back by class and fields, with no code of theirs run, and not at all when the class has changed."""

import enum
import subprocess
import sys
from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutputWithPast, ModelOutput

from memograd.codec import Unencodable, Unreadable, decode, encode
from memograd.codec._identity import digest_of


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


class Roomy:
    __slots__ = ("extra",)


@dataclass
class Based(Roomy):
    x: Any


@dataclass(slots=True)
class BasedInSlots(Roomy):
    x: Any


@dataclass(slots=True)
class Empty:
    pass


@pytest.mark.parametrize("kind", [Based, BasedInSlots])
def test_a_slot_that_is_no_field_is_not_lost(kind):
    value = kind(1)
    assert again(value) == value
    value.extra = 2
    with pytest.raises(Unencodable, match="other attributes"):
        encode(value)


def test_a_class_without_fields():
    assert again(Empty()) == Empty()


JOB = """
import enum, sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from memograd.codec import Unreadable, decode, encode

@dataclass
class Result:
    x: int
    def double(self):
        return self.x * 2

class Pair(NamedTuple):
    x: int
    def double(self):
        return self.x * 2

class Color(enum.Enum):
    RED = 1

class Deep(enum.Enum):
    RED = [1]

NAMES = ("Result", "Pair", "Color", "Deep")

def write():
    for name, value in zip(NAMES, (Result(3), Pair(3), Color.RED, Deep.RED)):
        Path(name).write_bytes(b"".join(encode(value)))

def read():
    for name in NAMES:
        try:
            value = decode(Path(name).read_bytes(), own=False)
        except Unreadable as error:
            print("no", error)
        else:
            print(type(value) is globals()[name], value.double() if hasattr(value, "double") else value.value)

if __name__ == "__main__":
    (write if sys.argv[1:] == ["write"] else read)()
"""
SAME = ["True 6", "True 6", "True 1", "True [1]"]


def run(place, *arguments):
    done = subprocess.run([sys.executable, *arguments], cwd=place, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize("start", [["job.py"], ["-m", "job"], ["-c", "import job; job.read()"]], ids=" ".join)
def test_what_a_script_has_written_is_read_by_it_and_by_whoever_imports_it(tmp_path, start):
    (tmp_path / "job.py").write_text(JOB)
    run(tmp_path, "job.py", "write")
    assert run(tmp_path, *start) == SAME


def test_a_class_of_another_program_is_another_class(tmp_path):
    (tmp_path / "job.py").write_text(JOB)
    run(tmp_path, "job.py", "write")
    other = JOB.replace("* 2", "* 3").replace("RED = 1", "RED = 2").replace("[1]", "[2]")
    (tmp_path / "other.py").write_text("import job\n" + other.replace("(write if", "job.read();(write if"))
    assert run(tmp_path, "other.py") == [*SAME, *(line.replace("True", "False") for line in SAME)]
    (tmp_path / "job.py").write_text(other)
    assert all("another class" in line for line in run(tmp_path, "job.py"))


def test_a_program_that_has_imported_itself_has_two_classes_of_one_name(tmp_path):
    (tmp_path / "job.py").write_text(JOB)
    run(tmp_path, "job.py", "write")
    (tmp_path / "job.py").write_text(JOB + "    import job; print(job.Result is Result); read(); write()\n")
    done = subprocess.run([sys.executable, "job.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert lines[:5] == [*SAME, "False"]
    assert all("two here" in line for line in lines[5:])
    assert "Unencodable" in done.stderr


SPAWN = """
import multiprocessing, sys
from dataclasses import dataclass

from memograd.codec import decode, encode

@dataclass
class Result:
    x: int

def write():
    return b"".join(encode(Result(3)))

def read(entry):
    return type(decode(entry, own=False)) is Result

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        entry = pool.apply(write)
        print(b"job:Result" in entry, read(entry), pool.apply(read, (write(),)))
"""


def test_processes_that_the_program_starts_know_its_classes(tmp_path):
    (tmp_path / "job.py").write_text(SPAWN)
    assert run(tmp_path, "job.py") == ["True True True"]


def test_a_program_without_a_name_has_classes_too(tmp_path):
    defined = JOB.partition("if __name__")[0]
    assert run(tmp_path, "-c", defined + "write(); read()") == SAME
    assert run(tmp_path, "-c", defined + "read()") == SAME
    (tmp_path / "job.py").write_text(JOB)
    assert all("not loaded" in line for line in run(tmp_path, "job.py"))


REGISTRY = []


@dataclass
class Registered:
    x: Any

    def __post_init__(self):
        REGISTRY.append(self.x)


def test_what_a_class_notes_is_not_what_it_is():
    entry = b"".join(encode(Registered(1)))
    from memograd.codec._identity import _digests

    before = digest_of(Registered)
    _digests.pop(Registered)
    Registered(2)
    assert digest_of(Registered) == before
    assert decode(entry, own=False).x == 1


class Locked(enum.Enum):
    A = sys.stdout
    B = 2


def test_a_class_that_has_no_fingerprint_is_told_by_its_members(entry_of):
    entry = entry_of(Locked.B)
    assert decode(entry, own=False) is Locked.B
    changed = enum.Enum("Locked", {"A": sys.stdout, "B": 3}, module=__name__)
    sys.modules[__name__].Locked = changed
    with pytest.raises(Unreadable, match="another class"):
        decode(entry, own=False)


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
