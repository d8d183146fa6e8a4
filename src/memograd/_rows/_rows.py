"""`memo.rows(f)`: equal rows of a batch are computed once, and rows that were computed before are not.

Duplicates within a batch are shared, forward and backward (RecD, Zhao et al. 2022); the rows of a function that nothing
goes back to are recalled across calls (AutoFreeze, Liu et al. 2021). That f is a function of each row by itself is
found by trying it (`_probe`), and rows are computed in sizes of batches that give them the same bits (`_classes`).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from memograd._ambient._streams import read_generators
from memograd._ambient._torch import unusual
from memograd._errors import NoIdentityError
from memograd._rows._account import Account
from memograd._rows._call import Call
from memograd._rows._contexts import Contexts
from memograd._rows._counts import Counts
from memograd._rows._probe import watched
from memograd._rows._receipt import Receipt, RowsStats
from memograd._rows._structure import Answered, Aside, Unfit
from memograd._rows._subject import Wrapped
from memograd._rows._verdicts import Verdicts
from memograd._share._rows import digests_of
from memograd._share._shared import Shared

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from memograd._key import Key
    from memograd._rows._seam import Places
    from memograd._rows._structure import Parsed
    from memograd._rows._table import Table


class RowsOptions(NamedTuple):
    """How the rows of a function are remembered; `Memo.rows` says what each is."""

    dim: int = 0
    static: tuple[object, ...] = ()
    exact: str = "bits"
    always: bool = False
    patient: bool = False
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
        self._firsts: dict[object, str] = {}
        self.sharing = Account(always=options.always)
        self.recalling = Account(always=options.always, patient=options.patient)
        self.verdicts = Verdicts(self.wrapped, options.dim, options.exact)
        self.contexts = Contexts(self.wrapped, options.max_bytes, behind)

    def answer(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Answer a call: give what the function gives."""
        if is_traced():
            return self.f(*args, **kwargs)
        if len(args) == 1 and isinstance(args[0], Shared):
            return self._of_shared(args[0], kwargs)
        try:
            return self.by_rows(args, kwargs)
        except Unfit as reason:
            return self._plainly(args, kwargs, reason)
        except NoIdentityError as error:
            if self.options.strict:
                raise
            return self._plainly(args, kwargs, error)

    def remember(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Receipt | None:
        """Compute and keep the rows of a batch that are not there, whether that pays or not; tell what was done."""
        before, self.recalling.always = self.recalling.always, True
        try:
            self.answer(args, kwargs)
        finally:
            self.recalling.always = before
        return self.receipt

    def all(self) -> list[Rows]:
        """List what remembers rows."""
        return [self]

    def by_rows(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Answer a call by its rows. Raises `Unfit` and `NoIdentityError` where it is to be made plainly."""
        graded = self.wrapped.is_graded
        account = self.sharing if graded else self.recalling
        if account.skips():
            raise Aside("it does not pay: finding rows took longer than computing them")
        if reason := self.wrapped.why_not():
            raise Unfit(reason)
        batch = self.wrapped.called_with(args, kwargs, self.options.dim, self.options.static)
        if not batch.size:
            raise Aside("there are no rows")
        if read_generators([value for _, value in batch.constants]):
            raise Unfit("it is given a generator, from which it may draw")
        if torch.is_grad_enabled() and any(_requires_grad(column.data) for column in batch.columns):
            raise Unfit("its rows require grad: each has a gradient of its own, even where rows are equal")
        self._check_first(batch, args, kwargs)
        call = Call(self, batch, args, kwargs, account)
        return call.share() if graded else call.recall()

    def _check_first(self, batch: Parsed, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Make the first call plainly where it may do something besides, to see what: no trial is to do that again."""
        version = self.wrapped.first()
        if version is None or self._firsts.get(version) == "":
            return
        if version in self._firsts:
            raise Unfit(self._firsts[version])
        result, reason = watched(lambda: self.f(*args, **kwargs), batch.columns, self.wrapped.state)
        self._firsts[version] = reason
        if reason:
            raise Answered(result, reason)

    def _plainly(self, args: Sequence[Any], kwargs: Mapping[str, Any], why: Exception) -> Any:
        reason = str(why)
        self.note(Receipt(0, 0, 0, 0, 0, 1, "plain", "bits", 0.0, reason))
        said = f"{self.name}(): {reason}. The batch is computed plainly"
        if isinstance(why, Aside):
            self.voice.tell(self.wrapped.subject.face, said)
        else:
            self.voice.refuse(self.wrapped.subject.face, said, once=reason.split(", by ", maxsplit=1)[0])
        return why.result if isinstance(why, Answered) else self.f(*args, **kwargs)

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
            *(n.calls, n.plain, n.rows, n.hits, n.shared, n.computed, n.padded, self.verdicts.runs),
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


def _requires_grad(data: object) -> bool:
    return isinstance(data, Tensor) and data.requires_grad


def is_traced() -> bool:
    """Tell whether a program is traced (jit, fx, torch.compile), or a transform or mode is in force."""
    tracer = sys.modules.get("torch.fx._symbolic_trace")
    tracing: bool = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    compiling = torch.compiler.is_compiling() or getattr(tracer, "_is_fx_tracing_flag", False)
    return tracing or compiling or bool(unusual())
