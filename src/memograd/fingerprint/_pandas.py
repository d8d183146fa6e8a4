"""Frames, series and indices of pandas, column by column. Asked when pandas is loaded already."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from memograd.fingerprint._form import Form, Unidentified, kind_of

if TYPE_CHECKING:
    from memograd.fingerprint._form import Writer


def writer(kind: type) -> Writer | None:
    """Find what takes a value of pandas apart; None if that is no matter of pandas'."""
    pandas: Any = sys.modules["pandas"]
    known: dict[type, Writer] = {
        pandas.DataFrame: _frame,
        pandas.Series: _series,
        pandas.MultiIndex: _levels,
        pandas.RangeIndex: lambda value: Form(b"RangeIndex", parts=(value.start, value.stop, value.step, value.name)),
        pandas.Categorical: _categorical,
        pandas.Timestamp: _moment,
        pandas.Timedelta: lambda value: Form(b"Timedelta", parts=(value.value, str(getattr(value, "unit", "ns")))),
        type(pandas.NaT): lambda _: Form(b"NaT"),
        type(pandas.NA): lambda _: Form(b"NA"),
    }
    if kind in known:
        return known[kind]
    if issubclass(kind, pandas.Index) and _is_pandas(kind):
        return _index
    if issubclass(kind, pandas.api.extensions.ExtensionArray) and _is_pandas(kind):
        return _array
    if issubclass(kind, pandas.api.extensions.ExtensionDtype):
        return lambda value: Form(b"pandas dtype", parts=(kind_of(value), str(value)))
    return _unknown if issubclass(kind, (pandas.DataFrame, pandas.Series)) else None


def _frame(value: Any) -> Form:
    columns = [value.iloc[:, place].array for place in range(value.shape[1])]
    parts = (value.columns, value.index, value.attrs, value.flags.allows_duplicate_labels, *columns)
    return Form(b"DataFrame", parts=parts, label=lambda index: f".iloc[:, {index - 4}]" if index >= 4 else "")


def _series(value: Any) -> Form:
    parts = (value.array, value.index, value.name, value.attrs, value.flags.allows_duplicate_labels)
    return Form(b"Series", parts=parts, label=lambda _: "")


def _index(value: Any) -> Form:
    freq = getattr(value, "freqstr", None)
    return Form(b"Index", parts=(kind_of(value), value.array, value.name, freq), label=lambda _: "")


def _levels(value: Any) -> Form:
    codes = [codes.tolist() for codes in value.codes]
    return Form(b"MultiIndex", parts=(list(value.levels), codes, list(value.names)), label=lambda _: "")


def _categorical(value: Any) -> Form:
    return Form(b"Categorical", parts=(value.categories, value.codes, value.ordered), label=lambda _: "")


def _array(value: Any) -> Form:
    """Write a column: as an array of numpy where it is one, else element by element."""
    plain = value.to_numpy() if str(type(value).__name__) in {"NumpyExtensionArray", "PandasArray"} else None
    parts = (kind_of(value), str(value.dtype), list(value) if plain is None else plain)
    return Form(b"column", parts=parts, label=lambda _: "")


def _moment(value: Any) -> Form:
    return Form(b"Timestamp", parts=(value.value, str(value.unit), value.tzinfo, value.fold), label=lambda _: "")


def _unknown(value: object) -> Form:
    raise Unidentified(f"of type {type(value).__qualname__}, a subclass of a pandas frame; pass the frame")


def _is_pandas(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "pandas"
