"""What the tests of a store are given: the store, as its author makes it, and keys and entries to put into it."""

from __future__ import annotations

import time
from hashlib import blake2b
from typing import TYPE_CHECKING, final

from memograd.store._base import About, Entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from memograd.store._base import Store


class Made:
    """A store to be tested: how it is made, and what may be put into it.

    A test that does not concern a store, by the attributes below, returns at once.

    Attributes:
        keeps: False for a store in which nothing that was put is found again.
        keeps_about: False for a store that keeps bodies alone, without facts about them.
        fixed_nbytes: what every body must have, in a store whose places are of one size.
        integer_keys: True for a store whose keys are 8-byte big-endian integers from 0 on.
        largest: the largest body that is tried.
    """

    keeps: bool = True
    keeps_about: bool = True
    fixed_nbytes: int | None = None
    integer_keys: bool = False
    largest: int = 5_000_000

    # What a subclass says.

    def make(self) -> Store:
        """Make a new, empty store with room for at least ten of the largest body."""
        raise TypeError(f"{type(self).__name__} got no store, expected one; write def make(self): return MyStore()")

    def second(self, store: Store, *, readonly: bool = False) -> Store | None:
        """Open the place of a store once more, as another process would; None where that is not possible."""
        del store, readonly
        return None

    @final
    @classmethod
    def run(cls, make: Callable[[], Store] | None = None) -> list[str]:
        """Run all tests by hand; give their names.

        Args:
            make: makes a new, empty store; left out, the class's own `make` does.

        Raises:
            AssertionError: some failed; the message has them all.
        """
        names = [name for name in dir(cls) if name.startswith("test_")]
        failed: list[str] = []
        for name in names:
            contract = cls()
            if make is not None:
                contract.make = make
            try:
                getattr(contract, name)()
            except Exception as error:  # noqa: BLE001 - a store may raise anything, and the rest is of interest, too
                failed.append(f"{name}: {type(error).__name__}: {error}")
        if failed:
            raise AssertionError(f"{len(failed)} of {len(names)} failed\n" + "\n".join(failed))
        return names

    def key(self, n: int) -> bytes:
        """Give the key of a number."""
        return n.to_bytes(8, "big") if self.integer_keys else blake2b(b"%d" % n, digest_size=16).digest()

    def body(self, n: int, nbytes: int = 100) -> bytes:
        """Give bytes that belong to a number and look like no others."""
        nbytes = self.fixed_nbytes if self.fixed_nbytes is not None else nbytes
        blocks = (blake2b(b"%d,%d" % (n, at)).digest() for at in range(-(-nbytes // 64)))
        return b"".join(blocks)[:nbytes]

    def entry(self, n: int, nbytes: int = 100, about: About | None = None) -> Entry:
        """Give an entry that belongs to a number."""
        return Entry(
            about or About(function="f", text=f"f({n})", seconds=1.0, created=time.time()), [self.body(n, nbytes)]
        )
