"""`memo.rows(f)`: equal rows of a batch are computed once, and rows that were computed before are not.

Duplicates within a batch are shared, forward and backward (RecD, Zhao et al. 2022); the rows of a function that nothing
goes back to are recalled across calls (AutoFreeze, Liu et al. 2021). That f is a function of each row by itself is
found by trying it (`_probe`), and rows are computed in sizes of batches that give them the same bits (`_classes`).
"""

from __future__ import annotations

import sys
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from memograd._ambient._torch import unusual
from memograd._errors import NoIdentityError
from memograd._rows._account import Account
from memograd._rows._classes import Piece
from memograd._rows._compute import Computed, assembled, compute, spread_out
from memograd._rows._contexts import Contexts
from memograd._rows._counts import Counts
from memograd._rows._receipt import Receipt, RowsStats
from memograd._rows._structure import Aside, Unfit
from memograd._rows._subject import Wrapped
from memograd._rows._verdicts import Verdicts
from memograd._share._rows import digests_of, groups_of, may_be_equal
from memograd._share._shared import Shared

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from memograd._key import Key
    from memograd._rows._probe import Verdict
    from memograd._rows._seam import Places
    from memograd._rows._structure import Parsed
    from memograd._rows._table import Table
    from memograd._share._trie import Ints

T = TypeVar("T")
_BACK = 3  # a training step's cost against its forward pass's


class RowsOptions(NamedTuple):
    """How the rows of a function are remembered; `Memo.rows` says what each is."""

    dim: int = 0
    static: tuple[object, ...] = ()
    exact: str = "bits"
    always: bool = False
    strict: bool = False
    max_bytes: int = 1 << 30
    version: str | None = None
    digest: str = "xxh3"
    salt: str = ""


