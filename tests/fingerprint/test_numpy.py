"""Arrays and scalars of numpy, by content, dtype, shape and strides."""

from __future__ import annotations

from importlib import import_module

import pytest
from tests.fingerprint.values import assert_all_differ

from memograd import Memo
from memograd.fingerprint import fingerprint
from memograd.fingerprint._content import identify
from memograd.fingerprint._form import Unidentified

np = import_module("numpy")

DIFFERENT = [
    np.zeros(3), np.zeros(4), np.zeros((3, 1)), np.zeros((1, 3)), np.zeros(3, "f4"), np.zeros(3, "i8"),
    np.zeros(3, "u8"), np.zeros(3, ">f8"), np.array([0.0, 0.0, -0.0]), np.array([0.0, 0.0, np.nan]),
    np.zeros(3, bool), np.zeros(()),
    np.zeros((0, 3)), np.zeros((3, 0)), np.zeros(0), np.array(["a"]), np.array(["b"]), np.array([b"a"]), np.array([""]),
    np.array([1], "M8[s]"), np.array([1], "M8[ms]"), np.array([1], "m8[s]"), np.array([1, "a"], object),
    np.array([1.0, "a"], object), np.array([None]), np.array([1j]), np.zeros(2, [("a", "i4"), ("b", "f4")]),
    np.zeros(2, [("a", "i4"), ("c", "f4")]), np.float64(1), np.float32(1), np.int64(1), np.bool_(1), np.str_("a"),
    np.float64(0.0), np.float64(-0.0), np.datetime64(1, "s"), 1.0, 1, True, [0.0, 0.0, 0.0], b"", np.dtype("f4"),
    np.float32, np.array(["a"], np.dtypes.StringDType()), np.array(["b"], np.dtypes.StringDType()),
    np.sum, np.arange(1000),
    np.arange(1000)[::-1], np.arange(1001), np.eye(40), np.eye(40)[:, ::-1],
]  # fmt: skip


def test_different_arrays_have_different_content():
    assert_all_differ(DIFFERENT)


def test_one_changed_element_anywhere_changes_the_content():
    """Large arrays are not sampled."""
    array = np.zeros(600_000, "f4")
    before = identify(array)
    for index in (0, 1, 299_999, 523_417, -1):
        changed = array.copy()
        changed[index] = 1
        assert identify(changed) != before


@pytest.mark.parametrize(
    ("view", "same"),
    [
        (lambda a: a.copy(), True),
        (lambda a: np.concatenate([a, a])[: len(a)], True),
        (lambda a: np.asfortranarray(a[:, :1, :1])[:, ::-1], True),
        (np.asfortranarray, False),
        (lambda a: np.repeat(a, 2, axis=0)[::2], False),
        (lambda a: a[::-1].copy()[::-1], False),
    ],
)
def test_strides_are_content_where_a_dimension_has_several_elements(view, same):
    array = np.arange(60.0).reshape(3, 4, 5)
    whole = array[:, :1, :1].copy() if view(array).shape == (3, 1, 1) else array
    assert (identify(view(array)) == identify(whole)) is same


def test_an_array_in_columns_is_another_call():
    order = Memo()(lambda a: a.ravel(order="K").tolist())
    array = np.arange(6).reshape(2, 3)
    assert order(array) == [0, 1, 2, 3, 4, 5]
    assert order(np.asfortranarray(array)) == [0, 3, 1, 4, 2, 5]


def test_an_array_is_a_snapshot():
    array = np.arange(3)
    before = identify(array)
    array[0] = 7
    assert identify(array) != before == identify(np.arange(3))


def test_a_mapped_file_has_the_content_of_the_file(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(10))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert identify(mapped) == identify(np.load(tmp_path / "a.npy", mmap_mode="r"))


@pytest.mark.parametrize(
    "value",
    [
        np.ma.array([1]),
        np.recarray(1, [("a", "i4")]),
        np.frompyfunc(abs, 1, 1),
        np.zeros(1, [("a", object)]),
    ],
)
def test_what_hides_more_than_its_elements_is_refused(value):
    with pytest.raises(Unidentified):
        identify([value])


@pytest.mark.parametrize(
    "make", [np.random.default_rng, np.random.RandomState, np.random.PCG64, np.random.MT19937, np.random.SeedSequence]
)
def test_a_random_stream_is_its_state(make):
    assert identify(make(1)) == identify(make(1)) != identify(make(2))


def test_a_draw_and_a_spawn_change_what_a_generator_is():
    generator, same = np.random.default_rng(1), np.random.default_rng(1)
    contents = [identify(generator)]
    for change in (lambda g: g.random(), lambda g: g.integers(3, dtype="i4"), lambda g: g.spawn(1)):
        change(generator)
        contents.append(identify(generator))
        change(same)
        assert identify(same) == contents[-1]
    assert len(set(contents)) == 4


@pytest.mark.parametrize(
    "view", [np.asfortranarray, lambda a: np.repeat(a, 2, axis=0)[::2], lambda a: a[::-1].copy()[::-1]]
)
@pytest.mark.parametrize("dtype", ["f4", "O", "U3"])
def test_the_fingerprint_of_an_array_is_the_same_for_every_layout(view, dtype):
    array = np.arange(60).reshape(3, 4, 5).astype(dtype)
    assert fingerprint(view(array)) == fingerprint(array) != fingerprint(array[::-1])
    assert fingerprint(array) != fingerprint(array.reshape(3, 20))


def test_the_fingerprint_of_a_mapped_array_is_that_of_the_array(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(10))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert fingerprint(mapped) == fingerprint(np.arange(10))
    assert identify(mapped) != identify(np.arange(10))


def test_an_object_array_names_the_path_to_what_has_no_identity():
    with pytest.raises(Unidentified) as refused:
        identify({"a": np.array([1, iter(())], object)})
    assert refused.value.path == "['a'][1]"
