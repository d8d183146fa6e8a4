# ruff: noqa: E501, SIM105, PERF203 - tables of attacks are read a line each
"""Whatever bytes are given for an entry, the outcome is a value or an `Unreadable`: no code runs, nothing crashes."""

import gzip
import io
import json
import os
import pickle
import resource
import struct
import sys
import time
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memograd.codec import Unreadable, decode, encode
from memograd.codec._identity import digest_of

RAN = []


@dataclass(frozen=True)
class Record:
    x: Any


class Loud:
    def __init__(self):
        RAN.append("init")

    def __hash__(self):
        RAN.append("hash")
        return 1

    def __reduce__(self):
        return RAN.append, ("reduce",)


class Pair(NamedTuple):
    left: Any
    right: Any


def assert_refused(entry):
    for own in (True, False):
        with pytest.raises(Unreadable):
            decode(bytearray(entry) if own else bytes(entry), own=own)


def made(value, tensors=None, data=b"", meta=None):
    """An entry with this structure and these tensors."""
    text = value if isinstance(value, str) else json.dumps(value)
    header = {"__metadata__": {"memograd": "1", "value": text} | (meta or {})} | (tensors or {})
    raw = json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def tensor(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def one(kind, cells=(), facts=None, tensors=None, data=b""):
    return made([[0], [[kind, list(cells), facts or {}]]], tensors, data)


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../etc/passwd", b"\0" * (1 << 24))
    return file.getvalue()


def saved():
    file = io.BytesIO()
    torch.save({"x": Loud}, file)
    return file.getvalue()


@pytest.mark.parametrize("raw", [
    b"", b"\0", b"\0" * 7, b"\0" * 8, b"\0" * 100, b"\xff" * 8, b"\xff" * 100, pickle.dumps(Loud()), pickle.dumps([1]), zipped(), saved(),
    gzip.compress(b"\0" * (1 << 24)), b"\x93NUMPY" + b"\0" * 100, os.urandom(1000),
    (2).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"[]", (4).to_bytes(8, "little") + b"null",
    (1 << 62).to_bytes(8, "little") + b"{}", (3).to_bytes(8, "little") + b"{}", (8).to_bytes(8, "little") + pickle.dumps(Loud())[:8],
], ids=range(20))  # fmt: skip
def test_what_is_no_entry(raw):
    RAN.clear()
    assert_refused(raw)
    assert RAN == []


@pytest.mark.parametrize(
    "meta", [{"memograd": "2"}, {"memograd": ""}, {"memograd": 1}, {"memograd": None}, {"value": 1}, {"value": None}]
)
def test_metadata_of_another_kind(meta):
    assert_refused(made([1, []], meta=meta))


@pytest.mark.parametrize("item", [
    tensor(shape=(1 << 62,)), tensor(shape=(1 << 62, 4)), tensor(shape=(1 << 40,) * 9), tensor(shape=(1 << 63, 0)), tensor(shape=(10**30,)), tensor(shape=(-2, -1)),
    tensor(shape=(1,) * 10_000 + (2,)), tensor(shape=("2",)), tensor(shape=(2.0,)), tensor(shape=(True, 2)), tensor(shape=((2,),)),
    tensor(offsets=(-8, 0)), tensor(offsets=(8, 0)), tensor(offsets=(8, 16)), tensor(offsets=(0, 1 << 62)), tensor(offsets=(0,)), tensor(offsets=(0, 4)),
    tensor(offsets=(0, 8, 8)), tensor("F64"), tensor("F16"), tensor("OBJECT"), tensor(""), tensor("O" * 10_000), tensor(None), tensor(7), {}, [], None, 3,
    {"dtype": "F32"}, {"shape": [2]}, tensor() | {"data_offsets": None},
])  # fmt: skip
def test_tensors_that_do_not_fit_their_bytes(item):
    assert_refused(one("tensor", [0], None, {"0": item}, b"\0" * 8))


def test_tensors_that_overlap_leave_a_gap_or_miss():
    for first, second, size in (((0, 8), (4, 12), 12), ((0, 8), (12, 20), 20), ((0, 8), (0, 8), 8), ((4, 12), (12, 20), 20), ((0, 8), (8, 16), 20),
                                ((0, 8), (8, 16), 12)):  # fmt: skip
        assert_refused(one("list", [], None, {"0": tensor(offsets=first), "1": tensor(offsets=second)}, b"\0" * size))
    for name in ("1", "00", "", "x", "-1", "../0"):
        assert_refused(one("list", [], None, {name: tensor()}, b"\0" * 8))


KINDS = [
    "list", "tuple", "dict", "set", "frozenset", "OrderedDict", "defaultdict", "Counter", "deque", "slice", "str", "bytes", "bytearray", "int", "float", "complex",
    "range", "decimal", "fraction", "uuid", "datetime", "date", "time", "timedelta", "timezone", "zoneinfo", "singleton", "custom", "PurePosixPath",
    "WindowsPath", "array", "scalar", "numpy", "tensor", "torch", "size", "returned", "namedtuple", "enum", "dataclass", "record", "", "__reduce__", "os.system",
]  # fmt: skip
CELLS = [
    [], [0], [None], [True], ["x"], [""], [1.5], [-1], [1 << 63], [[0]], [[1]], [[2]], [[10**6]], [[10**18]], [0, 0], [0, 0, 0], [1, 2, 3, 4, 5, 6, 7, 8, 9], ["cuda:0"],
    ["../../etc/passwd"], ["Europe/../../../etc/passwd"], ["tzdata"], ["device:"], ["torch.load"], ["torch.hub"], ["f" * 100_000], ["1e999999999999999999"],
    ["9" * 100_000], ["z" * 16], ["00" * 8], ["ff" * 16], ["\0"],
]  # fmt: skip
FACTS = [
    {}, {"items": 0}, {"items": -1}, {"items": 5}, {"items": "0"}, {"items": [0]}, {"factory": "eval"}, {"factory": "list"}, {"maxlen": -1}, {"maxlen": 1 << 70},
    {"class": "os:system"}, {"class": "builtins:object", "fields": []}, {"class": "subprocess:Popen", "fields": []}, {"class": f"{__name__}:Loud", "fields": ["x"]},
    {"class": f"{__name__}:Record", "fields": []}, {"class": f"{__name__}:Record", "fields": ["x"], "keys": [1]}, {"class": f"{__name__}:Pair", "fields": ["left", "right"]},
    {"class": f"{__name__}:Record", "fields": ["x"], "digest": digest_of(Record)}, {"class": f"{__name__}:Pair", "fields": ["left", "right"], "digest": digest_of(Pair)},
    {"class": f"{__name__}:Record", "fields": ["x"], "digest": [1]}, {"class": "threading:Thread", "fields": [], "digest": "0" * 32}, {"class": "__mp_main__:x", "fields": []},
    {"attributes": []}, {"attributes": ["x"]}, {"attributes": ["__class__"]}, {"attributes": [1]}, {"attributes": "x"}, {"attributes": ["x"] * 9}, {"buffer": [1]},
    {"class": "", "fields": []}, {"class": ":", "fields": []}, {"class": "os.path:..", "fields": []}, {"class": "\0:\ud7ff", "fields": []}, {"class": 5}, {"class": None},
    {"class": "memograd:__class__"}, {"class": "__main__:__builtins__.eval"}, {"class": "enum:Enum"}, {"class": "collections:OrderedDict", "fields": [], "keys": []},
    {"name": "load"}, {"name": "max"}, {"name": "__loader__"}, {"name": 5}, {"name": None}, {"dtype": "O"}, {"dtype": "|O8"}, {"dtype": [["x", "O"]]}, {"dtype": "V999999999"},
    {"dtype": "F64"}, {"dtype": "complex128"}, {"dtype": "f8,(9999999,)f8"}, {"dtype": [["x", "f8", [1 << 40]]]}, {"dtype": []}, {"dtype": {}}, {"dtype": [[]]},
    {"dtype": [["x", "f4"], ["x", "f4"]]}, {"dtype": [["x", ["y"]]]}, {"dtype": "f" * 10_000}, {"shape": [1 << 62]}, {"shape": [1 << 62, 1 << 62]}, {"shape": [-1]},
    {"shape": "2"}, {"shape": [2], "strides": [1 << 62]}, {"shape": [2], "strides": [-1]}, {"shape": [2, 2], "strides": [4]}, {"shape": [1], "at": 8}, {"shape": [1], "at": -1},
    {"shape": [1], "at": 1 << 80}, {"shape": [1], "at": 1.5}, {"shape": [3]}, {"shape": [1] * 1000}, {"shape": [0, 1 << 61]}, {"shape": [0], "at": 1 << 40},
    {"shape": [1 << 30] * 3, "strides": [0] * 3}, {"shape": [1 << 40], "strides": [0]}, {"device": "cuda:99"}, {"device": "meta"}, {"device": "x" * 1000}, {"device": 7},
    {"device": ["cpu"]}, {"parameter": True}, {"requires_grad": True}, {"requires_grad": [1], "conj": 1, "neg": 1, "inference": 1, "parameter": 1}, {"readonly": {}},
]  # fmt: skip


def test_every_kind_with_all_that_it_does_not_expect():
    """Some of these are values; none may raise anything else, hang, or take much memory."""
    tensors, data = {"0": tensor()}, b"\x01\0\0\0\0\0\xc0\x7f"
    before = set(sys.modules)
    RAN.clear()
    for kind in KINDS:
        for cells in CELLS:
            for facts in FACTS if cells in ([], [0], ["x"], [[0]], [0, 0]) else FACTS[:2]:
                entry = one(kind, cells, facts, tensors, data)
                try:
                    decode(bytearray(entry), own=True)
                except Unreadable:
                    pass
    assert RAN == []
    new = {name.partition(".")[0] for name in set(sys.modules) - before}
    assert new <= {"tzdata", "memograd", "zoneinfo", "importlib"}  # zoneinfo looks into the package of its data


@pytest.mark.parametrize("entry", [
    one("tensor", [0], {"shape": [2], "strides": [2]}, {"0": tensor()}, b"\0" * 8),
    one("tensor", [0], {"shape": [2], "strides": [1 << 60]}, {"0": tensor()}, b"\0" * 8),
    one("tensor", [0], {"shape": [2], "strides": [-1], "at": 4}, {"0": tensor()}, b"\0" * 8),
    one("tensor", [0], {"shape": [2], "at": 4}, {"0": tensor()}, b"\0" * 8),
    one("tensor", [0], {"shape": [1], "at": -4}, {"0": tensor()}, b"\0" * 8),
    one("tensor", [0], {"shape": [3]}, {"0": tensor(), "1": tensor(offsets=(8, 16))}, b"\0" * 16),
    one("array", [0], {"shape": [2], "strides": [8]}, {"0": tensor()}, b"\0" * 8),
    one("array", [0], {"shape": [2], "strides": [-4]}, {"0": tensor()}, b"\0" * 8),
    one("array", [0], {"shape": [3]}, {"0": tensor(), "1": tensor(offsets=(8, 16))}, b"\0" * 16),
    one("array", [0], {"dtype": "|O"}, {"0": tensor()}, b"\x41" * 8),
    one("array", [0], {"dtype": [["x", "|O"]], "shape": [1]}, {"0": tensor()}, b"\x41" * 8),
    one("array", [0], {"dtype": "<f8"}, {"0": tensor()}, b"\0" * 8),
    one("bytes", [1], None, {"0": tensor()}, b"\0" * 8), one("bytes", [-1], None, {"0": tensor()}, b"\0" * 8),
    one("list", [], {"items": 0}, {"0": tensor()}, b"\0" * 8),
])  # fmt: skip
def test_views_that_reach_out_of_their_memory(entry):
    assert_refused(entry)


@pytest.mark.parametrize("value", [
    [], [1], [[0], []], [[5], [["list", []]]], [[-1], [["list", []]]], [[0], [["dict", ["a"]]]], [[0], [["tuple", [[0]]]]], [[0], [["set", [[1]]], ["tuple", [[0]]]]],
    [[2], [["list", []], ["set", [[0]]], ["tuple", [[1]]]]], [[1], [["list", []], ["dict", [[0], 1]]]], [[0], [["list", {}]]], [[0], [["list"]]], [[0], [[["list"], []]]],
    [[0], [["list", [{}]]]], [[0], [["list", [[]]]]], [[0], [["list", [[0, 0]]]]], [[0], [["list", [["0"]]]]], {}, "x", None, [[0], {"list": []}], [[0], [["list", [], []]]],
    [[0], [["tuple", [[1]]], ["frozenset", [[0]]]]], [[1], [["dict", [[2], 1]], ["list", [[0]]], ["tuple", []]]],
], ids=range(24))  # fmt: skip
def test_structures_that_refer_to_nothing(value):
    assert_refused(made(value))


@pytest.mark.parametrize("text", ["[" * 1_000_000, '{"a":' * 1_000_000, "[0," + "9" * 100_000 + "]", "[1e999999,[]]", "nul", "", '["\\ud800",[]]', "[NaN,[]]"],
                         ids=range(8))  # fmt: skip
def test_structure_that_is_no_json(text):
    assert_refused(made(text))


def test_headers_of_brackets():
    for raw in (b"[" * 1_000_000, b'{"a":' * 1_000_000, b'{"__metadata__":' * 1000):
        assert_refused(len(raw).to_bytes(8, "little") + raw)


def test_a_header_over_the_limit_is_not_looked_at():
    raw = bytes(65 << 20)
    with pytest.raises(Unreadable, match="at most"):
        decode((len(raw)).to_bytes(8, "little") + raw, own=True)


@pytest.mark.parametrize(
    "kind", ["list", "tuple", "dict", "OrderedDict", "deque", "Counter", "slice", "frozenset", "defaultdict", "custom"]
)
@pytest.mark.parametrize("forward", [False, True])
def test_depth_is_bounded_or_harmless(kind, forward):
    """A chain through references ahead is as long as the entry; it must at least be let go of without a crash."""
    count = 100_000
    cell = {"slice": lambda at: [[at], 0, 0], "dict": lambda at: ["k", [at]]}
    cell |= dict.fromkeys(("OrderedDict", "Counter", "defaultdict"), cell["dict"])
    child = cell.get(kind, lambda at: [[at]])
    if forward:
        rows = [[kind, child(at + 1)] for at in range(count)] + [["list", []]]
        root = [0]
    else:
        rows = [[kind, []] if kind in {"list", "tuple", "deque", "frozenset"} else ["list", []]] + [
            [kind, child(at)] for at in range(count)
        ]
        root = [count]
    if forward and kind in {"list", "dict", "OrderedDict", "Counter"}:
        value = decode(made([root, rows]), own=False)
        assert isinstance(value, (list, dict))
        del value
    else:
        with pytest.raises(Unreadable):
            decode(made([root, rows]), own=False)


@pytest.mark.parametrize("kind", ["tuple", "frozenset", "slice", "dataclass", "namedtuple"])
def test_keys_that_would_be_hashed_for_ever(kind):
    facts = {
        "dataclass": {"class": f"{__name__}:Record", "fields": ["x"], "digest": digest_of(Record)},
        "namedtuple": {"class": f"{__name__}:Pair", "fields": ["left", "right"], "digest": digest_of(Pair)},
    }
    rows: list[Any] = [["tuple", [1, 2]]]
    for at in range(0, 120, 2):
        rows += [
            ["tuple", [[at], [at]]],
            [
                kind,
                {"dataclass": [[at + 1]], "slice": [[at + 1], [at + 1], 0]}.get(kind, [[at + 1], [at + 1]]),
                facts.get(kind, {}),
            ],
        ]
    begun = time.monotonic()
    if kind != "frozenset":
        assert_refused(made([[len(rows)], [*rows, ["set", [[len(rows) - 1]]]]]))
        assert_refused(made([[len(rows)], [*rows, ["dict", [[len(rows) - 1], 1]]]]))
    else:
        assert_refused(made([[len(rows) - 1], rows]))
    assert time.monotonic() - begun < 20


def test_a_small_entry_makes_a_small_value():
    """What is shared stays shared: laughs by the billion take no memory."""
    rows = [["list", ["ha"] * 10]] + [["list", [[at]] * 10] for at in range(100)]
    value = decode(made([[100], rows]), own=False)
    assert value[0] is value[9]
    huge = decode(one("tensor", [0], {"shape": [1 << 40], "strides": [0]}, {"0": tensor()}, b"\0" * 8), own=False)
    assert huge.untyped_storage().nbytes() == 8
    assert decode(one("range", [0, 1 << 62, 1]), own=False) == range(1 << 62)


def test_a_class_is_read_by_its_digest_only():
    facts = {"class": f"{__name__}:Record", "fields": ["x"]}
    for digest in ({}, {"digest": None}, {"digest": ""}, {"digest": "0" * 32}, {"digest": digest_of(Pair)}):
        assert_refused(one("dataclass", [1], facts | digest))
    assert decode(one("dataclass", [1], facts | {"digest": digest_of(Record)}), own=False) == Record(1)


def test_classes_are_not_called():
    before = len(RAN)
    for kind, fields in (
        ("Loud", []),
        ("Loud", ["x"]),
        ("Record", ["y"]),
        ("Record.x", ["x"]),
        ("Record.__class__", []),
        ("RAN", []),
    ):
        for row in ("dataclass", "record", "namedtuple", "enum"):
            assert_refused(one(row, [1] * len(fields), {"class": f"{__name__}:{kind}", "fields": fields, "keys": []}))
    assert len(RAN) == before


SAMPLES = [
    {"a": [1, 2.5, "x", None, (True, b"raw")], "t": torch.arange(6.0).view(2, 3), "u": [torch.arange(6)[2:], 10**30]},
    [
        torch.arange(12.0)[::2],
        np.arange(5),
        np.arange(5)[::-1],
        {1, 2},
        frozenset({(1, 2)}),
        Record([1]),
        Pair(1, {"k": Record(2)}),
    ],
    [
        [1.5] * 20,
        list(range(20)),
        np.array([(1, 2.0)], dtype=[("x", "i4"), ("y", "f8")]),
        torch.float32,
        range(5),
        "text" * 50,
    ],
]


def _mutants(entry):
    places = st.integers(0, len(entry) - 1)
    flip = st.builds(
        lambda at, bit: entry[:at] + bytes([entry[at] ^ (1 << bit)]) + entry[at + 1 :], places, st.integers(0, 7)
    )
    cut = st.builds(lambda at: entry[:at], places)
    more = st.builds(lambda at, new: entry[:at] + new + entry[at:], places, st.binary(min_size=1, max_size=9))
    swap = st.builds(
        lambda at, new: entry[:at] + new + entry[at + len(new) :],
        places,
        st.sampled_from([b"[0]", b"9", b"-1", b"[1]", b'""', b"{}", b"null", b",", b"]"]),
    )
    sized = st.builds(
        lambda at, new: _grown(entry, at, new),
        st.integers(8, len(entry) - 1),
        st.sampled_from([b"9", b"0", b"[", b"1,", b"-", b"[3],"]),
    )
    return st.one_of(flip, cut, more, swap, sized)


def _grown(entry, at, new):
    return struct.pack("<Q", int.from_bytes(entry[:8], "little") + len(new)) + entry[8:at] + new + entry[at:]


@pytest.mark.parametrize("sample", range(len(SAMPLES)))
def test_damaged_entries_give_a_value_or_are_refused(sample):
    entry = b"".join(encode(SAMPLES[sample]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @settings(max_examples=600, deadline=None)
    @given(_mutants(entry))
    def look(raw):
        for own in (True, False):
            try:
                decode(bytearray(raw), own=own)
            except Unreadable:
                pass

    look()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 100 << 10


@settings(max_examples=300, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(KINDS) | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["class", "fields", "items", "shape", "at"]), inner, max_size=3)))  # fmt: skip
def test_any_json_is_a_value_or_is_refused(value):
    RAN.clear()
    for structure in (value, [[0], [value]], [[0], [["list", [1]], value]]):
        with suppress(Unreadable):
            decode(made(structure, {"0": tensor()}, b"\0" * 8), own=False)
    assert RAN == []
