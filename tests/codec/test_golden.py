# ruff: noqa: E501, ICN001 - tables of values are read a line each
"""Entries that an earlier version has written are read by this one, or refused by name."""

import datetime
import math
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import torch

from memograd.codec import Unreadable, decode, encode

GOLDEN = Path(__file__).parent.parent / "golden" / "entry"
COUNTED = list(range(20))


def whole():
    base = torch.arange(12.0)
    return [
        base[:8].view(2, 4).t(),
        base[4:],
        torch.ones(2, dtype=torch.complex64),
        np.arange(4, dtype=">i2")[::-1],
        torch.tensor([1.5], dtype=torch.bfloat16),
    ]


VALUES = {
    "nothing": None,
    "plain": {"a": [1, 2.5, "ü", None, True], (1, "k"): {1, 2}, "raw": b"\0\xff", "big": -(1 << 100), "counted": COUNTED, "odd": "\ud800"},
    "special": [math.inf, -0.0, complex(1, math.inf), Decimal("1.10"), range(3), datetime.datetime(2024, 1, 2, tzinfo=datetime.timezone.utc)],
    "tensor": torch.arange(6.0).view(2, 3),
}  # fmt: skip


def entry(name):
    return (GOLDEN / f"{name}.safetensors").read_bytes()


def assert_equal(one, two):
    assert type(one) is type(two)
    if isinstance(one, torch.Tensor):
        assert one.dtype is two.dtype
        assert one.stride() == two.stride()
        assert torch.equal(one, two)
    else:
        assert one == two


@pytest.mark.parametrize("name", VALUES)
def test_version_1_is_read(name):
    assert_equal(decode(entry(name), own=False), VALUES[name])


def test_views_of_version_1_are_read():
    back = decode(entry("views"), own=False)
    for one, two in zip(back, whole(), strict=True):
        if isinstance(two, np.ndarray):
            assert (one.dtype, one.strides, one.tolist()) == (two.dtype, two.strides, two.tolist())
        else:
            assert_equal(one, two)
    back[1][0] = -1
    assert back[0][0, 1] == -1


def test_version_1_is_written_as_it_was():
    """A change of what is written is a new version, or does not change what old ones say."""
    for name, value in [*VALUES.items(), ("views", whole())]:
        assert b"".join(encode(value)) == entry(name), name


@pytest.mark.parametrize("name", ["class", "future"])
def test_what_is_not_known_is_refused_by_name(name):
    said = {"class": "'a_module_that_is_gone:Thing', of which the module is not loaded", "future": "version '999'"}
    with pytest.raises(Unreadable, match=said[name]):
        decode(entry(name), own=False)
