"""One call that is looked at by rows: what is there, what is computed, and what the account is told of it."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from memograd._rows._classes import Piece
from memograd._rows._compute import Computed, assembled, compute, spread_out, timed
from memograd._rows._receipt import Receipt
from memograd._rows._structure import Aside, Unfit
from memograd._share._device import groups_on_device
from memograd._share._rows import groups_of, may_be_equal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from memograd._rows._account import Account
    from memograd._rows._contexts import Context
    from memograd._rows._probe import Verdict
    from memograd._rows._rows import Rows
    from memograd._rows._seam import Found, Places
    from memograd._rows._structure import Parsed
    from memograd._share._rows import Groups
    from memograd._share._trie import Ints

T = TypeVar("T")
_BACK = 3  # a training step's cost against its forward pass's


class Call:
    """One call.

    Args:
        rows: the wrapper.
        batch: what it is called with, taken apart.
        args, kwargs: the same, whole.
        account: which is told.
    """

    def __init__(
        self, rows: Rows, batch: Parsed, args: Sequence[Any], kwargs: Mapping[str, Any], account: Account
    ) -> None:
        self._rows, self._batch, self._args, self._kwargs = rows, batch, args, kwargs
        self._account = account
        self._size: int = batch.size or 0
        self._began = perf_counter()

    def share(self) -> Any:
        """Compute equal rows once."""
        groups = self._groups()
        if groups is None:
            return self._whole("no two rows are equal")
        first, group = groups
        verdict = self._apart(lambda: self._rows.verdicts.of(self._batch))
        done = self._computed(verdict, first, [Piece(0, len(first), len(first))])
        leaves = [spread_out(leaf, torch.from_numpy(group).to(leaf.device)) for leaf in done.leaves]
        reason = f"{self._size / len(first):.2f} rows a distinct one"
        return self._given(verdict, done, leaves, len(first), 0, "share", reason)

    def _groups(self) -> Groups | None:
        """Group equal rows; None where there are none."""
        columns = [column.data for column in self._batch.columns]
        if not may_be_equal(columns):
            return None
        away = [data for data in columns if isinstance(data, torch.Tensor) and data.is_cuda]
        together = len(away) == len(columns) and len({data.device for data in away}) == 1
        groups = groups_on_device(away) if together else None
        groups = groups or groups_of(self._rows.names_of(self._batch))
        return None if len(groups.first) == self._size else groups

    def _whole(self, reason: str) -> Any:
        """Compute the batch as it is, of which it was asked in vain whether rows are equal."""
        looked = perf_counter()
        result, seconds = timed(lambda: self._rows.f(*self._args, **self._kwargs), self._batch.columns)
        seconds *= _BACK
        self._account.computed(seconds, self._size)
        self._account.tell(looked - self._began, seconds, 0)
        self._rows.note(Receipt(self._size, self._size, 0, self._size, 0, 1, "plain", "bits", 0.0, reason))
        return result

    def recall(self) -> Any:
        """Compute rows that were not computed before."""
        rows = self._rows
        context = rows.contexts.of(rows.wrapped.key(self._batch, rows.options.exact))
        places, names = context.places, rows.names_of(self._batch)
        if places.anchor is None:
            places.settle(rows.verdicts.expected(self._batch))
        found = places.find(names)
        if found.here.all() and places.frame is not None:
            return self._known(context, found)
        verdict = context.verdict or self._apart(lambda: context.judged(rows.verdicts, self._batch))
        if verdict.name != places.anchor:
            places.settle(verdict.name)
            return self.recall()
        places.frame = verdict.frame
        at: Ints = (~found.here).nonzero()[0]
        first, group = groups_of([names[int(k)] for k in at])
        pieces = self._apart(lambda: verdict.planned(len(first)))
        done = self._computed(verdict, at[first], pieces)
        leaves, kept = self._kept(places, names, found, done, at[first], group)
        hits = int(found.here.sum())
        reason = f"{hits} of {self._size} rows are known"
        return self._given(verdict, done, leaves, len(first), hits, "recall" if kept else "share", reason)

    def _known(self, context: Context, found: Found) -> Any:
        """Give the results of a batch of which all rows are known."""
        frame, leaves = context.places.frame, found.gather()
        if frame is None or len(frame.columns) != len(leaves):
            raise Aside("its rows were forgotten meanwhile, by another thread")
        self._account.tell(perf_counter() - self._began, 0.0, self._size)
        self._note(context.verdict, self._size, self._size, None, "recall", "all rows are known")
        return _laid_out(frame, leaves)

    def _kept(
        self, places: Places, names: Sequence[bytes], found: Found, done: Computed, at: Ints, group: Ints
    ) -> tuple[Sequence[Tensor], bool]:
        """Keep what was computed; give the results of the batch, and whether they are ones that can be kept."""
        if any(leaf.requires_grad for leaf in done.leaves):
            return assembled(found.here, found.gather(), done.leaves, group), False
        new = [names[int(k)] for k in at]
        began = perf_counter()
        taken = places.put(new, done.leaves, done.seconds / len(new))
        if places.lasting:  # what the next process is spared is no loss of this one
            self._began += perf_counter() - began
        if taken == len(new):
            # One gather from where they are now takes less than putting two parts together.
            again = places.find(names)
            if again.here.all():
                return again.gather(), True
        return assembled(found.here, found.gather(), done.leaves, group), True

    def _computed(self, verdict: Verdict, at: Ints, pieces: Sequence[Piece]) -> Computed:
        """Compute some rows of the batch. Raises `Unfit`."""
        rows = self._rows
        run = rows.wrapped.runner(self._batch)
        try:
            return compute(run, self._batch.columns, at, pieces, verdict.frame, rows.options.dim)
        except Unfit as reason:
            self._refute(reason)
            raise
        except Exception as error:  # the plain call says what is wrong, in its own words
            raise Aside(f"computing its rows raised {type(error).__name__}") from error

    def _refute(self, reason: Unfit) -> None:
        """Let go of what was taken for results of rows."""
        self._rows.verdicts.refute(str(reason))
        self._rows.contexts.clear()

    def _apart(self, find_out: Callable[[], T]) -> T:
        """Find something out once and for all: that is on no account."""
        began = perf_counter()
        found = find_out()
        self._began += perf_counter() - began
        return found

    def _given(
        self,
        verdict: Verdict,
        done: Computed,
        leaves: Sequence[Tensor],
        computed: int,
        hits: int,
        engine: str,
        reason: str,
    ) -> Any:
        """Tell of a call in which rows were computed, and give its result."""
        ended = perf_counter()
        self._apart(lambda: self._note(verdict, hits, hits + computed, done, engine, reason))
        back = _BACK if engine == "share" else 1
        # In small batches rows may take longer than they do in the plain call: that is lost, too.
        row = verdict.row_seconds(self._size) or done.seconds / computed
        lost = max(0.0, done.seconds - row * computed)
        spent = ended - self._began - done.seconds + lost
        self._account.computed(row * computed * back, computed)
        self._account.tell(spent, done.seconds * back, self._size - computed)
        return _laid_out(verdict.frame, leaves)

    def _note(
        self, verdict: Verdict | None, hits: int, distinct: int, done: Computed | None, engine: str, reason: str
    ) -> None:
        """Write the receipt."""
        sizes = (self._size, distinct) if engine == "share" else (self._size,)
        try:
            error = None if verdict is None else verdict.error(*sizes)
        except Unfit as unfit:
            self._refute(unfit)
            raise
        padded, batches = (0, 0) if done is None else (done.padded, done.batches)
        exact = "bits" if error == 0.0 and verdict is not None and verdict.bits else "rounding"
        figures = (self._size, distinct, hits, distinct - hits if done else 0, padded, batches)
        self._rows.note(Receipt(*figures, engine, exact, error, reason))


def _laid_out(frame: Parsed, leaves: Sequence[Tensor]) -> Any:
    """Make the result as the function has it."""
    pairs = zip(frame.columns, leaves, strict=True)
    return frame.value([column._replace(data=leaf) for column, leaf in pairs])
