"""What was found out of a function, for each of its states but for the numbers in its weights."""

from __future__ import annotations

from collections import OrderedDict
from threading import RLock
from typing import TYPE_CHECKING

from memograd._errors import NoIdentityError
from memograd._rows._copies import GATES, copied
from memograd._rows._probe import CHANGES, Verdict
from memograd._rows._structure import Aside, Unfit

if TYPE_CHECKING:
    from memograd._rows._structure import Parsed
    from memograd._rows._subject import Wrapped

_MOST = 256


class Verdicts:
    """Tries a function once for each state, and remembers what was found."""

    def __init__(self, wrapped: Wrapped, dim: int, exact: str) -> None:
        self._wrapped = wrapped
        self._dim, self._exact = dim, exact
        self._lock = RLock()
        self._restless: set[object] = set()
        self._known: OrderedDict[object, Verdict | Aside | str] = OrderedDict()

    def of(self, batch: Parsed, anchor: int | None = None, state: object = None) -> Verdict:
        """Give what is known of calls like this one. Raises `Unfit` for what is no function of the row.

        Args:
            batch: what the function is called with.
            anchor: of the class of sizes that rows are to be computed in; None for any.
            state: of a function that cannot be copied with all its weights, what it is to the last number; None where
                that changes in every step.
        """
        if self._wrapped.code() in self._restless:
            raise Unfit(CHANGES)
        signature = self._wrapped.signature(batch, self._exact), anchor, self._wrapped.is_whole or state
        if not signature[2]:
            raise Unfit("it reaches weights that cannot be copied to be tried; wrap the module that has them")
        with self._lock:
            found = self._known.get(signature)
            if found is None:
                found = self._known[signature] = self._tried(batch, anchor or None)
                while len(self._known) > _MOST:
                    self._known.popitem(last=False)
        if isinstance(found, Verdict):
            return found
        raise Aside(*found.args) if isinstance(found, Aside) else Unfit(found)

    @property
    def runs(self) -> int:
        """Count the calls in which something was found out."""
        with self._lock:
            return sum(found.runs for found in self._known.values() if isinstance(found, Verdict))

    def expected(self, batch: Parsed) -> int:
        """Give the name of the class of sizes that rows are to be computed in, before anything is tried."""
        return 0 if self._rounds(batch) else self._wrapped.anchor(batch)

    def _rounds(self, batch: Parsed) -> bool:
        """Tell whether a row's bits may be others in other batches."""
        # Texts are padded to the longest of a batch, within the function: a trial that saw no other bits, nor two
        # lengths for which there are others, proves nothing.
        return self._exact == "rounding" or any(isinstance(column.data, list) for column in batch.columns)

    def refute(self, reason: str) -> None:
        """Note that the function is not what it was found to be, whatever its state."""
        with self._lock:
            for signature in self._known:
                self._known[signature] = reason

    def clear(self) -> None:
        """Forget all of it."""
        with self._lock:
            self._known.clear()
            self._restless.clear()

    def _tried(self, batch: Parsed, anchor: int | None) -> Verdict | Aside | str:
        anchor = anchor or self._wrapped.anchor(batch)
        wrapped, bare = self._wrapped, batch._replace(columns=[])
        try:
            copy = copied(wrapped.f) if wrapped.is_whole else None
            tried = None if copy is None else copy.f
            wrapped.state(tried)  # a look at a copy may itself leave something there, once
            before = wrapped.state(tried)
            rounding = self._rounds(batch)
            verdict = Verdict(wrapped.runner(bare, tried), batch.columns, self._dim, anchor=anchor, rounding=rounding)
            if wrapped.state(tried) != before:
                self._restless.add(wrapped.code())  # its state is another in each call
                return CHANGES
            for number in GATES:
                if copy is not None and copy.set_gates(number):
                    verdict.stands_with_other_weights()
        except Unfit as reason:
            return str(reason)
        except NoIdentityError:
            raise
        except Exception as error:  # noqa: BLE001 - what a trial raises, the user's call may not
            return Aside(f"it cannot be tried in batches of other sizes: {type(error).__name__}: {error}")
        finally:
            wrapped.let_go()
        verdict.goes_on_with(wrapped.runner(bare))
        return verdict
