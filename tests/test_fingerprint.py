"""`fingerprint(x)`: one digest for equal content, in every process; an error that leads to what has none."""

from __future__ import annotations

import dataclasses
import enum
import os
import pathlib
import random
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fingerprint.values import exact

from memograd import MemogradError, NoIdentityError
from memograd.fingerprint import Digest, File, fingerprint, register
from memograd.fingerprint import _digest as digests
from memograd.fingerprint._file import _FRESH, _seen


class Color(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Config:
    rate: float
    layers: tuple[int, ...] = (1, 2)


class Plain:
    def __init__(self, value):
        self.value = value


leaves = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3)
    | st.sampled_from([0.0, -0.0, 1, 1.0, True, "1", b"1", "x" * 60, b"x" * 60, Color.RED, pathlib.PurePosixPath("a")])
)  # fmt: skip
hashable = st.recursive(leaves, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=5)
values = st.recursive(
    hashable,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(hashable, inner, max_size=3)
        | st.sets(hashable, max_size=3)
        | st.builds(Config, inner, inner)
        | st.builds(Plain, inner)
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=300)
@given(values, values)
def test_digests_are_equal_exactly_when_typed_values_are(first, second):
    assert (fingerprint(first) == fingerprint(second)) == (exact(first) == exact(second))


PROGRAM = """
import datetime, enum, functools, random, sys
from dataclasses import dataclass
from memograd.fingerprint import fingerprint

class Color(enum.Enum):
    RED = 1

@dataclass
class Config:
    rate: float
    names: frozenset = frozenset({"a", "b", "c"})

class Plain:
    table = {"x", "y", "z"}

    def __init__(self, value):
        self.value = value

    def method(self):
        return self.value in {"p", "q", "r"}

def helper(x):
    return x in {"k", "l", "m"} and Plain

values = [
    {"b", "a", ("c", 1)}, {1: frozenset({"x", "y"})}, 2.5, "z" * 100, Color.RED, Config(1.5), Plain({"u", "v"}), helper,
    lambda x: helper(x), functools.partial(helper, {"s", "t"}), Plain(1).method, Plain, Color, len, str.upper, {Plain},
    datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc), random.Random(1), [list[int], int | str],
]
if "torch" in sys.argv:
    import numpy as np
    import torch
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(), torch.nn.LSTM(3, 3))
    model.register_forward_hook(lambda *_: None)
    values += [
        torch.arange(100.0), torch.arange(9).to_sparse(), model, torch.optim.Adam(model.parameters()), torch.float16,
        torch.Generator().manual_seed(1), np.arange(9), np.random.default_rng(1), np.sum, np.add, torch.add,
        torch.nn.functional.relu, np.dtype("f4"), torch.nn.Linear,
    ]
print(*(fingerprint(value).hex for value in values))
"""


@pytest.mark.parametrize("library", ["", "torch"])
def test_digests_are_the_same_in_another_process_with_another_hash_seed(library):
    if library:
        pytest.importorskip(library)
    printed = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM, library],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1
    digests = printed.pop().split()
    assert len(digests) == len(set(digests)) >= 18


def test_a_digest_knows_its_algorithm():
    digest = fingerprint([1], digest="blake2b")
    assert digest.algorithm == "blake2b"
    assert (len(digest.hex), bytes.fromhex(digest.hex)) == (32, bytes(digest))
    assert str(digest) == f"blake2b:{digest.hex}"
    assert digest == fingerprint([1], digest="blake2b")
    assert digest != fingerprint([1])
    assert digest != Digest("xxh3", bytes(digest))
    assert len({digest, fingerprint([1], digest="blake2b"), fingerprint([1])}) == 2


def test_another_digest_than_ours_is_a_value_error_that_names_ours():
    with pytest.raises(ValueError, match=r"^digest is 'md5', expected one of xxh3, blake3, blake2b$"):
        fingerprint(1, digest="md5")


def test_blake3_gives_a_digest_of_its_own():
    pytest.importorskip("blake3")
    assert fingerprint("x" * 100, digest="blake3") == fingerprint("x" * 100, digest="blake3")
    assert fingerprint("x" * 100, digest="blake3").hex != fingerprint("x" * 100).hex


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"mask": [1, 2, iter(())]}, r"^fingerprint\(\): x\['mask'\]\[2\] is of type tuple_iterator, which is used up"),
        (Plain(threading.Lock()), r"^fingerprint\(\): x\.value is of type lock, which is a tool and no value"),
        ([object()], r"^fingerprint\(\): x\[0\] is of type object, which is itself and nothing else; pass plain data"),
    ],
)
def test_what_has_no_identity_is_an_error_that_leads_to_it(value, message):
    with pytest.raises(NoIdentityError, match=message) as raised:
        fingerprint(value)
    assert isinstance(raised.value, MemogradError)
    assert isinstance(raised.value, TypeError)


def test_an_open_file_says_what_to_write():
    with (
        pathlib.Path(__file__).open() as file,
        pytest.raises(NoIdentityError, match=r"an open file; pass memograd\.File\(its path\)"),
    ):
        fingerprint(file)


def test_what_contains_itself_ends():
    value = {"list": [1]}
    value["list"].append(value)
    other = {"list": [2]}
    other["list"].append(other)
    assert fingerprint(value) == fingerprint(value) != fingerprint(other)


@pytest.fixture
def small_chunks(monkeypatch):
    """Make the tree of digests small, so that small data have one."""
    monkeypatch.setattr(digests, "CHUNK", 1000)


