"""What the last call did, and what all of them did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Receipt:
    """What the last call did.

    Attributes:
        rows: in the batch.
        distinct: how many of them differ; all, where that was not asked.
        hits: rows that were there from other calls.
        computed: rows that went through the function, those of padding not counted.
        padded: rows that were computed besides, to fill batches up to a size of the class.
        batches: in how many batches the rows were computed.
        engine: `"recall"` (rows of other calls, too), `"share"` (equal rows of the batch once) or `"plain"`.
        exact: `"bits"` where the results have the plain call's bits, else `"rounding"`.
        error: the greatest difference from the plain call's results, as a part of the greatest of those, as measured on
            a few rows; 0 for bits, None where it was not measured.
        reason: why it was done so.
    """

    rows: int
    distinct: int
    hits: int
    computed: int
    padded: int
    batches: int
    engine: str
    exact: str
    error: float | None
    reason: str


class RowsStats(NamedTuple):
    """What all calls did.

    Attributes:
        calls, plain: all of them, and those that were made plainly.
        rows, hits, shared, computed, padded: rows in all: of batches, found from other calls, equal to others of their
            batch, computed, and computed for padding alone.
        probes: calls of the function, or of its copy, that found out what a row depends on.
        held: rows in memory, and `nbytes` what they take.
        recalling, sharing: whether each is done at present, or has stepped aside since it does not pay.
        seconds: `saved` by estimate, `spent` on finding and keeping.
    """

    calls: int
    plain: int
    rows: int
    hits: int
    shared: int
    computed: int
    padded: int
    probes: int
    held: int
    nbytes: int
    recalling: bool
    sharing: bool
    saved: float
    spent: float
