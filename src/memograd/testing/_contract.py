"""What every store does, as tests."""

from __future__ import annotations

from memograd.testing._entries import Entries
from memograd.testing._facts import Facts
from memograd.testing._leases import Leases


class StoreContract(Entries, Facts, Leases):
    """What every `Store` does, as tests: subclass it in a test module and say how a store is made.

    Attributes and methods to say more of a store are those of `Made`.

    Example:
        >>> from memograd.store import Memory
        >>> class TestMine(StoreContract):
        ...     def make(self):
        ...         return Memory("1GiB")
        >>> names = StoreContract.run(lambda: Memory("1GiB"))       # the same by hand
    """
