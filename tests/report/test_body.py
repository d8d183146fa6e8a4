"""What a body holds, read as data."""

from __future__ import annotations

import json

import pytest

from memograd._report._body import body_of
from memograd.store import About, Entry


def of(data):
    return body_of(Entry(About(), [data]))


def test_a_safetensors_header_is_read():
    import torch
    from safetensors.torch import save

    body = of(save({"x": torch.zeros(2, 3), "y": torch.zeros(4, dtype=torch.int64)}, {"note": "hi"}))
    assert (body.format, body.notes) == ("safetensors", {"note": "hi"})
    assert sorted(body.tensors) == [("x", "F32", (2, 3)), ("y", "I64", (4,))]


def crafted(header):
    return len(header).to_bytes(8, "little") + header


@pytest.mark.parametrize(
    "data",
    [
        b"", b"abc", b"\xff" * 8, (2**62).to_bytes(8, "little") + b"{}", crafted(b"{"), crafted(b"[1]"),
        crafted(b"\xff"),
        crafted(b"[" * 200_000), crafted(b'{"x": 3}'), crafted(b'{"x": {"dtype": "F32"}}'),
        crafted(b'{"__metadata__": 3}'),
        crafted(json.dumps({"x": {"dtype": "F32", "shape": "12a"}}).encode()), b"\x80\x04\x95cos\nsystem\n",
    ],
)  # fmt: skip
def test_what_is_no_such_file_is_bytes(data):
    assert of(data) == ("bytes", [], {}, data[:32])


def test_a_body_of_no_pieces_is_empty():
    assert body_of(Entry(About(), [])).format == "bytes"
