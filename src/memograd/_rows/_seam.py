"""Where the results of rows live: whoever keeps them answers for many rows at once, in tensors and not row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from memograd._rows._structure import Parsed


class Found(NamedTuple):
    """Which of some rows are there, and their results.

    Attributes:
        here: (rows,) a bool array.
        gather: gives for each column of the result a tensor with the rows that are there, in the order asked for, in
            memory of its own.
    """

    here: Any
    gather: Callable[[], Sequence[Tensor]]


class Places(Protocol):
    """Keeps the results of rows of one *context*: one function in one state, one kind of row.

    Attributes:
        frame: how results are put together, with no rows in it; None before the first.
    """

    frame: Parsed | None

    def find(self, names: Sequence[bytes]) -> Found:
        """Look rows up by their names (digests); one may be asked for more than once."""
        ...

    def put(self, names: Sequence[bytes], leaves: Sequence[Tensor]) -> int:
        """Keep rows: for each column of the result a tensor (rows, ...); count those that were taken."""
        ...

    def drop(self, name: bytes) -> bool:
        """Forget a row; tell whether it was there."""
        ...

    def clear(self) -> None:
        """Forget all rows."""
        ...

    def __len__(self) -> int: ...

    @property
    def nbytes(self) -> int:
        """Bytes that the rows take in memory."""
        ...
