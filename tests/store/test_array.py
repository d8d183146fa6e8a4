"""Rows by integers: one, many, on disk, and after a crash. What a store does is in the contract."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
import torch

from memograd.store import About, Array, Entry


def test_by_integers_it_is_a_mapping():
    array = Array(None, shape=10, dtype="int64")
    array[3], array[7] = 30, 70
    assert (array[3], 3 in array, 4 in array, len(array), list(array), bool(array)) == (
        30,
        True,
        False,
        2,
        [3, 7],
        True,
    )
    del array[3]
    assert list(array) == [7]
    for missing in (3, -1, 10):
        with pytest.raises(KeyError):
            array[missing]
        with pytest.raises(KeyError):
            del array[missing]
        assert missing not in array
    assert "7" not in array


def test_a_row_out_of_bounds_cannot_be_set():
    with pytest.raises(IndexError, match="got row 10, expected 0 to 9"):
        Array(None, shape=10)[10] = 1.0


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "float32", "float64", "float16", "complex64"])
def test_numbers_come_back_as_numbers(dtype):
    array = Array(None, shape=4, dtype=dtype)
    for value in (0, 1):
        array[value] = value
        assert array[value] == value
    assert np.array_equal(array.rows([1, 0, 1]), np.array([1, 0, 1], dtype))
    assert array.rows([1]).dtype == dtype


def test_a_number_that_would_come_back_as_another_is_refused():
    array = Array(None, shape=4, dtype="int8")
    for wrong in (300, 2**80, 1.5):
        with pytest.raises(ValueError, match="which int8 cannot hold"):
            array[0] = wrong
    assert 0 not in array


def test_rows_are_arrays_that_may_be_changed():
    array = Array(None, shape=(5, 2, 3), dtype=np.float32)
    row = np.arange(6, dtype=np.float32).reshape(2, 3)
    array[2] = row
    array[2][:] = 0
    assert np.array_equal(array[2], row)
    assert array.rows([[2, 2], [2, 2]]).shape == (2, 2, 2, 3)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool, torch.complex64]
)
def test_with_a_dtype_of_torch_rows_are_tensors(dtype):
    array = Array(None, shape=(6, 3), dtype=dtype)
    rows = (torch.arange(18).reshape(6, 3) % 5).to(dtype)
    assert array.put_rows(torch.arange(6), rows) == 6
    found = array.rows(torch.tensor([4, 0, 4]))
    assert (found.dtype, torch.equal(found, rows[[4, 0, 4]]), torch.equal(array[5], rows[5])) == (dtype, True, True)
    array[1] = rows[0]
    assert torch.equal(array[1], rows[0])


def test_a_tensor_that_requires_grad_is_put_by_its_value():
    array = Array(None, shape=(2, 3), dtype=torch.float32)
    array[0] = torch.ones(3, requires_grad=True)
    assert torch.equal(array[0], torch.ones(3))


def test_many_rows_are_put_and_got_at_once():
    array = Array(None, shape=(1000, 4), dtype="float64")
    at = np.random.default_rng(0).permutation(1000)[:600]
    rows = np.random.default_rng(1).normal(size=(600, 4))
    assert array.put_rows(at, rows) == 600
    assert np.array_equal(array.rows(at[::-1]), rows[::-1])
    assert (array.present().sum(), array.present(at).all(), len(array), array.nbytes) == (600, True, 600, 600 * 32)
    assert array.delete_rows(at[:100]) == 100
    assert not array.present(at[:100]).any()
    with pytest.raises(KeyError):
        array.rows(at)


def test_of_an_index_that_is_put_twice_the_last_row_stays():
    array = Array(None, shape=(5, 1), dtype="int64")
    array.put_rows([1, 1, 2, 1], [[1], [2], [3], [4]])
    assert array.rows([1, 2]).tolist() == [[4], [3]]


def test_nothing_may_be_asked_for():
    array = Array(None, shape=(5, 2))
    assert array.rows([]).shape == (0, 2)
    assert array.put_rows([], np.empty((0, 2), np.float32)) == 0


@pytest.mark.parametrize(
    ("indices", "rows", "error"),
    [
        ([5], np.zeros((1, 2), np.float32), IndexError), ([-1], np.zeros((1, 2), np.float32), IndexError),
        ([0.5], np.zeros((1, 2), np.float32), TypeError), ([0], np.zeros((1, 3), np.float32), ValueError),
        ([0, 1], np.zeros((1, 2), np.float32), ValueError), ([0], np.full((1, 2), 0.1), ValueError),
    ],
)  # fmt: skip
def test_rows_that_do_not_fit_are_refused_and_change_nothing(indices, rows, error):
    array = Array(None, shape=(5, 2))
    with pytest.raises(error):
        array.put_rows(indices, rows)
    assert len(array) == 0


@pytest.mark.parametrize("shape", [0, (), (3, 0), -1, (2.0,), True])
def test_a_shape_that_is_none_is_refused_with_what_to_write(shape):
    with pytest.raises(ValueError, match=r"shape got .*write shape=\(60_000, 512\)"):
        Array(None, shape=shape)


@pytest.mark.parametrize("dtype", ["object", "float", object, "str"])
def test_a_dtype_that_is_none_is_refused(dtype):
    with pytest.raises(ValueError, match=r"dtype got .*expected one of bool"):
        Array(None, shape=3, dtype=dtype)


def test_what_is_on_disk_is_there_for_the_next(tmp_path):
    first = Array(tmp_path / "a", shape=(100, 3), fingerprint="v1")
    first.put_rows([5, 6], np.ones((2, 3), np.float32))
    first.flush()
    second = Array(tmp_path / "a", shape=(100, 3), fingerprint="v1")
    assert second.rows([5, 6]).tolist() == [[1.0] * 3] * 2
    second[7] = np.full(3, 2.0, np.float32)
    assert first[7].tolist() == [2.0] * 3


@pytest.mark.parametrize("other", [{"shape": (101, 3)}, {"dtype": "float64"}, {"fingerprint": "v2"}])
def test_a_folder_of_something_else_is_refused_and_stays(tmp_path, other):
    made = {"shape": (100, 3), "dtype": "float32", "fingerprint": "v1"}
    Array(tmp_path, **made)[1] = np.ones(3, np.float32)
    with pytest.raises(ValueError, match="its rows belong to something else"):
        Array(tmp_path, **(made | other))
    assert Array(tmp_path, **made)[1].tolist() == [1.0] * 3


@pytest.mark.parametrize("header", [b"", b"[]", b"{", b'"x"', b"[" * 100_000, b"\xff"])
def test_a_header_that_cannot_be_read_is_refused(tmp_path, header):
    Array(tmp_path, shape=3)
    (tmp_path / "array.json").write_bytes(header)
    with pytest.raises(ValueError, match="its rows belong to something else"):
        Array(tmp_path, shape=3)


def test_the_header_says_what_it_is(tmp_path):
    Array(tmp_path, shape=(3, 2), dtype="int32", fingerprint="mnist")
    assert json.loads((tmp_path / "array.json").read_text()) == {
        "format": "memograd array", "version": 1, "dtype": "int32", "shape": [3, 2], "byteorder": sys.byteorder,
        "fingerprint": "mnist",
    }  # fmt: skip


def test_a_readonly_array_takes_nothing(tmp_path):
    Array(tmp_path, shape=3, dtype="int64")[1] = 5
    reader = Array(tmp_path, shape=3, dtype="int64", readonly=True)
    reader[2] = 7
    assert (reader[1], 2 in reader, reader.put_rows([2], [7]), reader.delete_rows([1])) == (5, False, 0, 0)


def test_files_that_were_cut_off_lose_rows_and_give_no_wrong_ones(tmp_path):
    array = Array(tmp_path, shape=(100, 4), dtype="int64")
    array.put_rows(range(100), np.arange(400).reshape(100, 4))
    del array
    for name, size in (("rows.raw", 1000), ("marks.raw", 301)):
        os.truncate(tmp_path / name, size)
        again = Array(tmp_path, shape=(100, 4), dtype="int64")
        for at in range(100):
            assert at not in again or again[at].tolist() == list(range(4 * at, 4 * at + 4))
        assert 99 not in again
        assert 5 in again


def test_no_flipped_bit_gives_a_wrong_row(tmp_path):
    draw = np.random.default_rng(0)
    rows = draw.integers(0, 2**60, (64, 4))
    Array(tmp_path, shape=(64, 4), dtype="int64").put_rows(range(64), rows)
    files = {name: (tmp_path / name).read_bytes() for name in ("rows.raw", "marks.raw")}
    for _ in range(300):
        name = draw.choice(list(files))
        flipped = bytearray(files[name])
        flipped[draw.integers(len(flipped))] ^= 1 << int(draw.integers(8))
        (tmp_path / name).write_bytes(flipped)
        array = Array(tmp_path, shape=(64, 4), dtype="int64")
        there = np.flatnonzero(array.present())
        assert len(there) == 63
        assert np.array_equal(array.rows(there), rows[there])
        (tmp_path / name).write_bytes(files[name])


WRITER = """
import sys, numpy as np
from memograd.store import Array
array = Array(sys.argv[1], shape=(50, 500), dtype="int64")
print("begun", flush=True)
n = 0
while True:
    n += 1
    array[n % 50] = np.full(500, n)
    array.put_rows([3, 4, 5], np.repeat([[n]], 500, 1).repeat(3, 0))
