"""Nested values that hold batches: which parts of them have rows, what else they are, and the same with other rows.

Whatever has a first dimension (tensors, arrays, lists of texts) is a column, and all columns of a batch are equally
long. The rest is constant: it is the same for every row, and a part of their keys.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import UserDict
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    Making = Callable[[Sequence[Any]], Any]
    Outline = tuple[Any, ...]


class Unfit(Exception):  # noqa: N818 - control flow: the call is made plainly, for the reason that it says
    """A value that has no rows of which each could be a unit."""


class Aside(Unfit):
    """A call that is made plainly without anything being amiss: there is nothing to gain."""


class Answered(Unfit):
    """A call that was made already, and showed that it is to be made plainly."""

    def __init__(self, result: Any, reason: str) -> None:
        super().__init__(reason)
        self.result = result


class Column(NamedTuple):
    """What has a row for each of the batch.

    Attributes:
        data: a tensor with rows first, or texts.
        array: whether the user's is an array of numpy.
        dim: where the user's has its rows.
        order: the user's dimensions, the one with the longest strides first.
    """

    data: Tensor | list[str]
    array: bool = False
    dim: int = 0
    order: tuple[int, ...] = ()

    @property
    def spec(self) -> tuple[Any, ...]:
        """What all rows of the column have in common, as plain values."""
        if not isinstance(self.data, Tensor):
            return ("text",)
        kind, device, rest = str(self.data.dtype), str(self.data.device), tuple(self.data.shape[1:])
        return ("array" if self.array else "tensor", kind, device, rest, self.dim, self.is_channels_last)

    @property
    def is_channels_last(self) -> bool:
        """Whether an image's channels lie next to each other, for which there are other kernels."""
        return len(self.order) == 4 and self.order == (0, 2, 3, 1)

    def taken(self, at: Sequence[int]) -> Column:
        """Give some of the rows in fresh memory, in one layout whatever that of the batch is.

        Where a row begins in memory, and how far it is to the next, decide how vector instructions round.
        """
        if not isinstance(self.data, Tensor):
            return self._replace(data=[self.data[i] for i in at])
        order = self.order if self.is_channels_last else ()
        index = torch.as_tensor(at, device=self.data.device)
        return self._replace(data=self.data.detach().index_select(0, index), order=order)

    def plain(self) -> Any:
        """Give the column as the user has it: laid out in memory alike, an array if it was one."""
        if not isinstance(self.data, Tensor):
            return self.data
        value = self.data.movedim(0, self.dim) if self.dim else self.data
        if len(self.order) == value.dim() and self.order != tuple(range(value.dim())):
            back = sorted(range(value.dim()), key=self.order.__getitem__)
            value = value.permute(self.order).contiguous().permute(back)
        else:
            value = value.contiguous()
        return value.numpy() if self.array else value


class Parsed(NamedTuple):
    """A value taken apart.

    Attributes:
        columns: what has rows.
        constants: what has none, with the way to each.
        outline: how it is put together, as plain values.
        make: makes such a value of other columns' plain values.
    """

    columns: list[Column]
    constants: list[tuple[str, Any]]
    outline: Outline
    make: Making

    @property
    def size(self) -> int | None:
        """How many rows there are; None without columns. Raises `Unfit` where columns differ."""
        sizes = {len(column.data) for column in self.columns}
        if len(sizes) > 1:
            raise Unfit(f"its tensors have {', '.join(map(str, sorted(sizes)))} rows; name those without in static=")
        return sizes.pop() if sizes else None

    @property
    def frame(self) -> Parsed:
        """The same without rows: how the value is put together."""
        bare = [c._replace(data=c.data[:0].clone() if isinstance(c.data, Tensor) else []) for c in self.columns]
        return self._replace(columns=bare)

    def value(self, columns: Sequence[Column]) -> Any:
        """Make the value with other columns."""
        return self.make([column.plain() for column in columns])


def parse(value: Any, dim: int = 0, static: Collection[Any] = ()) -> Parsed:
    """Take a value apart. Raises `Unfit` where it holds tensors that have no rows.

    Args:
        value: nested tuples, lists, dictionaries, dataclasses, of tensors, arrays and texts.
        dim: where tensors have their rows; those with fewer dimensions have them first.
        static: names and places at the top that are constant, whatever they hold.
    """
    walk = _Walk(dim)
    outline, make = walk.into(value, "", {str(one) for one in static})
    return Parsed(walk.columns, walk.constants, outline, make)


