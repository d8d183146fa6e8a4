"""Frames, series and indices by what they show."""

from __future__ import annotations

import copy
import threading
from importlib import import_module

import pytest
from tests.fingerprint.values import assert_all_differ

from memograd.fingerprint import fingerprint
from memograd.fingerprint._content import identify
from memograd.fingerprint._form import Unidentified

pd = import_module("pandas")


def frame(**changes):
    made = pd.DataFrame(
        {
            "i": [1, 2, 3],
            "f": [1.0, None, -0.0],
            "s": ["a", "b", None],
            "c": pd.Categorical(["x", "y", "x"]),
            "t": pd.to_datetime(["2024-01-01", "2024-01-02", None]),
            "n": pd.array([1, None, 3], dtype="Int64"),
        }
    )
    return made.assign(**changes) if changes else made


DIFFERENT = [
    frame(),
    frame(i=[1, 2, 4]),
    frame(i=[1.0, 2.0, 3.0]),
    frame(f=[1.0, None, 0.0]),
    frame(s=["a", "b", "c"]),
    frame(s=["a", None, "b"]),
    frame(c=["x", "y", "x"]),
    frame(c=pd.Categorical(["x", "y", "x"], categories=["y", "x"])),
    frame(c=pd.Categorical(["x", "y", "x"], ordered=True)),
    frame(t=pd.to_datetime(["2024-01-01", "2024-01-02", None], utc=True)),
    frame(n=pd.array([1, 2, 3], dtype="Int64")),
    frame(i=pd.array([1, 2, 3], dtype="Int64")),
    frame(new=1),
    frame()[["f", "i", "s", "c", "t", "n"]],
    frame().rename(columns={"i": "j"}),
    frame().set_index("i"),
    frame().set_index("i", drop=False),
    frame().set_index(["i", "s"]),
    frame().iloc[::-1],
    frame().iloc[:2],
    frame()["i"],
    frame()["i"].rename("j"),
    frame()["f"],
    frame()["i"].to_numpy(),
    frame().index,
    frame().columns,
    frame().set_index(["i", "s"]).index,
    pd.Index([0, 1, 2]),
    pd.Index([0, 1, 2], name="a"),
    pd.date_range("2024-01-01", periods=3),
    pd.date_range("2024-01-01", periods=3, freq="h"),
    pd.Timestamp("2024-01-01"),
    pd.Timestamp("2024-01-01", tz="UTC"),
    pd.Timestamp("2024-01-01 00:00:00.000000001"),
    pd.Timedelta("1ns"),
    pd.Timedelta("1us"),
    pd.NaT,
    pd.NA,
    pd.Int64Dtype(),
    pd.CategoricalDtype(["a"]),
]


def test_different_frames_have_different_fingerprints():
    assert_all_differ(DIFFERENT, fingerprint)


def test_an_equal_copy_has_the_same_fingerprint():
    for value in DIFFERENT:
        assert fingerprint(copy.deepcopy(value)) == fingerprint(value)
    assert fingerprint(frame()) == fingerprint(frame())


def test_attributes_of_a_frame_count():
    marked = frame()
    marked.attrs["source"] = "a"
    assert fingerprint(marked) != fingerprint(frame())


def test_a_change_in_place_is_seen():
    changed = frame()
    before = fingerprint(changed)
    changed.loc[1, "f"] = 5.0
    assert fingerprint(changed) != before


def test_the_path_into_a_frame_is_named():
    with pytest.raises(Unidentified) as refused:
        identify({"data": frame(lock=[1, 2, threading.Lock()])})
    assert refused.value.path.startswith("['data'].iloc[:, 6]")


def test_a_subclass_of_a_frame_is_refused():
    class Mine(pd.DataFrame):
        pass

    with pytest.raises(Unidentified, match="a subclass of a pandas frame"):
        identify(Mine({"a": [1]}))
