"""A function of one integer in front of an `Array`: the table of classical memoization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memograd._copies._keep import keep
from memograd._deep._flight import here
from memograd._far import NOBODY, Far
from memograd._key import MISSING
from memograd._verify import compare

if TYPE_CHECKING:
    from collections.abc import Callable

    from memograd._held import Held
    from memograd._key import Key
    from memograd.store import About, Array, Entry

_NEW_ARRAY = "make it with another path, or take them out: array.clear()"


class Indexed(Far):
    """The results of a function of one integer, in an `Array`: row n is f(n), without facts and without a codec.

    Within a recursion, too: a table of dynamic programming is what an array is for.
    """

    store: Array

    @property
    def serves(self) -> bool:
        """Tell whether to ask the store: always, it is as quick as a dictionary."""
        return True

    def digest(self, key: Key) -> bytes | None:
        """Give the row of a key; None for what is no row: other arguments, other code than that of the rows."""
        if len(key) != 3 or key[1] is not int or not 0 <= key[2] < self.store.shape[0]:
            return None
        if not self.store.claim(self.hash(self.subject.written(key.function))):
            self.voice.say("owner", f"{self.subject.name}(): {self.store!r} has the rows of other code; {_NEW_ARRAY}")
            return None
        return key[2].to_bytes(8, "big")

    def attempt(self, key: Key) -> tuple[Any, Held | None]:
        """Take the lease of an outermost call; within another, all of it is leased already."""
        return (MISSING, NOBODY) if here.flight is not None else super().attempt(key)

    def thawed(self, entry: Entry) -> Any:
        """Make of a row what is kept in memory."""
        return keep(self.store.value(entry.body[0]), [], copy=self.options.copy)

    def takes(self, seconds: float) -> bool:
        """Tell whether to store what took so long: whatever it took, tables are full."""
        del seconds
        return True

    def say_unkeyed(self, key: Key) -> None:
        """Say that a call is none by an index of the array."""
        self.voice.tell(
            key, f"{self.subject.name}() is remembered in memory alone: its key is no row of {self.store!r}"
        )

    def give(self, digest: bytes, data: tuple[Any, ...], about: Callable[[], About]) -> int:
        """Give a result to the array, if it would come back as it is."""
        del about  # an array keeps no facts
        form, value, *rest = data
        if form != "value" or rest:
            return 0
        try:
            row = self.store.row(value)
            # Rows have one type: 2.5 is no row of integers, and True would come back as 1.
            why = compare(value, self.store.value(row))
        except (TypeError, ValueError, OverflowError) as error:
            why = str(error)
        if why:
            self.stays(self.subject.face, f"the result is no row of {self.store!r}: {why}")
            return 0
        try:
            self.store[int.from_bytes(digest, "big")] = value
        except Exception as error:  # noqa: BLE001 - whatever a store raises costs a computation
            self.failed("put into", error)
        return 0