@pytest.mark.parametrize("cores", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [1000, 1001, 2000, 9999])
def test_a_digest_does_not_depend_on_the_number_of_cores(small_chunks, monkeypatch, cores, size):
    data = random.Random(1).randbytes(size)
    alone = fingerprint(bytearray(data))
    monkeypatch.setattr(digests, "_cores", lambda: cores)
    assert fingerprint(bytearray(data)) == alone


def test_every_byte_of_long_data_counts(small_chunks):
    data = bytearray(5500)
    contents = {fingerprint(data)}
    for place in (0, 999, 1000, 3456, 5499):
        data[place] = 1
        contents.add(fingerprint(data))
        data[place] = 0
    contents |= {fingerprint(bytearray(size)) for size in (999, 1000, 1001, 2000, 2001, 5499)}
    assert len(contents) == 12


def test_the_digests_of_chunks_are_not_taken_for_the_data(small_chunks):
    data = bytearray(random.Random(1).randbytes(2500))
    leaves = b"".join(digests.hash_of("xxh3")(data[start : start + 1000]) for start in (0, 1000, 2000))
    assert fingerprint(data) != fingerprint(bytearray(leaves))


def test_data_are_digested_where_no_thread_can_be_started(small_chunks, monkeypatch):
    data = bytearray(random.Random(1).randbytes(5000))
    before = fingerprint(data)

    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(digests, "_cores", lambda: 4)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert fingerprint(data) == before


def test_a_file_is_what_is_in_it(tmp_path):
    one, two, copy = (tmp_path / name for name in ("one", "two", "copy"))
    one.write_bytes(b"a")
    two.write_bytes(b"b")
    copy.write_bytes(b"a")
    assert fingerprint(File(one)) == fingerprint(File(copy)) != fingerprint(File(two))
    assert fingerprint(File(one)) != fingerprint(one)
    assert fingerprint(one) != fingerprint(copy)


def test_a_file_that_is_written_again_is_read_again(tmp_path):
    path = tmp_path / "data"
    contents = []
    for text in (b"a", b"b", b"a", b"ab"):
        path.write_bytes(text)
        contents.append(fingerprint(File(path)))
    assert contents[0] == contents[2]
    assert len(set(contents)) == 3


def test_a_file_that_rests_is_read_once(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(b"a" * 5000)
    before = fingerprint(File(path))
    place = (os.path.realpath(path), digests.hash_of("xxh3"))
    assert place not in _seen
    time.sleep(_FRESH / 1e9 + 0.1)
    assert fingerprint(File(path)) == before
    assert place in _seen
    assert fingerprint(File(path)) == before
    path.write_bytes(b"b" * 5000)
    assert fingerprint(File(path)) != before


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 3000, 4321])
def test_a_file_of_any_size_is_digested(tmp_path, monkeypatch, size):
    monkeypatch.setattr(sys.modules["memograd.fingerprint._file"], "CHUNK", 1000)
    path, other = tmp_path / "data", tmp_path / "other"
    data = random.Random(1).randbytes(size)
    path.write_bytes(data)
    other.write_bytes(data[:-1] + b"x" if data else b"x")
    assert fingerprint(File(path)) == fingerprint(File(path)) != fingerprint(File(other))


def test_a_file_is_taken_where_a_path_is(tmp_path):
    (tmp_path / "data").write_text("text")
    assert pathlib.Path(File(tmp_path / "data")).read_text() == "text"


def test_a_file_that_is_not_there_and_a_directory_are_refused(tmp_path):
    with pytest.raises(NoIdentityError, match="the file is not there"):
        fingerprint(File(tmp_path / "nothing"))
    with pytest.raises(NoIdentityError, match="the file is a directory; pass its files"):
        fingerprint({"data": File(tmp_path)})


class Handle:
    def __init__(self, address, lock):
        self.address = address
        self.lock = lock


def test_a_registered_type_is_what_its_function_gives():
    one, again, two = (Handle(address, threading.Lock()) for address in ("a", "a", "b"))
    with pytest.raises(NoIdentityError):
        fingerprint(one)

    @fingerprint.register(Handle)
    def parts(handle):
        return handle.address

    assert parts(one) == "a"
    assert fingerprint([one]) == fingerprint([again]) != fingerprint([two])
    assert fingerprint(one) != fingerprint("a")


def test_registering_is_for_the_exact_type():
    class Base:
        lock = None

    class Derived(Base):
        def __init__(self):
            self.lock = threading.Lock()

    register(Base, lambda _: 1)
    assert fingerprint(Base()) == fingerprint(Base())
    with pytest.raises(NoIdentityError):
        fingerprint(Derived())


def test_what_a_registered_function_gives_must_have_identity_too():
    class Odd:
        pass

    register(Odd, lambda _: [threading.Lock()])
    with pytest.raises(NoIdentityError, match=r"x\[1\]\.Odd\[0\] is of type lock"):
        fingerprint([1, Odd()])


@pytest.mark.parametrize("kind", [int, list, dict, object])
def test_a_type_whose_content_python_shows_cannot_be_registered(kind):
    with pytest.raises(TypeError, match=r"register\(\) got \w+, whose content Python itself shows"):
        register(kind, lambda _: 1)


def test_an_error_of_a_registered_function_is_named():
    class Broken:
        pass

    @register(Broken)
    def _(_):
        raise OSError("gone")

    with pytest.raises(NoIdentityError, match=r"x is of type .*Broken, which could not be read: gone"):
        fingerprint(Broken())
