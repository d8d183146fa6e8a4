# ruff: noqa: E501 - tables of values are read a line each
"""Arrays come back with type, shape, strides and shared memory; the memory is viewed, not copied."""

import numpy as np
import pytest

from memograd.codec import Unencodable, decode, encode


def again(value):
    return decode(bytearray(b"".join(encode(value))), own=True)


base = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
ARRAYS = [
    base, base.T, base[::-1], base[:, ::2, 1:], np.asfortranarray(base), base[0, 0, 0:0], np.empty((0, 3)), np.array(5), np.broadcast_to(base[0], (9, 3, 4)),
    np.arange(3, dtype=">i4"), np.arange(3).astype("<M8[ns]"), np.array(["2020", "NaT"], dtype="M8[D]"), np.arange(3).astype("m8[us]"), np.zeros(2, "m8"),
    np.array(["a", "bcd"]), np.array([b"a", b"bc"]), np.array([b"abc"], dtype="V3"), np.ones(3, complex), np.ones(3, np.complex64), np.ones(3, np.longdouble),
    np.array([True, False]), np.arange(3, dtype=np.uint16), np.array([np.nan, -0.0], np.float16),
    np.array([(1, 2.5), (3, 4.5)], dtype=[("x", "i4"), ("y", "f8")]),
    np.zeros(2, dtype=np.dtype([("x", "i1"), ("y", "f8", (2, 2)), ("z", [("w", ">u2")])], align=False)),
    np.zeros(3, "S0"), np.lib.stride_tricks.sliding_window_view(np.arange(9), 3), np.zeros((1,) * 20),
]  # fmt: skip


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype.str}-{array.shape}-{array.strides}")
def test_it_comes_back(array):
    back = again(array)
    assert type(back) is np.ndarray
    assert (back.dtype, back.shape, back.strides) == (array.dtype, array.shape, array.strides)
    assert back.tobytes() == array.tobytes()
    assert back.flags.writeable == array.flags.writeable


def test_what_may_not_be_written_may_not_be_written_again():
    fixed = np.arange(3.0)
    free = fixed[:2]
    fixed.flags.writeable = False
    empty = np.empty(0)
    empty.flags.writeable = False
    back = again([fixed, free, empty, np.arange(3)])
    assert [each.flags.writeable for each in back] == [False, True, False, True]


NOTED = np.dtype("f4", metadata={"unit": "m"})


@pytest.mark.parametrize(
    "dtype",
    [NOTED, np.dtype([("x", NOTED)]), np.dtype([("x", [("y", NOTED, (2,))])]), np.dtype(">f4", metadata={"a": 1})],
)
def test_a_type_with_metadata_is_refused(dtype):
    for value in (np.zeros(2, dtype), dtype):
        with pytest.raises(Unencodable, match="metadata"):
            encode([value])


@pytest.mark.parametrize("value", [
    np.float32(1.5), np.int64(-3), np.bool_(True), np.datetime64("2020-01-01"), np.str_("abc"), np.bytes_(b"ab"), np.complex64(1j),
    np.array([(1, 2.0)], dtype=[("x", "i4"), ("y", "f8")])[0], np.timedelta64(3, "s"), np.longdouble(3),
], ids=lambda value: type(value).__name__)  # fmt: skip
def test_scalars_come_back(value):
    back = again([value])[0]
    assert type(back) is type(value)
    assert back == value
    assert back.dtype == value.dtype


def test_views_of_one_array_are_views_again():
    whole = np.arange(10.0)
    apart = np.arange(3)
    one, two, three = again([whole[2:6], whole[4:], apart])
    one[2] = -1
    assert two[0] == -1
    assert np.shares_memory(one, two)
    assert not np.shares_memory(one, three)


def test_the_memory_is_viewed():
    array = np.arange(100_000.0)
    pieces = encode(array)
    array[7] = -5
    entry = bytearray(b"".join(pieces))
    back = decode(entry, own=True)
    assert back[7] == -5
    assert np.shares_memory(back, np.frombuffer(entry, np.uint8))
    assert back.ctypes.data % 8 == 0
    copied = decode(entry, own=False)
    assert not np.shares_memory(copied, back)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_dtypes_come_back_and_what_holds_objects_does_not():
    assert again([np.dtype("<f4"), np.dtype([("x", ">i2")])]) == [np.dtype("<f4"), np.dtype([("x", ">i2")])]
    for value in (
        np.array([object()]),
        np.zeros(2, [("a", "O")]),
        np.ma.masked_array([1]),
        np.matrix([1]),
        np.dtype("O"),
        np.rec.array([(1,)]),
    ):
        with pytest.raises(Unencodable):
            encode([value])