"""


def test_a_writer_that_is_killed_leaves_no_wrong_row_and_readers_see_none(tmp_path):
    array = Array(tmp_path, shape=(50, 500), dtype="int64")
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as writer:
            writer.stdout.readline()
            for _ in range(300):
                for at in (3, 17, 40):
                    row = array._rows.read(at)
                    assert row is None or len(set(np.frombuffer(row, np.int64))) == 1
                with suppress(KeyError):
                    assert (np.ptp(array.rows([3, 4, 17]), axis=1) == 0).all()
            writer.kill()
        fresh = Array(tmp_path, shape=(50, 500), dtype="int64")
        assert all(len(set(fresh[at].tolist())) == 1 for at in fresh if at in fresh)
        array[3] = np.zeros(500, np.int64)
        assert array[3].sum() == 0


def test_a_full_disk_raises_and_leaves_no_wrong_row(tmp_path, monkeypatch):
    array = Array(tmp_path, shape=(5, 2), dtype="int64")
    array[1] = np.array([1, 2])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("memograd.store._array._place.Folder.set_rows", full)
    with pytest.raises(OSError, match="No space"):
        array[1] = np.array([3, 4])
    assert 1 not in array


def test_as_a_store_it_refuses_what_it_cannot_keep():
    array = Array(None, shape=(5, 2))
    one = (1).to_bytes(8, "big")
    assert not array.put(b"short", Entry(About(), [bytes(8)]))
    assert not array.put((5).to_bytes(8, "big"), Entry(About(), [bytes(8)]))
    assert not array.put(one, Entry(About(), [bytes(9)]))
    assert not array.put(one, Entry(About(expires=1e12), [bytes(8)]))
    assert array.put(one, Entry(About(), [bytes(8)]))
    assert 1 in array


def test_of_two_processes_one_has_the_lease_of_a_row(tmp_path):
    array, key = Array(tmp_path, shape=5), (2).to_bytes(8, "big")
    program = (
        "import sys; from memograd.store import Array\n"
        "print(Array(sys.argv[1], shape=5).lease((2).to_bytes(8, 'big')) is not None)"
    )

    def other():
        done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    with array.lease(key):
        assert other() == "False"
    assert other() == "True"


def test_edit_distance_in_a_table_of_5_000_cells():
    a, b = "memoization " * 6, "memorization rules " * 4
    width = len(b) + 1
    table = Array(None, shape=(len(a) + 1) * width, dtype="int32")
    for i in range(len(a) + 1):
        for j in range(width):
            if not (i and j):
                table[i * width + j] = i + j
                continue
            same = table[(i - 1) * width + j - 1] + (a[i - 1] != b[j - 1])
            table[i * width + j] = min(same, table[(i - 1) * width + j] + 1, table[i * width + j - 1] + 1)
    assert len(table) == (len(a) + 1) * width > 5_000
    assert table[len(a) * width + len(b)] == plain_edit_distance(a, b)


def plain_edit_distance(a, b):
    before = list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        now = [i]
        for j, other in enumerate(b, 1):
            now.append(min(before[j - 1] + (letter != other), before[j] + 1, now[-1] + 1))
        before = now
    return before[-1]


def test_features_by_the_samples_index(tmp_path):
    images = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    backbone, computed = torch.nn.Linear(8, 4).requires_grad_(False), []
    features = Array(tmp_path, shape=(64, 4), dtype=torch.float32, fingerprint="backbone")
    for epoch in range(2):
        for batch in torch.randperm(64, generator=torch.Generator().manual_seed(epoch)).split(16):
            missing = batch[~torch.from_numpy(features.present(batch))]
            if len(missing):
                computed.append(len(missing))
                features.put_rows(missing, backbone(images[missing]))
            assert torch.allclose(features.rows(batch), backbone(images[batch]), atol=1e-6)
    assert sum(computed) == 64