class Rows:
    """A function or module of batches, by rows. Made by `memo.rows`.

    Args:
        f: the function or module.
        options: how.
        name: as messages have it.
        behind: gives, for a context and its memory, where results live that outlive the process; None for nowhere.

    Attributes:
        receipt: what the last call did, None before the first.
    """

    def __init__(
        self,
        f: Callable[..., Any],
        options: RowsOptions,
        name: str = "",
        behind: Callable[[Wrapped, Key, Table], Places] | None = None,
    ) -> None:
        self.f, self.options = f, options
        self.name = name or getattr(f, "__name__", type(f).__name__)
        self.wrapped = Wrapped(f, self.name, options.version, options.digest)
        self.voice = self.wrapped.voice
        self.receipt: Receipt | None = None
        self.counts = Counts()
        self.sharing, self.recalling = Account(always=options.always), Account(always=options.always)
        self.verdicts = Verdicts(self.wrapped, self.counts, options.dim, options.exact)
        self.contexts = Contexts(self.wrapped, options.max_bytes, behind)

    def answer(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Answer a call: give what the function gives."""
        if is_traced():
            return self.f(*args, **kwargs)
        if len(args) == 1 and isinstance(args[0], Shared):
            return self._of_shared(args[0], kwargs)
        try:
            return self._answered(args, kwargs)
        except Unfit as reason:
            return self.plainly(args, kwargs, reason)
        except NoIdentityError as error:
            if self.options.strict:
                raise
            return self.plainly(args, kwargs, error)

    def _answered(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        graded = self.wrapped.is_graded
        account = self.sharing if graded else self.recalling
        if account.skips():
            raise Aside("it does not pay: finding rows took longer than computing them")
        if reason := self.wrapped.why_not():
            raise Unfit(reason)
        batch = self.wrapped.called_with(args, kwargs, self.options.dim, self.options.static)
        if not batch.size:
            raise Aside("there are no rows")
        if torch.is_grad_enabled() and any(_requires_grad(column.data) for column in batch.columns):
            raise Unfit("its rows require grad: each has a gradient of its own, even where rows are equal")
        call = _Call(self, batch, args, kwargs, account)
        return call.share() if graded else call.recall()

    def plainly(self, args: Sequence[Any], kwargs: Mapping[str, Any], why: Exception) -> Any:
        """Call the function as it is, and say why."""
        reason = str(why)
        self.note(Receipt(0, 0, 0, 0, 0, 1, "plain", "bits", 0.0, reason))
        said = f"{self.name}(): {reason}. The batch is computed plainly"
        if isinstance(why, Aside):
            self.voice.tell(self.wrapped.subject.face, said)
        else:
            self.voice.refuse(self.wrapped.subject.face, said, once=reason)
        return self.f(*args, **kwargs)

    def _of_shared(self, s: Shared, kwargs: Mapping[str, Any]) -> Shared:
        """Call the function once per distinct value, without a look at what they hold."""
        try:
            self._check_shared(s, kwargs)
        except (Unfit, NoIdentityError) as why:
            self.note(Receipt(s.steps, s.steps, 0, s.steps, 0, 1, "plain", "bits", 0.0, str(why)))
            return s.apart().map(lambda values: self.f(values, **kwargs))
        rows = len(s.distinct)
        self.note(Receipt(s.steps, rows, 0, rows, 0, 1, "share", "rounding", None, "a Shared has its distinct rows"))
        return s.map(lambda values: self.f(values, **kwargs))

    def _check_shared(self, s: Shared, kwargs: Mapping[str, Any]) -> None:
        if reason := self.wrapped.why_not():
            raise Unfit(reason)
        batch = self.wrapped.called_with((s.distinct.detach(),), kwargs, 0, self.options.static)
        if batch.size:
            self.verdicts.of(batch)

    def note(self, receipt: Receipt) -> None:
        """Note what a call did."""
        self.receipt = receipt
        self.counts.note(receipt)

    def stats(self) -> RowsStats:
        """Count what all calls did."""
        n, sharing, recalling = self.counts, self.sharing, self.recalling
        return RowsStats(
            *(n.calls, n.plain, n.rows, n.hits, n.shared, n.computed, n.padded, n.probes),
            *(self.contexts.held, self.contexts.nbytes, recalling.on, sharing.on),
            *(sharing.saved + recalling.saved, sharing.spent + recalling.spent),
        )

    def cache_clear(self) -> None:
        """Forget every row and begin to count anew."""
        self.contexts.clear()
        self.verdicts.clear()
        self.counts.reset()
        for account in (self.sharing, self.recalling):
            account.reset()

    def forget(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
        """Forget the rows of a batch, for the function as it is now; count those that were there."""
        try:
            batch = self.wrapped.called_with(args, kwargs, self.options.dim, self.options.static)
            places = self.contexts.of(self.wrapped.key(batch, self.options.exact)).places
        except (Unfit, NoIdentityError):
            return 0
        names = self.names_of(batch)
        return sum(places.drop(name) for name in set(names))

    def names_of(self, batch: Parsed) -> list[bytes]:
        """Name the rows of a batch by what they hold."""
        return digests_of([column.data for column in batch.columns], self.wrapped.hash)


class _Call:
    """One call that is looked at by rows."""

    def __init__(
        self, rows: Rows, batch: Parsed, args: Sequence[Any], kwargs: Mapping[str, Any], account: Account
    ) -> None:
        self.rows, self.batch, self.args, self.kwargs = rows, batch, args, kwargs
        self.account = account
        self.size: int = batch.size or 0
        self.began = perf_counter()
        self.columns = [column.data for column in batch.columns]

    def share(self) -> Any:
        """Compute equal rows once."""
        if not may_be_equal(self.columns):
            return self.plain("no two rows are equal")
        names = self.rows.names_of(self.batch)
        first, group = groups_of(names)
        if len(first) == self.size:
            return self.plain("no two rows are equal")
        verdict = self.apart(lambda: self.rows.verdicts.of(self.batch))
        done = self.computed(verdict, first, share=True)
        leaves = [spread_out(leaf, torch.from_numpy(group).to(leaf.device)) for leaf in done.leaves]
        self.told(done, self.size - len(first), _BACK)
        self.receipt("share", verdict, 0, len(first), done, f"{self.size / len(first):.2f} rows a distinct one")
        return self.laid_out(verdict.frame, leaves)

    def plain(self, reason: str) -> Any:
        """Compute the batch as it is, of which it was asked in vain whether rows are equal."""
        looked = perf_counter()
        result = self.rows.f(*self.args, **self.kwargs)
        seconds = perf_counter() - looked
        self.account.computed(seconds * _BACK, self.size)
        self.account.tell(looked - self.began, seconds * _BACK, 0)
        self.rows.note(Receipt(self.size, self.size, 0, self.size, 0, 1, "plain", "bits", 0.0, reason))
        return result

    def recall(self) -> Any:
        """Compute rows that were not computed before."""
        rows = self.rows
        context = rows.contexts.of(rows.wrapped.key(self.batch, rows.options.exact))
        places = context.places
        names = rows.names_of(self.batch)
        found = places.find(names)
        if found.here.all() and places.frame is not None:
            leaves = found.gather()
            self.account.tell(perf_counter() - self.began, 0.0, self.size)
            self.receipt("recall", context.verdict, self.size, None, None, "all rows are known")
            return self.laid_out(places.frame, leaves)
        verdict = context.verdict or self.apart(lambda: context.judged(rows.verdicts, self.batch))
        if verdict.name != places.anchor:
            places.settle(verdict.name)
            found = places.find(names)
        at: Ints = (~found.here).nonzero()[0]
        first, group = groups_of([names[int(k)] for k in at])
        done = self.computed(verdict, at[first], share=False)
        places.frame = verdict.frame
        new = [names[int(k)] for k in at[first]]
        graded = any(leaf.requires_grad for leaf in done.leaves)
        taken = 0 if graded else places.put(new, done.leaves, done.seconds / len(new))
        again = places.find(names) if taken == len(new) else None
        leaves = again.gather() if again is not None and again.here.all() else None
        if leaves is None:
            leaves = assembled(found.here, found.gather(), done.leaves, group)
        self.told(done, self.size - len(first), 1)
        hits = int(found.here.sum())
        self.receipt("share" if graded else "recall", verdict, hits, len(first), done, _reason(hits, self.size))
        return self.laid_out(verdict.frame, leaves)

    def computed(self, verdict: Verdict, at: Ints, *, share: bool) -> Computed:
        """Compute some rows of the batch. Raises `Unfit`."""
        rows = self.rows
        pieces = [Piece(0, len(at), len(at))] if share else self.apart(lambda: verdict.planned(len(at)))
        run = rows.wrapped.runner(self.batch)
        try:
            return compute(run, self.batch.columns, at, pieces, verdict.frame, rows.options.dim)
        except Unfit as reason:
            rows.verdicts.refute(str(reason))
            rows.contexts.clear()
            raise
        except Exception as error:  # the plain call says what is wrong, in its own words
            raise Aside(f"computing its rows raised {type(error).__name__}") from error

    def apart(self, find_out: Callable[[], T]) -> T:
        """Find something out once and for all: that is on no account."""
        began = perf_counter()
        found = find_out()
        self.began += perf_counter() - began
        return found

    def told(self, done: Computed, spared: int, back: int) -> None:
        """Tell the account."""
        self.account.computed(done.seconds * back, self.size - spared)
        spent = perf_counter() - self.began - done.seconds
        self.account.tell(spent, done.seconds * back, spared)

    def receipt(
        self, engine: str, verdict: Verdict | None, hits: int, distinct: int | None, done: Computed | None, reason: str
    ) -> None:
        """Write the receipt."""
        count = 0 if distinct is None else distinct
        sizes = (self.size, count) if engine == "share" else (self.size,)
        error = None if verdict is None else verdict.error(*sizes)
        exact = "bits" if error == 0.0 else "rounding"
        padded, batches = (0, 0) if done is None else (done.padded, done.batches)
        of_batch = self.size if distinct is None else hits + count
        self.rows.note(Receipt(self.size, of_batch, hits, count, padded, batches, engine, exact, error, reason))

    def laid_out(self, frame: Parsed, leaves: Sequence[Tensor]) -> Any:
        """Make the result as the function has it."""
        pairs = zip(frame.columns, leaves, strict=True)
        return frame.value([column._replace(data=leaf) for column, leaf in pairs])


def _reason(hits: int, size: int) -> str:
    return f"{hits} of {size} rows are known"


def _requires_grad(data: object) -> bool:
    return isinstance(data, Tensor) and data.requires_grad


def is_traced() -> bool:
    """Tell whether a program is traced (jit, fx, torch.compile), or a transform or mode is in force."""
    tracer = sys.modules.get("torch.fx._symbolic_trace")
    tracing: bool = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    compiling = torch.compiler.is_compiling() or getattr(tracer, "_is_fx_tracing_flag", False)
    return tracing or compiling or bool(unusual())