class _Walk:
    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.columns: list[Column] = []
        self.constants: list[tuple[str, Any]] = []

    def into(self, value: Any, path: str, static: Collection[str] = ()) -> tuple[Outline, Making]:
        column = self.column(value, path)
        if column is not None:
            at = len(self.columns)
            self.columns.append(column)
            # Loaders collate texts as tuples and as lists.
            return ("rows",), (lambda leaves: tuple(leaves[at])) if type(value) is tuple else (
                lambda leaves: leaves[at]
            )
        parts = _taken_apart(value)
        if parts is None:
            return self.constant(value, path)
        names, inner, again = parts
        made = [
            self.constant(part, f"{path}.{name}") if name in static else self.into(part, f"{path}.{name}")
            for name, part in zip(names, inner, strict=True)
        ]
        if type(value).__module__ != "builtins":
            self.constants.append((f"{path}.__class__", cast("Any", type(value))))
        outline = (type(value).__qualname__, tuple(names), tuple(outline for outline, _ in made))
        makers = [make for _, make in made]
        return outline, lambda leaves: again([make(leaves) for make in makers])

    def constant(self, value: Any, path: str) -> tuple[Outline, Making]:
        self.constants.append((path, value))
        return ("constant",), lambda _: value

    def column(self, value: Any, path: str) -> Column | None:
        if isinstance(value, Tensor):
            return _of_tensor(value, path, self.dim)
        if isinstance(value, np.ndarray):
            return _of_array(cast("Any", value), path, self.dim)
        if type(value) in (list, tuple) and value and all(type(text) is str for text in value):
            return Column(list(value))
        return None


def _of_tensor(value: Tensor, path: str, dim: int) -> Column:
    plain = type(value) in (Tensor, torch.nn.Parameter) and value.layout is torch.strided and not value.is_nested
    if not plain or value.is_quantized or value.device.type == "meta":
        raise Unfit(f"{path[1:]} is a {type(value).__name__} of layout {value.layout}, which has no rows to read")
    if not value.dim():
        raise Unfit(f"{path[1:]} is a tensor of one number, which is not per row")
    at = dim if dim < value.dim() else 0
    strides = value.stride()
    order = tuple(sorted(range(value.dim()), key=lambda d: (-strides[d], d)))
    return Column(value.movedim(at, 0) if at else value, False, at, order)


def _of_array(value: Any, path: str, dim: int) -> Column:
    try:
        return _of_tensor(torch.from_numpy(value if value.flags.writeable else value.copy()), path, dim)._replace(
            array=True
        )
    except (TypeError, ValueError) as error:
        raise Unfit(f"{path[1:]} is an array of {value.dtype}, which torch cannot look at") from error


def _taken_apart(value: Any) -> tuple[list[str], list[Any], Callable[[list[Any]], Any]] | None:
    """Give the names of parts, the parts, and what makes one like it of others; None for what is not looked into."""
    kind: Any = cast("Any", type(value))
    if isinstance(value, dict):
        return _of_mapping(cast("dict[Any, Any]", value), kind)
    if isinstance(value, UserDict):
        return _of_user_dict(cast("UserDict[Any, Any]", value))
    if kind is list or kind is tuple:
        return list(map(str, range(len(value)))), list(value), kind
    if isinstance(value, tuple) and hasattr(kind, "_make"):
        return list(kind._fields), list(cast("tuple[Any, ...]", value)), kind._make
    return _of_fields(value) if dataclasses.is_dataclass(kind) else None


def _of_mapping(value: dict[Any, Any], kind: Any) -> tuple[list[str], list[Any], Callable[[list[Any]], Any]]:
    keys = list(value)
    # Outputs of transformers are dictionaries with fields, and are made of those.
    fields = dataclasses.is_dataclass(kind)
    if not fields and vars_of(value):
        raise Unfit(f"{kind.__qualname__} is a dictionary with attributes, which may be per row, too")

    def again(parts: list[Any]) -> Any:
        pairs = zip(keys, parts, strict=True)
        if fields:
            return kind(**dict(pairs))
        new = copy.copy(value)  # which has what a defaultdict has besides
        new.update(pairs)
        return new

    return [_named(key) for key in keys], list(value.values()), again


def _of_user_dict(value: UserDict[Any, Any]) -> tuple[list[str], list[Any], Callable[[list[Any]], Any]]:
    keys = list(value.data)

    def again(parts: list[Any]) -> Any:
        made: Any = copy.copy(value)
        made.data = dict(zip(keys, parts, strict=True))
        if getattr(made, "_encodings", None) is not None:  # a tokenizer's, of the rows that there were
            setattr(made, "_encodings", None)  # noqa: B010 - no name of ours
        return made

    return [_named(key) for key in keys], list(value.data.values()), again


def _named(key: Any) -> str:
    """Name a key; 1 and "1" are two."""
    return key if type(key) is str else f"[{key!r}]"


def vars_of(value: Any) -> dict[str, Any]:
    """Give the attributes of a value, none of one that can have none."""
    return getattr(value, "__dict__", {})


def _of_fields(value: Any) -> tuple[list[str], list[Any], Callable[[list[Any]], Any]]:
    names = [field.name for field in dataclasses.fields(value) if hasattr(value, field.name)]
    if others := vars_of(value).keys() - {field.name for field in dataclasses.fields(value)}:
        raise Unfit(f"{type(value).__qualname__} has {min(others)} beside its fields, which may be per row, too")

    def again(parts: list[Any]) -> Any:
        new = copy.copy(value)
        for name, part in zip(names, parts, strict=True):
            object.__setattr__(new, name, part)
        return new

    return names, [getattr(value, name) for name in names], again
