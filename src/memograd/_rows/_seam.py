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
        lasting: whether rows outlive the process.
        anchor: of the class of sizes that rows were computed in, where that is known from elsewhere; None where not.
    """

    frame: Parsed | None
    lasting: bool
    anchor: int | None

    def settle(self, anchor: int) -> None:
        """Say in which class of sizes rows are computed from now on: rows of others are none of these."""
        ...

    def find(self, names: Sequence[bytes]) -> Found:
        """Look rows up by their names (digests); one may be asked for more than once."""
        ...

    def put(self, names: Sequence[bytes], leaves: Sequence[Tensor], seconds: float = 0.0) -> int:
        """Keep rows, all of them different; count those that are at hand from now on.

        Args:
            names: their digests.
            leaves: for each column of the result a tensor (rows, ...).
            seconds: what each took to compute.
        """
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
