"""What a body holds, read as data."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import numpy as np
import pytest
import torch

from memograd import memo
from memograd._report._body import body_of
from memograd.codec import encode
from memograd.store import About, Disk, Entry


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Found:
    score: float
    boxes: list[int]


def of(data):
    return body_of(Entry(About(), [data]))


def parts(value):
    body = of(b"".join(encode(value)))
    assert body.format == "safetensors"
    return [tuple(part) for part in body.parts]


def test_an_outline_says_where_what_is():
    assert parts({"text": "hi", "sizes": [torch.zeros(3, 4)], 3: None}) == [
        ("result", "dict of 3"),
        ("result['text']", "str 'hi'"),
        ("result['sizes']", "list of 1"),
        ("result['sizes'][0]", "tensor F32 (3, 4)"),
        ("result[3]", "None"),
    ]


def test_of_a_call_the_result_is_shown_and_not_what_it_is_wrapped_in(tmp_path):
    with Disk(tmp_path) as store:
        memo(lambda x: {"text": x * 2}, store=store, always=True)("hi")
        (info,) = store.infos()
        assert body_of(store.get(info.key)).parts == [("result", "dict of 1"), ("result['text']", "str 'hihi'")]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (torch.zeros(2, 3).t(), "tensor F32 (3, 2)"), (torch.zeros(2, dtype=torch.complex64), "tensor complex64 (2,)"),
        (np.zeros((2, 2)), "array F64 (2, 2)"), (np.float32(3), "scalar F32 ()"),
        (np.array(["a", "bc"]), "array <U2 (2,)"),
        (b"abc", "bytes of 3 bytes"), ([1.5] * 2000, "list of 2,000 (F64)"), (date(2020, 1, 2), "date"),
        (10**40, "int"), (7, "int 7"), ("x" * 500, "str 'xxx"),
    ],
)  # fmt: skip
def test_each_kind_is_named(value, kind):
    ((path, said),) = parts(value)
    assert path == "result"
    assert said.startswith(kind)
    assert len(said) < 100


def test_classes_are_named_and_not_loaded():
    known = b"".join(encode([Found(0.5, [1]), Point(1, 2), Counter("a")]))
    data = known.replace(b"test_body:Found", b"nowhere12:Found")
    assert len(data) == len(known)
    shown = [tuple(part) for part in of(data).parts]
    assert ("result[0]", "dataclass " + Found.__module__.replace("test_body", "nowhere12") + ".Found") in shown
    assert ("result[0].score", "float 0.5") in shown
    assert ("result[0].boxes[0]", "int 1") in shown
    assert ("result[1].y", "int 2") in shown
    assert ("result[2]['a']", "int 1") in shown


def test_the_memory_of_arrays_is_listed():
    body = of(b"".join(encode([torch.zeros(2, 3), torch.zeros(4, dtype=torch.int64)])))
    assert body.tensors == [("F32", (2, 3)), ("I64", (4,))]


def test_an_outline_is_no_longer_than_people_read():
    assert len(parts([[n] for n in range(10_000)])) == 100


def test_what_holds_itself_ends():
    value = []
    value.append(value)
    assert len(parts(value)) < 10


def crafted(header):
    return len(header).to_bytes(8, "little") + header


def entry(value, **tensors):
    header = {"__metadata__": {"memograd": "1", "value": value}, **tensors}
    return crafted(json.dumps(header).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"", b"abc", b"\xff" * 8, (2**62).to_bytes(8, "little") + b"{}", crafted(b"{"), crafted(b"[1]"),
        crafted(b"\xff"), crafted(b"{}"), crafted(b'{"__metadata__": {"memograd": "2"}}'),
        crafted(b"[" * 200_000), crafted(b'{"x": 3}'), crafted(b'{"x": {"dtype": "F32"}}'),
        crafted(b'{"__metadata__": 3}'),
        crafted(json.dumps({"x": {"dtype": "F32", "shape": "12a"}}).encode()), b"\x80\x04\x95cos\nsystem\n",
        entry("[1,[]]", **{"0": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}),
    ],
)  # fmt: skip
def test_what_is_no_such_file_is_bytes(data):
    assert of(data) == ("bytes", [], [], data[:32])


@pytest.mark.parametrize(
    "value",
    [
        "", "[", "[[9],[]]", '[[0],[["tensor",[9]]]]', '[[0],[["tensor",[-1]]]]', '[[0],[["tensor",[[0]]]]]',
        '[[0],[["list",[],{"items":"x"}]]]', '[[0],[["dataclass",[1]]]]', '[[0],[["tensor",[0],{"shape":3}]]]',
        '[[0],[["list",[[7]]]]]', "[" * 100_000,
    ],
)  # fmt: skip
def test_of_a_structure_that_is_none_the_arrays_are_listed(value):
    body = of(entry(value, **{"0": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}) + bytes(4))
    assert [tuple(part) for part in body.parts] == [("tensor 0", "F32 (1,)")]


def test_a_body_of_no_pieces_is_empty():
    assert body_of(Entry(About(), [])).format == "bytes"
