"""Resume every row of a batch behind the longest prefix that is remembered, and remember what is new."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from memograd._scan._remember._book import Point
from memograd._scan._remember._chain import GRID, Chain
from memograd._scan._remember._points import cuts
from memograd._scan._remember._probe import LONG, Safe, probe
from memograd.store import About

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from torch import Tensor

    from memograd._scan._remember._book import Book
    from memograd._scan._remember._probe import Runs

_SEEN = 200_000  # names of prefixes to know again
_safe: dict[Hashable, Safe] = {}
_IDLE = 8  # calls that repeat nothing, after which nothing is put until something repeats


@dataclass(frozen=True)
class Rows:
    """What is asked of remembered prefixes.

    Attributes:
        x: (B, T, E) inputs, contiguous.
        state: (layers, B, H) each part of the first states.
        base: names all that the results depend on besides these: weights, options, modes.
        run: runs rows.
        size: R, of outputs.
        function: what to call it in a store.
        kind: what the kernels that run depend on, besides the shapes of x and state: no value changes how they round.
    """

    x: Tensor
    state: list[Tensor]
    base: bytes
    run: Runs
    size: int
    function: str
    kind: Hashable


@dataclass(frozen=True)
class Resumed:
    """What was remembered of a call.

    Attributes:
        lengths: for each row, the steps that were not computed.
        computed: steps that were, of all rows.
        least: pieces that are computed are at least so long; None where nothing is cut, and nothing remembered.
        reason: why it is so, in words.
    """

    lengths: tuple[int, ...]
    computed: int
    least: int | None
    reason: str


class Prefixes:
    """The remembered prefixes of one module.

    Args:
        book: where they are.
        exact: "bits" to cut only where the probe found the same bits, "rounding" to cut anywhere.
    """

    def __init__(self, book: Book, exact: str) -> None:
        self.book, self.exact = book, exact
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._idle = 0

    def __reduce__(self) -> tuple[Any, ...]:
        # What is in memory does not travel.
        return Prefixes, (self.book, self.exact)

    def run(self, rows: Rows, *, new_only: bool = False) -> tuple[Tensor, list[Tensor], Resumed]:
        """Give the outputs of rows and their last states.

        Args:
            rows: what is asked.
            new_only: give the outputs behind the shortest resumed prefix alone.

        Returns:
            (B, T, R), or with `new_only` (B, new, R); last states (layers, B, H); and what was resumed.
        """
        safe = self.safe(rows)
        if safe.least is None:
            nothing = Resumed((0,) * len(rows.x), rows.x.shape[0] * rows.x.shape[1], None, safe.difference)
            return *rows.run(rows.x, rows.state), nothing
        call = _Call(self, rows, safe, new_only)
        begins = call.begins()
        self._idle = 0 if any(begins) or call.known else self._idle + 1
        y, state = call.outputs(begins, remember=self._idle <= _IDLE)
        self._note(call.chains)
        computed = sum(rows.x.shape[1] - begin for begin in begins)
        reason = "" if self._idle <= _IDLE else f"nothing was repeated in {_IDLE} calls: nothing new is remembered"
        return y, state, Resumed(tuple(begins), computed, safe.least, reason)

    def lengths(self, rows: Rows) -> list[int]:
        """Give how many steps of each row would not be computed."""
        safe = self.safe(rows)
        return [0] * len(rows.x) if safe.least is None else _Call(self, rows, safe, new_only=True).begins()

    def pin(self, rows: Rows) -> None:
        """Remember rows, and keep them from being evicted."""
        self._idle = 0
        self.run(rows)
        safe = self.safe(rows)
        if safe.least is None:
            return
        for chain in _Call(self, rows, safe, new_only=True).chains:
            name, steps = chain.at(chain.steps), chain.steps
            while steps and (point := self.book.point(name)) is not None:
                self.book.pin(name, point.outputs)
                name, steps = point.name_before, point.before

    def safe(self, rows: Rows) -> Safe:
        """Tell where rows may be cut; tried once in a process for modules of one kind."""
        if self.exact == "rounding":
            return Safe(1, True, "")
        x = rows.x
        if rows.state[0].shape[-1] == 1:
            # A product with one column runs another way at some lengths, which a probe of some lengths need not meet.
            return Safe(None, False, "a state of one number rounds by the length of the sequence")
        long = x.shape[1] >= LONG
        kind = (rows.kind, x.shape[0], x.shape[2], x.dtype, x.device, long)
        if kind not in _safe:
            _safe[kind] = probe(rows.run, x, rows.state, long=long)
        return _safe[kind]

    def seen(self, chain: Chain) -> int:
        """Count the steps of the longest prefix of a row that was seen, on the grid."""
        return chain.shared_with(self._seen)

    def _note(self, chains: Sequence[Chain]) -> None:
        for chain in chains:
            self._seen.update(dict.fromkeys(chain.blocks[1:]))
        while len(self._seen) > _SEEN:
            self._seen.popitem(last=False)


class _Call:
    """One call: the names of its rows, and what is remembered of them."""

    def __init__(self, prefixes: Prefixes, rows: Rows, safe: Safe, new_only: bool) -> None:
        assert safe.least is not None
        self.prefixes, self.book, self.rows, self.new_only = prefixes, prefixes.book, rows, new_only
        self.least, self.apart, self.steps = safe.least, safe.apart, rows.x.shape[1]
        self.chains = self._chains()
        self._pieces: dict[int, list[tuple[int, int, Tensor]]] = {}
        self._states: dict[int, list[Tensor]] = {}
        self.known = max(map(prefixes.seen, self.chains), default=0)

    def _chains(self) -> list[Chain]:
        x, hash_ = self.rows.x.detach().cpu(), self.book.hash
        width = b"" if self.apart else len(x).to_bytes(4, "little")
        states = [t.detach().cpu() for t in self.rows.state]
        found: list[Chain] = []
        for r in range(len(x)):
            # Where a row's bits depend on the width of its batch, they may on its place, too.
            place = b"" if self.apart else r.to_bytes(4, "little")
            first = hash_(b"".join(_bytes_of(t[:, r]) for t in states))
            found.append(Chain(hash_(self.rows.base + width + place + first), _bytes_of(x[r]), self.steps, hash_))
        return found

    def begins(self) -> list[int]:
        """Say from which step on each row is computed."""
        found = [self._longest(r, self.steps) for r in range(len(self.chains))]
        while not self.apart and len(set(found)) > 1:
            found = [self._longest(r, min(found)) for r in range(len(found))]
        return found

    def _longest(self, r: int, most: int) -> int:
        """Find the longest remembered prefix of a row from which it can be resumed."""
        chain = self.chains[r]
        for k in range(most // GRID, -1, -1):
            for end in reversed(self.book.ends(chain.blocks[k])):
                at = k * GRID + end
                if self._may_begin(at, most) and self._resumes(r, at):
                    return at
        return 0

    def _may_begin(self, at: int, most: int) -> bool:
        """Tell whether the pieces on both sides of a step are long enough."""
        return self.least <= at <= most and (at == self.steps or at <= self.steps - self.least)

    def _resumes(self, r: int, at: int) -> bool:
        """Read a row's state, and its outputs before; tell whether they are there."""
        point = self.book.point(self.chains[r].at(at))
        if point is None or not self._fits(point):
            return False
        pieces = [] if self.new_only else self._outputs_before(r, at)
        if pieces is None:
            return False
        self._states[r], self._pieces[r] = point.state, pieces
        return True

    def _fits(self, point: Point) -> bool:
        like = [t[:, 0] for t in self.rows.state]
        return len(like) == len(point.state) and all(
            a.shape == b.shape and a.dtype == b.dtype for a, b in zip(like, point.state, strict=True)
        )

    def _outputs_before(self, r: int, at: int) -> list[tuple[int, int, Tensor]] | None:
        """Collect a row's outputs up to a step, the last ones first; None where some are missing."""
        found: list[tuple[int, int, Tensor]] = []
        name, like = self.chains[r].at(at), self._like
        while at:
            point = self.book.point(name)
            if point is None or not 0 <= point.before < at:
                return None
            piece = self.book.outputs(point.outputs, at - point.before, like)
            # The prefix before is this row's own, whatever the entry says.
            if piece is None or point.name_before != self.chains[r].at(point.before):
                return None
            found.append((point.before, at, piece))
            name, at = point.name_before, point.before
        return found

    @property
    def _like(self) -> Tensor:
        return self.rows.x.new_empty(0, self.rows.size)

    def outputs(self, begins: list[int], *, remember: bool) -> tuple[Tensor, list[Tensor]]:
        """Put remembered outputs and new ones together.

        Args:
            begins: from which step on each row is computed.
            remember: whether to remember what is new.
        """
        x, low = self.rows.x, min(begins) if self.new_only else 0
        # Laid out as the plain module's: time by time.
        y = x.new_empty(self.steps - low, len(x), self.rows.size).transpose(0, 1)
        state = [t.new_empty(t.shape) for t in self.rows.state]
        for begin in set(begins):
            rows = [r for r, at in enumerate(begins) if at == begin]
            for r in rows:
                for a, b, piece in [] if self.new_only else self._pieces.get(r, []):
                    y[r, a:b] = piece.to(y.device)
            self._group(rows, begin, y[:, begin - low :], state, remember=remember)
        return y, state

    def _group(self, rows: list[int], begin: int, y: Tensor, state: list[Tensor], *, remember: bool) -> None:
        """Compute rows that begin at one step, piece by piece."""
        at, held = self._first(rows, begin), begin
        whole = len(rows) == len(self.rows.x)
        branch = max((self.prefixes.seen(self.chains[r]) for r in rows), default=0)
        ends = cuts(begin, self.steps, branch, self.least) if remember else [self.steps]
        started_all = time.perf_counter()
        for end in ends if begin < self.steps else []:
            # A copy: where it begins in memory may change how it is rounded.
            part = self.rows.x[:, held:end].clone() if whole else self.rows.x[rows, held:end]
            started = time.perf_counter()
            out, at = self.rows.run(part, at)
            seconds = time.perf_counter() - started
            if whole:
                y[:, held - begin : end - begin] = out
            else:
                y[rows, held - begin : end - begin] = out
            if remember and end >= self.least:
                for k, r in enumerate(rows):
                    self._remember(r, (begin, held, end), [t[:, k] for t in at], seconds / len(rows))
            held = end
        if remember and begin < self.steps:
            for r in rows:
                about = self._about(r, self.steps, begin, time.perf_counter() - started_all)
                self.book.put_outputs(self._outputs_from(r, begin), y[r].clone(), about)
        for into, last in zip(state, at, strict=True):
            into[:, rows] = last

    def _first(self, rows: list[int], begin: int) -> list[Tensor]:
        if not begin:
            return [t[:, rows] for t in self.rows.state]
        parts = zip(*(self._states[r] for r in rows), strict=True)
        return [torch.stack(tuple(part), 1).to(self.rows.x.device) for part in parts]

    def _remember(self, r: int, steps: tuple[int, int, int], state: list[Tensor], seconds: float) -> None:
        """Remember a row's state behind steps: of a call that began somewhere, of a piece, and where that ends."""
        (begin, held, end), chain = steps, self.chains[r]
        # Copies: the book's own memory, and nobody else's.
        point = Point([t.clone() for t in state], begin, chain.at(begin), self._outputs_from(r, begin))
        self.book.put(chain.at(end), point, self._about(r, end, held, seconds))
        self.book.note_end(chain.blocks[end // GRID], end % GRID, self.rows.function)

    def _outputs_from(self, r: int, begin: int) -> bytes:
        """Name a row's outputs from a step on: those of another call that ends here may begin elsewhere."""
        return self.book.hash(begin.to_bytes(8, "little") + self.chains[r].at(self.steps))

    def _about(self, r: int, end: int, begin: int, seconds: float) -> About:
        name = f"{self.rows.function}: {end:,} steps"
        parent = self.chains[r].at(begin) if begin else None
        return About(self.rows.function, name, seconds=seconds, created=time.time(), parent=parent)


def _bytes_of(values: Tensor) -> memoryview:
    plain: Any = values.contiguous().reshape(-1).view(torch.uint8).numpy()
    return memoryview(plain)
