"""The array of classical memoization: rows of one shape by dense integers, in one contiguous piece of memory or disk.

One row may be read and written without NumPy; many at once are read by one `take` over the mapped memory.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, SupportsIndex

from memograd.store._array._layout import Layout, described
from memograd.store._array._locks import RowLocks
from memograd.store._array._rows import Rows
from memograd.store._base import About, Buffer, Entry, Info, Lease, Store
from memograd.store._memory import refuse
from memograd.store._units import show_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Array(Store):
    """Rows of one shape, by integers from 0 on: tables of dynamic programming, features by the sample's index.

    By integers it is a mapping (`array[i]`, `i in array`, `array[i] = row`, `del array[i]`) and takes many at once
    (`rows`, `put_rows`, `present`, `delete_rows`). As a `Store` its keys are integers of 8 bytes, big-endian, and its
    bodies the bytes of rows; it keeps no facts about them, evicts nothing, and takes no entry that expires.

    Args:
        path: a folder, made where missing; None for memory that forked children share.
        shape: how many rows, and the shape of each: ``(60_000, 512)``; ``(n,)`` or n for numbers.
        dtype: "float32", or a dtype of NumPy or torch; with one of torch, rows are tensors.
        fingerprint: what the rows belong to, a dataset's or a model's; a folder of another is refused.
        readonly: it takes nothing.

    Example:
        >>> array = Array(None, shape=10, dtype="int64")
        >>> array[3] = 42
        >>> array[3], 3 in array, 4 in array, list(array)
        (42, True, False, [3])
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        shape: int | tuple[int, ...],
        dtype: Any = "float32",
        fingerprint: str = "",
        readonly: bool = False,
    ) -> None:
        self.layout: Layout = described(shape, dtype, fingerprint)
        self.readonly = readonly
        self.lasting = path is not None
        self._rows = Rows(self.layout, path, readonly=readonly)
        self._locks = RowLocks(self._rows.place.lock_file)

    @property
    def shape(self) -> tuple[int, ...]:
        """How many rows, and the shape of each."""
        return (self.layout.count, *self.layout.row)

    # One row.

    def __getitem__(self, index: SupportsIndex) -> Any:
        at = operator.index(index)
        row = self._rows.read(at)
        if row is None:
            raise KeyError(at)
        return self._value(row)

    def __setitem__(self, index: SupportsIndex, row: Any) -> None:
        at = operator.index(index)
        if not self._rows.within(at):
            raise IndexError(
                f"{self!r} got row {at}, expected 0 to {self.layout.count - 1}; make it with a larger shape"
            )
        if not self.readonly:
            self._rows.write(at, self._bytes(row))

    def __delitem__(self, index: SupportsIndex) -> None:
        at = operator.index(index)
        if not self._rows.remove(at):
            raise KeyError(at)

    def __contains__(self, index: object) -> bool:
        return isinstance(index, SupportsIndex) and self._rows.read(operator.index(index)) is not None

    def __iter__(self) -> Iterator[int]:
        return (at for at, mark in enumerate(self._rows.place.marks) if mark)

    def __len__(self) -> int:
        return self.layout.count - self._rows.place.marks.tolist().count(0)

    def __bool__(self) -> bool:
        return True

    # Many rows.

    def rows(self, indices: Any) -> Any:
        """Give rows as one array of NumPy, or one tensor where the dtype is torch's.

        Args:
            indices: integers: a sequence, an array or a tensor of any shape, which the result begins with.

        Raises:
            KeyError: some are not there; it has the first of them.
            IndexError: some are below 0 or above the last.
        """
        if self.layout.torch:
            from memograd.store._array import _torch

            return _torch.gather(self._rows, indices)
        from memograd.store._array import _numpy

        return _numpy.gather(self._rows, indices)

    def put_rows(self, indices: Any, rows: Any) -> int:
        """Put rows: one array, tensor or sequence of them, as long as `indices`; count those that were taken."""
        if self.readonly:
            return 0
        from memograd.store._array import _numpy

        return _numpy.scatter(self._rows, indices, rows)

    def put_marked(self, indices: Any, rows: Any) -> Any:
        """Put rows as `put_rows` does; give the marks that they have now, whatever others put there meanwhile."""
        from memograd.store._array import _numpy

        if self.readonly:
            raise ValueError(f"{self!r} is readonly and takes nothing")
        return _numpy.scatter_marked(self._rows, indices, rows)

    def marks(self, indices: Any) -> Any:
        """Give the mark of each row, a checksum of it and its place, as uint64; 0 for one that is not there.

        Two rows of equal marks hold the same: who notes beside a row what it was made of notes its mark, too.
        """
        from memograd.store._array import _numpy

        return _numpy.marks(self._rows, indices)

    def present(self, indices: Any = None) -> Any:
        """Tell for each index whether its row is there, as an array of bools; for every row where none are given."""
        from memograd.store._array import _numpy

        return _numpy.present(self._rows, indices)

    def delete_rows(self, indices: Any) -> int:
        """Take rows out; count those that were there."""
        return sum(self._rows.remove(int(at)) for at in indices)

    def flush(self) -> None:
        """Wait until what was put is on the disk: rows first, then their marks."""
        self._rows.place.flush()

    def claim(self, owner: bytes) -> bool:
        """Say what computes the rows, unless that was said before; tell whether this does.

        Rows say nothing of the code that they come from: those of another are none of this one's.
        """
        return self._rows.place.claim(owner)

    # As a store.

    def get(self, key: bytes) -> Entry | None:
        """Give the row of a key, None if there is none."""
        row = self._rows.read(self._index(key))
        return None if row is None else Entry(About(), [row])

    def value(self, row: Buffer) -> Any:
        """Make a value of the bytes of a row."""
        return self._value(bytes(row))

    def row(self, value: Any) -> bytes:
        """Make the bytes of a row of a value. Raises what says that it cannot be one."""
        return self._bytes(value)

    def put(self, key: bytes, entry: Entry) -> bool:
        """Put a row in the place of any other of its key; tell whether it was taken."""
        at = self._index(key)
        if self.readonly or not self._rows.within(at):
            return refuse(key, f"an array takes the keys of {self.layout.count:,} integers, 8 bytes each, big-endian")
        if entry.nbytes != self.layout.nbytes:
            return refuse(key, f"the row has {entry.nbytes:,} bytes, the array's have {self.layout.nbytes:,}")
        if entry.about.expires is not None:
            return refuse(key, "an array keeps no facts, so nothing in it can expire")
        self._rows.write(at, b"".join(entry.body))
        return True

    def delete(self, key: bytes) -> bool:
        """Take a row out; tell whether there was one."""
        return self._rows.remove(self._index(key))

    def contains(self, key: bytes) -> bool:
        """Tell whether there is a row."""
        return self._rows.read(self._index(key)) is not None

    def infos(self) -> Iterator[Info]:
        """Go through the rows that are there."""
        return (Info(at.to_bytes(8, "big"), About(), self.layout.nbytes) for at in self)

    def count(self) -> int:
        """Count the rows that are there."""
        return len(self)

    @property
    def nbytes(self) -> int:
        """Count the bytes of the rows that are there."""
        return len(self) * self.layout.nbytes

    def lease(self, key: bytes) -> Lease | None:
        """Take the right to compute a row; None while another thread or process of this host has it."""
        return self._locks.take(key, self._index(key))

    def pin(self, key: bytes, *, pinned: bool = True) -> bool:
        """Tell whether there is a row; none is ever evicted."""
        del pinned
        return not self.readonly and self.contains(key)

    def clear(self) -> int:
        """Take every row out; count them. Whoever computes rows next owns the array."""
        if self.readonly:
            return 0
        count = self.delete_rows(list(self))
        self._rows.place.disown()
        return count

    def close(self) -> None:
        """Give back the lock's file; rows remain mapped while there is someone to ask for them."""
        self._locks.close()

    def __repr__(self) -> str:
        return f"<Array: {self.layout.count:,} rows of {self.layout.name}, {show_bytes(self.layout.nbytes)} each>"

    def _index(self, key: bytes) -> int:
        return int.from_bytes(key, "big") if len(key) == 8 else -1

    def _value(self, row: bytes) -> Any:
        if self.layout.torch:
            from memograd.store._array import _torch

            return _torch.from_bytes(self._rows, row)
        if not self.layout.row and self.layout.code:
            return self.layout.unpack(row)
        from memograd.store._array import _numpy

        return _numpy.from_bytes(self._rows, row)

    def _bytes(self, row: Any) -> bytes:
        if not self.layout.row and self.layout.code and type(row) in {int, float, bool}:
            return self.layout.pack(row)
        from memograd.store._array import _numpy

        return _numpy.to_bytes(self._rows, row)
