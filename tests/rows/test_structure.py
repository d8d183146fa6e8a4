"""Batches in whatever structure: taken apart into columns, and put together again with other rows."""

from __future__ import annotations

from collections import OrderedDict, UserDict, defaultdict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import torch

from memograd._rows._structure import Unfit, parse


class Pair(NamedTuple):
    a: torch.Tensor
    b: torch.Tensor


@dataclass
class Batch:
    ids: torch.Tensor
    masks: list
    name: str = "x"


@dataclass
class Output(OrderedDict):
    """As those of transformers: a dictionary with fields."""

    logits: torch.Tensor = None

    def __post_init__(self):
        self["logits"] = self.logits


X = torch.arange(12).reshape(4, 3)
VALUES = {
    "a tensor": X,
    "an array": np.arange(8.0).reshape(4, 2),
    "texts": ["a", "b", "c", "d"],
    "texts as a tuple": ("a", "b", "c", "d"),
    "a tuple": (X, [X + 1, None]),
    "a dictionary": {"x": X, "more": {"t": ["a", "b", "c", "d"], "scale": 2.0}},
    "an ordered dictionary": OrderedDict(y=X, x=X),
    "a named tuple": Pair(X, X.bool()),
    "a dataclass": Batch(X, [X > 3]),
    "a dictionary with fields": Output(X),
    "what wraps a dictionary": UserDict(x=X),
}


def equal(one, other):
    return repr(one) == repr(other) and type(one) is type(other)


@pytest.mark.parametrize("name", VALUES)
def test_a_value_is_put_together_as_it_was(name):
    value = VALUES[name]
    parsed = parse(value)
    assert parsed.size == 4
    assert equal(parsed.value(parsed.columns), value)


@pytest.mark.parametrize("name", VALUES)
def test_rows_are_taken_from_every_column(name):
    parsed = parse(VALUES[name])
    again = parse(parsed.value([column.taken([3, 3, 0]) for column in parsed.columns]))
    for one, other in zip(again.columns, parsed.columns, strict=True):
        assert [str(row) for row in one.data] == [str(other.data[k]) for k in (3, 3, 0)]


def test_what_is_taken_has_memory_of_its_own():
    column = parse(X).columns[0].taken(range(4))
    column.data.zero_()
    assert X.sum() == 66


def test_outlines_tell_structures_apart():
    outlines = [parse(value).outline for value in VALUES.values()]
    assert outlines[4] != outlines[5]
    assert parse((X, None)).outline == parse((X, 3)).outline
    assert parse((X, None)).constants != parse((X, 3)).constants


@pytest.mark.parametrize("value", [torch.tensor(1.0), X.to_sparse(), X.float().to("meta")])
def test_what_has_no_rows_is_said(value):
    with pytest.raises(Unfit, match=r"x is a "):
        parse({"x": value})


def test_columns_are_equally_long():
    with pytest.raises(Unfit, match=r"3, 4 rows.*static"):
        _ = parse((X, X[:3])).size


def test_static_parts_have_no_rows():
    parsed = parse({"x": X, "weights": X[:3]}, static={"weights"})
    assert parsed.size == 4
    assert [path for path, _ in parsed.constants] == [".weights"]


def test_rows_in_another_dimension():
    parsed = parse({"x": X.t(), "lengths": X[:, 0]}, dim=1)
    assert parsed.size == 4
    taken = parsed.value([column.taken([1]) for column in parsed.columns])
    assert taken["x"].tolist() == [[3], [4], [5]]
    assert taken["lengths"].tolist() == [3]


def test_a_layout_is_kept_where_it_is_the_results():
    y = torch.randn(4, 5, 6).permute(0, 2, 1)
    column = parse(y).columns[0]
    again = column._replace(data=y.contiguous()).plain()
    assert again.stride() == y.stride()
    assert torch.equal(again, y)


class Attributed(dict):
    pass


@dataclass
class Noted:
    ids: torch.Tensor


def with_attribute(value, data):
    value.other = data
    return value


@pytest.mark.parametrize("value", [with_attribute(Noted(X), X), with_attribute(Attributed(x=X), X)])
def test_what_is_kept_beside_fields_may_be_per_row(value):
    with pytest.raises(Unfit, match=r"beside its fields|with attributes"):
        parse(value)


def test_a_dictionary_that_makes_what_is_missing_still_does():
    parsed = parse(defaultdict(list, x=X))
    again = parsed.value(parsed.columns)
    assert type(again) is defaultdict
    assert again["missing"] == []


def test_keys_of_other_types_are_other_keys():
    assert parse({1: X}).outline != parse({"1": X}).outline


def test_classes_of_one_name_are_two():
    def made():
        @dataclass
        class Local:
            x: torch.Tensor

        return parse(Local(X)).constants

    assert made() != made()
