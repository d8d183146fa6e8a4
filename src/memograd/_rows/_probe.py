"""Whether a function is one of each row by itself, and in which sizes of batches a row has the same bits.

It is run on some rows of the batch at hand among companions that are made up, in more than one place: whatever else
stands in a batch, and wherever a row stands, its bits are to be the same. A permutation of a batch would prove nothing,
since most of what mixes rows (an average, attention without positions) does not mind one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from memograd._ambient._streams import read_streams, set_streams
from memograd._ambient._torch import read_modes
from memograd._rows._classes import Piece, anchors_after, ladder, planned
from memograd._rows._companions import NOTHING, companions, mixed, padded
from memograd._rows._compare import alias, constants_differ, difference, same_bits
from memograd._rows._compute import timed
from memograd._rows._structure import Parsed, Unfit, parse
from memograd._share._rows import digests_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from memograd._rows._structure import Column

    Run = Callable[[Sequence[Column]], Any]

TESTED = 4  # rows that are followed
COMPANIONS = 16  # rows that others are made of
WHOLE = 1024  # rows of the batch at hand that are tried as they are
_ROUNDING = 1e-4  # of a result: from here on it is no other rounding, but another value
_FAR = 1e-2  # the same where weights are such as no training gives, and rounding may grow from layer to layer
_TF32 = 2.0**-10
# In each place of a batch so many numbers are compared with those of the class, if that takes no longer.
_NUMBERS, _SECONDS = 256, 0.02
CHANGES = "it changes what it reads: a counter, a buffer, a list"
SIZES = 64  # sizes that are tried at most
_ODD = 4  # of those, sizes that are none of the usual ones


class Silent(Unfit):
    """A trial that says nothing."""


class Verdict:
    """What was found out of one function, in one state, for one kind of row.

    Args:
        run: calls the function, or a copy of it, on columns.
        batch: rows to try it on.
        dim: where its results have their rows.
        rounding: whether other bits will do, as long as they are other roundings of the same numbers.
        anchor: the size after which the class of sizes is to be named, if rows have the same bits at all its places.

    Attributes:
        anchor: the size after which the class of sizes is named.
        bits: whether a row has the same bits whatever else is in its batch.
        frame: how results are put together.
        runs: how often the function was called.

    Raises:
        Unfit: it is no function of the row.
    """

    def __init__(self, run: Run, batch: Sequence[Column], dim: int, *, anchor: int, rounding: bool = False) -> None:
        self._run, self._dim, self._rounding = run, dim, rounding
        self.runs = self._odd = 0
        rows = len(batch[0].data)
        picked = sorted({rows * k // TESTED for k in range(TESTED)})
        self._rows = [column.taken(picked) for column in batch]
        self._many = [column.taken(range(min(rows, COMPANIONS))) for column in batch]
        self._sizes: dict[int, bool] = {}
        self._errors: dict[int, float] = {}
        self._seconds: dict[int, float] = {}
        self.bits = not rounding
        self._rows = self._with_short_ones()
        self.anchor = self._settled(anchor)
        self._tries(self.anchor // 2 or 2)  # what divides by the number of rows is seen in no one size
        self._tries_as_given([column.taken(range(min(rows, WHOLE))) for column in batch])
        self._tries_beside(NOTHING)

    @property
    def name(self) -> int:
        """What the class of sizes is called: its anchor, 0 where a row has no bits of its own."""
        return self.anchor if self.bits else 0

    def goes_on_with(self, run: Run) -> None:
        """Try sizes of batches on another function that is the same but for its numbers."""
        self._run = run

    def stands_with_other_weights(self) -> None:
        """Try once more what was found, since the function's weights are others now. Raises `Unfit`."""
        self._tries_beside(1, least=_FAR, how=", with other weights")

    def _tries_beside(self, turn: int, least: float = 0.0, how: str = "") -> None:
        """Tell whether rows are the same beside the companions of a turn as beside the first. Raises `Unfit`."""
        try:
            one, other = (self._called(max(self.anchor, COMPANIONS), each, places=0) for each in (0, turn))
        except Silent:
            return
        except Unfit:
            raise
        except Exception:  # noqa: BLE001 - with such weights, or companions, it may not be called at all
            return
        apart = difference(other, one)
        if apart > max(least, rounding_of(one)):
            raise Unfit(f"a row's result depends on the other rows of its batch{how}, by {apart:.1g} of it")

    def planned(self, rows: int) -> list[Piece]:
        """Cut rows into batches of sizes that give them the bits of the class."""
        return planned(rows, self.anchor, self.member) if self.bits else [Piece(0, rows, rows)]

    def member(self, size: int) -> bool:
        """Tell whether a row has the bits of the class in batches of this size; tried when it is asked for first."""
        if size not in self._sizes and len(self._sizes) < SIZES:
            self._odd += ladder(size) != size
            self._tries(size)
        return self.bits and self._sizes.get(size, False)

    def error(self, *sizes: int) -> float | None:
        """Give how far results of batches of these sizes are from those of the class; None where one was not tried."""
        for size in sizes:
            if self._is_tried(size):
                self.member(size)
        found = [0.0 if self._sizes.get(size) else self._errors.get(size) for size in sizes]
        return None if None in found else max(error for error in found if error is not None)

    def row_seconds(self, size: int) -> float | None:
        """Give what a row took in a batch of this size; None where it was not tried."""
        return self._seconds[size] / size if size in self._seconds else None

    def _is_tried(self, size: int) -> bool:
        """Tell whether a size is tried: those that come up in every step, and not each that comes up once."""
        return size in self._sizes or (self._odd < _ODD or ladder(size) == size)

    def _with_short_ones(self) -> list[Column]:
        """Put in every other row's place one half as long, if that is an input: for what looks at lengths."""
        rows, short = self._rows, padded(self._rows)
        if all(a is b for a, b in zip(rows, short, strict=True)):
            return rows
        at = list(range(0, len(rows[0].data), 2))
        made = mixed(rows, [column.taken(at) for column in short], at)
        try:
            watched(lambda: self._run(made), made)
        except Exception:  # noqa: BLE001 - what is made up may be no input at all
            return rows
        return made

    def _settled(self, first: int) -> int:
        for anchor in [first, *anchors_after(first)]:
            self.anchor = anchor
            if self._stands(anchor, self._called(anchor, 0)) or not self.bits:
                self._sizes[anchor] = True
                return anchor
        raise Unfit("it gives a row other results each time")

    def _stands(self, size: int, reference: Parsed) -> bool:
        """Tell whether rows have the same bits among other companions and at other places. Raises `Unfit`."""
        among = self._called(size, 1)
        if self._alike(reference, among):
            return self._in_all_places(size, reference)
        apart = self._errors[size] = difference(among, reference)
        mixes = not self._alike(reference, self._called(size, 1, places=0))
        if apart > rounding_of(reference) or (mixes and not self._rounding):
            raise Unfit(f"a row's result depends on the other rows of its batch, by {apart:.1g} of it")
        self.bits = not self._rounding
        return False

    def _in_all_places(self, size: int, reference: Parsed) -> bool:
        alone = all(self._alone(row, size, reference) for row in range(min(2, len(reference.columns[0].data))))
        return alone and self._everywhere(size)

    def _everywhere(self, size: int) -> bool:
        """Tell whether rows have their bits in every place, by enough numbers: two roundings of one mostly agree."""
        width = sum(math.prod(c.data.shape[1:]) for c in self.frame.columns if isinstance(c.data, Tensor))
        turns = min(-(-_NUMBERS // max(width, 1)), int(_SECONDS / max(self._seconds[size], 1e-6)))
        if turns <= 2:
            return True
        try:
            rows = companions(self._many, turns, 0)
            reference = self._of_class(rows, turns)
        except Unfit:
            raise
        except Exception:  # noqa: BLE001 - what is made up may be no input at all
            return True
        for turn in range(turns):  # what else a call does was looked at before
            at = [(place + turn) % turns for place in range(size)]
            found = parse(self._run([column.taken(at) for column in rows]), self._dim)
            ones = [column.taken(at) for column in reference]
            if not all(same_bits(one.data, other.data) for one, other in zip(found.columns, ones, strict=True)):
                return False
        return True

    def _of_class(self, rows: Sequence[Column], count: int) -> list[Column]:
        """Give the results of rows in batches of the class's own size."""
        parts: list[Parsed] = []
        for begin in range(0, count, self.anchor):
            at = [min(begin + k, count - 1) for k in range(self.anchor)]
            parts.append(parse(self._run([column.taken(at) for column in rows]), self._dim))
        columns = zip(*(part.columns for part in parts), strict=True)
        return [same[0]._replace(data=torch.cat([cast("Tensor", c.data) for c in same])[:count]) for same in columns]

    def _alone(self, row: int, size: int, reference: Parsed) -> bool:
        """Tell whether a row has its bits among none but itself: the first is a short one, the second is not."""
        every = self._results([column.taken([row] * size) for column in self._rows], size)
        ones = [column.taken([row] * size) for column in reference.columns]
        return all(same_bits(column.data, one.data) for column, one in zip(every.columns, ones, strict=True))

    def _tries(self, size: int) -> None:
        reference, tried = self._called(self.anchor, 0), self._called(size, 2)
        count = min(len(each.columns[0].data) for each in (tried, reference))
        known, found = _first(reference, count), _first(tried, count)
        apart = self._errors[size] = difference(found, known)
        if apart > rounding_of(known):
            raise Unfit(f"a row's result depends on how many rows there are, by {apart:.1g} of it")
        self._sizes[size] = self._alike(known, found) and self._in_all_places(size, known)

    def _tries_as_given(self, batch: Sequence[Column]) -> None:
        """Tell whether rows among those that they came with are what they are by themselves. Raises `Unfit`."""
        size = len(batch[0].data)
        at = sorted({size * k // TESTED for k in range(TESTED)})
        whole, some = self._results(batch, size), self._results([c.taken(at) for c in batch], len(at))
        apart = difference(some, whole._replace(columns=[column.taken(at) for column in whole.columns]))
        if apart > rounding_of(whole):
            raise Unfit(f"a row's result depends on the other rows of its batch, by {apart:.1g} of it")

    def _alike(self, one: Parsed, other: Parsed) -> bool:
        pairs = zip(one.columns, other.columns, strict=True)
        return all(same_bits(a.data, b.data) for a, b in pairs)

    def _called(self, size: int, turn: int, places: int | None = None) -> Parsed:
        """Give the results of the tested rows in a batch of this size, among this turn's companions, in its places."""
        tested = min(len(self._rows[0].data), size)
        at = [
            (k * size // tested + (turn if places is None else places)) % size if tested < size else k
            for k in range(tested)
        ]
        at = at if len(set(at)) == tested else list(range(tested))
        own = [column.taken(range(tested)) for column in self._rows]
        found = self._tried(own, size, at, turn)
        if not any(_says_something(column.data) for column in found.columns):
            raise Silent("its result on trial has no number that is finite")
        return found._replace(columns=[column.taken(at) for column in found.columns])

    def _tried(self, own: Sequence[Column], size: int, at: list[int], turn: int) -> Parsed:
        made_up = companions(self._many, size, turn)
        try:
            return self._results(mixed(made_up, own, at), size)
        except Unfit:
            raise
        except Exception:  # noqa: BLE001 - what is made up may be no input at all; other rows of the batch are
            turned = [column.taken([(turn + k) % len(column.data) for k in range(size)]) for column in self._many]
        return self._results(mixed(turned, own, at), size)

    def _results(self, columns: Sequence[Column], size: int) -> Parsed:
        """Run the function on a batch. Raises `Unfit` where the result shows that rows are not by themselves."""
        self.runs += 1
        result, reason = watched(lambda: self._timed(columns, size), columns)
        if reason:
            raise Unfit(reason)
        found = parse(result, self._dim)
        self._check(found, columns, size)
        if not hasattr(self, "frame"):
            self.frame = found.frame
        elif found.outline != self.frame.outline or constants_differ(found, self.frame):
            raise Unfit("its result is put together in another way each time")
        return found

    def _timed(self, columns: Sequence[Column], size: int) -> Any:
        result, seconds = timed(lambda: self._run(columns), columns)
        self._seconds[size] = min(seconds, self._seconds.get(size, float("inf")))
        return result

    def _check(self, found: Parsed, columns: Sequence[Column], size: int) -> None:
        if not found.columns:
            raise Unfit("its result has no rows")
        lengths = {len(column.data) for column in found.columns}
        if lengths != {size}:
            raise Unfit(
                f"of its result a part has {min(lengths - {size})} rows for a batch of {size}: it is not per row"
            )
        if not all(isinstance(column.data, Tensor) for column in found.columns):
            raise Unfit("its result has texts, which are not kept")
        if alias(found.columns, columns):
            raise Unfit("its result is, or has, a part of its arguments")


def _says_something(data: object) -> bool:
    return isinstance(data, Tensor) and (not data.numel() or bool(data.detach().isfinite().any()))


def _first(parsed: Parsed, rows: int) -> Parsed:
    return parsed._replace(columns=[column.taken(range(rows)) for column in parsed.columns])


def rounding_of(reference: Parsed) -> float:
    """Give by how much two roundings of a result may differ, as a part of its greatest number."""
    tensors = [column.data for column in reference.columns if isinstance(column.data, Tensor)]
    kinds = {tensor.dtype for tensor in tensors} | {kind for _, kind in read_modes().autocast}
    coarse = [torch.finfo(kind).eps for kind in kinds if kind.is_floating_point]
    coarse += [_TF32 for tensor in tensors if tensor.is_cuda and tensor.dtype == torch.float32]
    return max([_ROUNDING, *(8 * eps for eps in coarse)])


def watched(
    call: Callable[[], Any], columns: Sequence[Column], state: Callable[[], object] | None = None
) -> tuple[Any, str]:
    """Make a call; give what it gives, and what it did besides: nothing where it is a function of its arguments.

    Args:
        call: makes it.
        columns: the arguments' rows.
        state: tells what the function is. Without it the call is a trial, and no stream is left where it drew from it.
    """
    streams, contents = read_streams(), _contents(columns)
    before = None if state is None else state()
    result = call()
    if read_streams() != streams:
        if state is None:
            set_streams(streams)
        return result, "it draws from a random stream"
    if _contents(columns) != contents:
        return result, "it writes into its arguments"
    if state is not None and state() != before:
        return result, CHANGES
    return result, ""


def _contents(columns: Sequence[Column]) -> list[bytes]:
    return digests_of([column.data for column in columns], bytes)
