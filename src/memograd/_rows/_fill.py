"""`features.fill(dataset)`: all rows of a dataset before they are needed; if it is stopped, it goes on from there."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from memograd._rows._progress import Bar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from memograd._rows._receipt import Receipt


class Remembers(Protocol):
    """What `fill` asks for rows."""

    def remember(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Receipt | None:
        """Compute and keep the rows of a batch that are not there; tell what was done."""
        ...


class Filled(NamedTuple):
    """What `fill` did.

    Attributes:
        samples: how many it went through.
        known: how many of them were there already.
        computed: how many were computed; the others are equal to one of these.
        seconds: that it took.
    """

    samples: int
    known: int
    computed: int
    seconds: float


def fill(
    rows: Remembers,
    name: str,
    dataset: Any,
    batch_size: int = 64,
    *,
    inputs: Callable[[Any], Any] | None = None,
    by_index: bool = False,
    num_workers: int = 0,
    progress: bool | None = None,
) -> Filled:
    """Compute and keep the rows of a dataset that are not there.

    Args:
        rows: keeps them.
        name: of the function.
        dataset: a tensor, a list, a dataset with a length, or a `DataLoader`, whose batches are taken as they are.
        batch_size: samples a batch.
        inputs: makes of a sample (of a loader: of a batch) what the function is called with; the first of a pair where
            it is none.
        by_index: whether samples are kept by their index.
        num_workers: processes that read the dataset.
        progress: whether to show a bar; None for one where standard error is a terminal.

    Returns:
        What it did.

    Raises:
        ValueError: rows are not remembered at all; the message says why.
    """
    began = perf_counter()
    known = computed = samples = 0
    total = len(dataset) if hasattr(dataset, "__len__") and not isinstance(dataset, DataLoader) else None
    with Bar(name, total, shown=progress) as bar:
        for x in _batches(dataset, batch_size, inputs or _first, num_workers):
            index = {"index": range(samples, samples + _rows_of(x))} if by_index else {}
            receipt = rows.remember((x,), index)
            if receipt is None or receipt.engine != "recall":
                reason = "nothing is known of it" if receipt is None else receipt.reason
                raise ValueError(f"{name}.fill(): no row is remembered: {reason}")
            samples, known, computed = samples + receipt.rows, known + receipt.hits, computed + receipt.computed
            bar.advance(receipt.rows)
    return Filled(samples, known, computed, perf_counter() - began)


def _batches(dataset: Any, batch_size: int, inputs: Callable[[Any], Any], num_workers: int) -> Iterable[Any]:
    if isinstance(dataset, Tensor):
        return cast("tuple[Tensor, ...]", dataset.split(batch_size))
    if isinstance(dataset, DataLoader):
        return map(inputs, cast("Iterable[Any]", dataset))
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise TypeError(f"fill() got {dataset!r}, expected a tensor, a list, a dataset with a length, or a DataLoader")
    return DataLoader(_Inputs(dataset, inputs), batch_size, num_workers=num_workers)


class _Inputs(Dataset[Any]):
    """What the function is called with, of the samples of a dataset."""

    def __init__(self, dataset: Any, inputs: Callable[[Any], Any]) -> None:
        self._dataset, self._inputs = dataset, inputs

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, at: int) -> Any:
        return self._inputs(self._dataset[at])


def _first(sample: Any) -> Any:
    """Give the input of a sample: the first of a pair, say, of an image and its label."""
    pair: Any = sample
    return pair[0] if isinstance(sample, (tuple, list)) and sample else pair


def _rows_of(x: Any) -> int:
    for each in _leaves(x):
        return len(each)
    return 0


def _leaves(x: Any) -> Iterator[Any]:
    if isinstance(x, dict):
        for each in cast("dict[Any, Any]", x).values():
            yield from _leaves(each)
    else:
        yield x
